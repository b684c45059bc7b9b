// Learner: one event in, the rows it touches changed. Lock-free stochastic gradient descent (Hogwild, Niu et al. 2011).
//
// An event's step: compose the user's vector x, draw negatives, score the candidates, take the slopes of the objective,
// and move
//   each candidate  q_j -= rate_j * slope_j * x + rate * l2 * q_j    (its bias alike, with 1 for x)
//   the user        p_u -= rate_u * g + rate * l2 * p_u              with g = sum_j slope_j q_j
//   the history     q_h -= rate_h * weight_h * g                     (x depends on these rows too)
//   what weighs it  w_h -= rate_w * <g, q_h>, and the offsets of its items (context_weights.hpp)
// all gradients taken at the rows as they were (but an item drawn twice enters g the second time as the first left it).
// Row-wise Adagrad (Duchi et al. 2011, one accumulator a row): the accumulator adds the mean square of the row's
// gradient, and rate_j = rate / sqrt(accumulator + 1e-8). The l2 term goes at the plain rate (decoupled weight decay,
// Loshchilov and Hutter 2019): scaled by Adagrad, it would fling a row whose first gradients are tiny.
//
// Rows of halves are stepped in floats and rounded back at random (RowTable::modify).
//
// Thread safety: `learn` from any number of threads, each under a writer pin.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "learner/model.hpp"
#include "learner/sampler.hpp"
#include "learner/settings.hpp"

namespace recengine {

struct Event {
  Row user;
  Row item;
  float value;             // rating, label, or any number: positive for an item that was chosen, negative for a dislike
  float weight;            // scales the step; 0 observes without learning
  double timestamp;        // seconds
  std::uint64_t sequence;  // position in the engine's stream: decides what is drawn
};

class Learner {
 public:
  Learner(Model& model, const Settings& settings);

  void learn(const Event& event);
  // `learn` of each in turn, with the memory of several under way at once.
  void learn_run(std::span<const Event> events);
  // The same of an event that `is_dislike`.
  void dislike(const Event& event);
  // Only what the user did is remembered, with the user: no row moves, nothing is counted.
  void record(const Event& event);
  // Softmax and bpr: a negative value. The item shall rank below others, and enters the history as what it is.
  bool is_dislike(const Event& event) const { return event.value < 0 && ranks(); }
  // Adds learned events to the popularity. Apart from `learn`, which does not look at popularity, so that a batch does
  // it for a block at once.
  void count(std::span<const Event> events);
  float learning_rate() const { return learning_rate_.load(std::memory_order_relaxed); }
  void set_learning_rate(float rate) { learning_rate_.store(rate, std::memory_order_relaxed); }

  // Whether the objective can learn from a value; check_value throws std::invalid_argument where it cannot.
  bool takes(float value) const;
  void check_value(float value) const;

  // score + b_u + b: what the sigmoid is taken of (logistic), or the rating (squared).
  float full_score(float score, Row user) const;

 private:
  struct Moves;
  struct Scratch;
  static Scratch& scratch();
  static std::vector<Row>& written();  // by this thread, not marked yet

  // bpr with one negative and no history, the plain case, without the detour over a list of candidates:
  // learner_run.cpp.
  struct Pair;
  struct PairGroup;
  bool learns_pairs() const {
    return settings_.storage == Storage::kFp32 && settings_.objective == Objective::kBpr && settings_.negatives == 1 &&
           settings_.history == 0 && settings_.user_model == UserModel::kLearned && !settings_.ranks();
  }
  bool ranks() const { return settings_.objective == Objective::kSoftmax || settings_.objective == Objective::kBpr; }
  void prepare_pair(const Event& event, Pair& pair) const;
  void prefetch_pair(const Event& event, const Pair& pair) const;
  void learn_pair(const Event& event, Pair& pair, PairGroup& group);
  void learn_group(PairGroup& group);

  void learn_candidates(const Event& event);
  void prefetch(const Event& event) const;
  void prefetch_neighbors(const Event& event) const;
  std::size_t draw_candidates(const Event& event, Scratch& work) const;
  void take_slopes(const Event& event, Scratch& work, std::size_t count) const;
  void choice_slopes(const Event& event, Scratch& work, std::size_t count) const;
  void apply(const Event& event, Scratch& work, std::size_t count, float user_bias_slope);
  void adapt(Moves& moves, float rate, float mean_square, bool biases) const;
  void step_rows(EmbeddingTable& table, Scratch& work, const float* x, float* gradient, float decay, std::uint64_t seed,
                 bool measured);
  void step_items(Scratch& work, const float* x, float* gradient, float decay, std::uint64_t seed, bool biases);
  void learn_context(const Event& event, Scratch& work);
  void learn_biases(const Event& event, float slope);
  void learn_global(const Event& event, float slope);
  void observe(const Event& event);
  // The user's last items that are there still, as many as an event is counted with.
  std::span<const Row> last_items(const Event& event) const;
  // Marks the items whose rows or biases were written since the last call on this thread, for what is derived from
  // them.
  void mark_written();
  // Marks them also where memory ran out in the middle: no row has moved unnoticed.
  class Marking {
   public:
    explicit Marking(Learner& learner) : learner_(learner) {}
    ~Marking() {
      if (!written().empty()) learner_.mark_written();
    }
    Marking(const Marking&) = delete;
    Marking& operator=(const Marking&) = delete;

   private:
    Learner& learner_;
  };
  bool is_choice(const Event& event) const;

  // What the rounding of rows of halves draws for this event.
  std::uint64_t rounding_seed(std::uint64_t sequence) const;
  float rate_now(std::uint64_t sequence) const;
  // The rate of a row whose gradient has this mean square; updates its accumulator.
  float row_rate(float rate, float* accumulator, float mean_square) const;
  // value -= clip(own_rate * slope + decay * value)
  void step_scalar(float* value, float own_rate, float slope, float decay) const;

  Model& model_;
  const Settings settings_;
  const Sampler sampler_;
  std::atomic<float> learning_rate_;
};

}  // namespace recengine
