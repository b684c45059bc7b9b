// Softmax over the catalogue, trained offline in epochs of batches of users. The score of item i for user u is
//   s_ui = <x_u, q_i> / (|x_u| |q_i| temperature) + popularity * log n_i,
//   x_u = p_u + history_weight * mean of q_j / |q_j| over u's items j,
// and minimised is sum over users of n_u^(e - 1) sum over u's items i of -log(exp s_ui / sum_j exp s_uj). The bias of
// an item with n_i pairs is given, not learned: rows need not turn towards what everybody takes, and keep their
// directions for taste (logit adjustment: Menon et al. 2021, "Long-tail learning via logit adjustment").
//
// Bounded scores (cosines over a temperature) are what sampled softmax needs to work well for matrix factorisation (Wu
// et al. 2022, "On the effectiveness of sampled softmax loss for item recommendation"); the mean of a user's items is
// the user of SimpleX (Mao et al. 2021) and of FISM (Kabbur et al. 2013). All pairs of a user have one x_u, so that the
// sum over j is formed once a user, not once a pair; it runs over `negatives` items drawn for the whole batch, without
// replacement, and scaled up. Steps by Adam (Kingma and Ba 2015), for the rows that a batch touches; the rate falls
// linearly to zero over the planned epochs.
//
// Thread safety: one thread at a time, which takes others to help.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "learner/interactions.hpp"
#include "storage/aligned.hpp"

namespace recengine {

struct SoftmaxFitSettings {
  float temperature = 0.11f;
  float history_weight = 1.0f;
  float user_exponent = 1.0f;  // e: 1 counts every pair alike, 0 every user
  float learning_rate = 0.01f;
  float user_rate = 0.25f;  // of the users' own rows, in learning rates: slow ones leave more to the items
  float popularity = 0.7f;  // of the bias
  std::uint32_t negatives = 8192;
  std::uint32_t batch = 512;  // users
  std::uint32_t epochs = 50;  // over which the learning rate falls to zero
  std::uint64_t seed = 0;

  // Throws std::invalid_argument naming the first value that is out of range.
  void validate() const;
};

class SoftmaxFit {
 public:
  // Starts from these items; with a history weight users start at their items' mean, otherwise from these rows, where
  // they are not zero. Rows are (count, stride), with zero padding.
  SoftmaxFit(const Interactions& by_user, const SoftmaxFitSettings& settings, const AlignedFloats& users,
             const AlignedFloats& items);

  // False if an interrupt stopped it, between two batches.
  bool run_epoch(std::size_t threads);

  // The rows as they are now, such that <x_u, q_i> is s_ui without the bias.
  void write_rows(AlignedFloats& users, AlignedFloats& items) const;
  // Of the items.
  const std::vector<float>& biases() const { return biases_; }

 private:
  // Rows with Adam's moments and how often each was moved.
  struct Parameters {
    Parameters(const AlignedFloats& start, std::size_t count)
        : rows(start), first(start.size(), 0.0f), second(start.size(), 0.0f), steps(count, 0) {}
    void step(std::size_t row, const float* gradient, std::size_t n, float rate);

    AlignedFloats rows, first, second;
    std::vector<std::uint32_t> steps;
  };
  struct Batch;
  struct Scratch;

  void prepare(Batch& batch, std::size_t threads);
  void learn_users(Batch& batch, std::size_t first, std::size_t size, Scratch& scratch);
  void learn_item(const Batch& batch, std::size_t number, AlignedFloats& gradient);
  void measure_item(std::size_t item);
  void add_mean(std::size_t user, float scale, float* x) const;  // of the user's items, at length one

  const Interactions& by_user_;
  const SoftmaxFitSettings settings_;
  const std::size_t n_;  // the stride
  Parameters users_, items_;
  std::vector<float> inverse_norms_, biases_;  // of items
  std::vector<std::uint32_t> deck_;            // all items, shuffled: negatives are dealt from it
  std::size_t dealt_ = 0;
  std::uint64_t epoch_ = 0, shuffles_ = 0;
  float mean_weight_ = 1;  // of a pair
};

}  // namespace recengine
