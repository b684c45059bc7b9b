// Ranker: orders the few hundred candidates of a query by more than the inner product, and learns how from the stream.
//
// Candidates come from retrieval (the embedding's best), from the neighbours of the user's last items, from the user's
// own items and from what is popular. Each has its signals (signals.hpp); its score is their weighted sum
// (linear_weights.hpp), to which the kind "mlp" adds what a small neural network makes of them (network.hpp).
//
// Learning: some events are first a query. Their item shall rank above the other candidates of that query: softmax over
// them, -log(exp(s_i) / sum_j exp(s_j)), one step of Adagrad. Which events is a function of the seed, the event's
// number and whether its session has begun before: of those that open one, more. Where the item is not among the
// candidates nothing is learned.
//
// Thread safety: every method from any thread; queries under any pin, `learn` under a writer's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "learner/learner.hpp"
#include "learner/model.hpp"
#include "learner/sampler.hpp"
#include "learner/settings.hpp"
#include "ranker/evidence.hpp"
#include "ranker/item_features.hpp"
#include "ranker/linear_weights.hpp"
#include "ranker/network.hpp"
#include "ranker/signal_matrix.hpp"

namespace recengine {

class Ranker {
 public:
  // Of the embedding's best that become candidates; more if more results are asked for.
  static constexpr std::size_t kRetrieved = 32;

  Ranker(Model& model, const Settings& settings);

  bool on() const { return settings_.ranks(); }

  // --- queries
  class Query;

  // --- learning. REQUIRES: on().
  // Whether the event is to be learned from. With events of this user still to be learned it may say so too often,
  // never too rarely.
  bool is_due(const Event& event) const;
  // Before the event itself is learned.
  void learn(const Event& event);

  // Signals and the item features behind them.
  std::size_t num_signals() const { return weights.signals(); }
  std::string signal_name(std::size_t signal) const {
    return signal < kSignals ? kSignalNames[signal] : settings_.item_features[signal - kSignals];
  }

  ItemFeatures features;
  LinearWeights weights;
  std::optional<Network> network;  // of the kind "mlp"

 private:
  struct Scratch {
    std::vector<OwnEntry> entries;
    std::vector<HistoryEntry> items;
    std::vector<float> times;
    Evidence evidence;
    SignalMatrix signals;
    AlignedFloats weights, scores;
    Network::Work network;
    // of a lesson
    AlignedFloats slopes;
    std::vector<Row> rows, drawn;
    std::vector<float> corrections, drawn_corrections, gradient;
  };
  static std::vector<std::unique_ptr<Scratch>>& pool();

  bool gather_candidates(const Event& event, const QueryVector& query, Scratch& work) const;
  void add_retrieved(const Event& event, const QueryVector& query, Scratch& work) const;

  Model& model_;
  const Settings settings_;
  const Sampler sampler_;
};

// One query's candidates and scores. It takes scratch memory of the thread's and gives it back at the end: a signal
// handler that asks for a ranking in the middle of another finds none, or some that nobody uses.
class Ranker::Query {
 public:
  // Of a user, or of a session that goes on, newest last. `context` is added to the weights of the item features;
  // empty: nothing is.
  Query(const Ranker& ranker, const QueryVector& query, Row user, double now, std::span<const float> context);
  Query(const Ranker& ranker, const QueryVector& query, std::span<const Row> session, double now,
        std::span<const float> context);
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // The candidates that are not retrieved and that `admits(row)`: the user's own first, then the neighbours.
  template <class Admits>
  const std::vector<Row>& choose(Admits admits) {
    return work_->evidence.choose(admits);
  }
  std::size_t num_own() const;       // of them
  bool is_candidate(Row row) const;  // one of them
  template <class Visit>
  void for_each_popular(Visit visit) const {
    ranker_.model_.demand->popular.for_each(visit);
  }

  bool in_session() const;
  Row last_item() const;  // kNoRow: there is none
  // The scores of items, each a function of the user and the item alone.
  void score(std::span<const Row> rows, float* out);
  // Of the last 256 of them.
  float signal(std::size_t signal, std::size_t candidate) const { return work_->signals.at(signal, candidate); }
  float weight(std::size_t signal) const { return work_->weights[signal]; }
  float network(std::size_t candidate) const { return work_->network.output[candidate]; }

 private:
  friend class Ranker;
  // Signals and scores of these items, in the scratch memory.
  void weigh(std::span<const Row> rows);

  const Ranker& ranker_;
  const QueryVector& query_;
  const double now_;
  const std::span<const float> context_;
  std::unique_ptr<Scratch> work_;
};

}  // namespace recengine
