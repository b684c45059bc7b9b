// Network: a small neural network over the signals of a candidate, whose output is added to the linear score.
//
//   inputs z     the signals, sixteen sums of products of the user's vector and the item's row (coordinate d goes into
//                sum d mod 16), whether a session goes on, and 1
//   output       w . max(W z, 0), with 64 hidden units
// Inputs are clamped to +-kMostInput. W is drawn from the seed, w starts at zero, so that in the beginning the network
// changes nothing. Learned by Adagrad, a sum for each parameter, along the same slopes as the linear weights.
//
// Thread safety: all methods; parameters are read and written without locks, through the kernels of live rows.
// `restore` and `parameters` need writers paused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "learner/model.hpp"
#include "ranker/signal_matrix.hpp"
#include "storage/aligned.hpp"

namespace recengine {

class Network {
 public:
  static constexpr std::size_t kHidden = 64;
  static constexpr std::size_t kProducts = 16;
  static constexpr float kMostInput = 100;
  static constexpr float kRate = 0.02f;
  static constexpr float kForget = 1e-5f;  // of Adagrad's sums at each step
  static constexpr float kMostWeight = 16;

  // The memory of one call.
  struct Work {
    AlignedFloats inputs, hidden, output, weights, sums, row, slopes, gradient;
  };

  Network(std::size_t signals, std::uint64_t seed);

  // Adds the output for each candidate of `signals`, whose rows these are, to scores (stride floats).
  void add(const Model& model, const QueryVector& query, const SignalMatrix& signals, std::span<const Row> rows,
           bool in_session, Work& work, float* scores) const;

  // One step, after `add` on the same work. slopes: d(loss) / d(score), zero beyond the candidates.
  void step(const float* slopes, Work& work);

  // For saving and loading: W row by row, then w; values, or sums.
  std::size_t num_parameters() const { return kHidden * (inputs_ + 1); }
  std::vector<float> values() const { return collect(weights_); }
  std::vector<float> sums() const { return collect(sums_); }
  void restore(std::span<const float> values, std::span<const float> sums);

 private:
  std::vector<float> collect(const AlignedFloats& from) const;
  void scatter(std::span<const float> values, AlignedFloats& to) const;
  const float* output_row(const AlignedFloats& table) const { return table.data() + kHidden * stride_; }
  void fill_inputs(const Model& model, const QueryVector& query, const SignalMatrix& signals, std::span<const Row> rows,
                   bool in_session, Work& work) const;
  void step_row(std::size_t row, std::size_t size, const float* gradient, Work& work);

  const std::size_t signals_, inputs_, stride_;
  AlignedFloats weights_, sums_;  // live: kHidden rows of `stride_`, then one of kHidden
};

}  // namespace recengine
