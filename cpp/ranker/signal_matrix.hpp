// SignalMatrix: the signals of some candidates, one row a signal, so that weighing them all is a product of matrices
// and logarithms are taken many at once.
//
// Thread safety: an object is one thread's, its memory is kept from call to call. `fill` under any pin.
#pragma once

#include <cstddef>
#include <span>

#include "learner/model.hpp"
#include "ranker/evidence.hpp"
#include "ranker/item_features.hpp"
#include "ranker/signals.hpp"
#include "storage/aligned.hpp"

namespace recengine {

class SignalMatrix {
 public:
  // Inner products beyond this count as this: whatever the weights, scores stay finite.
  static constexpr float kMostScore = 1e30f;

  // The signals of these items (distinct or not, live or just removed) for the user that query and evidence are of.
  void fill(const Model& model, const ItemFeatures& features, const QueryVector& query, const Evidence& evidence,
            std::span<const Row> rows, double now);

  std::size_t size() const { return size_; }
  std::size_t count() const { return count_; }    // kSignals and the item features behind them
  std::size_t stride() const { return stride_; }  // size(), padded; what is beyond is finite
  const float* row(std::size_t signal) const { return values_.data() + signal * stride_; }
  float at(std::size_t signal, std::size_t candidate) const { return row(signal)[candidate]; }

 private:
  float* mutable_row(std::size_t signal) { return values_.data() + signal * stride_; }

  std::size_t size_ = 0, stride_ = 0, count_ = kSignals;
  AlignedFloats values_;
};

}  // namespace recengine
