// Mixture: the weights of several predictors of the next choice, learned as the mixture of maximum likelihood by one
// step of expectation-maximisation for each choice (interpolation of language models, Jelinek and Mercer 1980; online,
// Cappe and Moulines 2009): a weight is the running mean of the part that its predictor had in what was chosen.
//
// Thread safety: all methods but restore; values are read and written without locks, through relaxed accesses.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/relaxed.hpp"

namespace recengine {

template <std::size_t kParts>
class Mixture {
 public:
  using Weights = std::array<float, kParts>;
  static constexpr float kFirstRate = 0.1f;       // the n-th choice counts 1 / (n + 10) of the mean,
  static constexpr float kLastRate = 1 / 1024.f;  // but at least this
  static constexpr float kLeast = 1e-3f;          // of a weight: what is useless today comes back when it is of use

  static constexpr float kLeastTotal = 1e-30f;

  explicit Mixture(const Weights& start) : weights_(start) {}

  Weights weights() const {
    Weights weights;
    for (std::size_t h = 0; h < kParts; ++h) weights[h] = load_relaxed(&weights_[h]);
    return weights;
  }
  float rate() const { return load_relaxed(&rate_); }

  // What was chosen had this probability by each predictor. Nothing is learned from what all took for impossible.
  void learn(const Weights& probabilities) {
    Weights parts = weights();
    float total = 0;
    for (std::size_t h = 0; h < kParts; ++h) total += parts[h] * probabilities[h];
    if (!(total > kLeastTotal)) return;
    const float rate = this->rate();
    for (std::size_t h = 0; h < kParts; ++h) {
      const float part = parts[h] * probabilities[h] / total;
      store_relaxed(&weights_[h], std::max(parts[h] + rate * (part - parts[h]), kLeast));
    }
    store_relaxed(&rate_, std::max(rate / (1 + rate), kLastRate));
  }

  static bool is_valid(const Weights& weights, float rate) {
    const auto is_share = [](float weight) { return weight >= kLeast && weight <= 2; };
    return std::all_of(weights.begin(), weights.end(), is_share) && rate >= kLastRate && rate <= kFirstRate;
  }
  void restore(const Weights& weights, float rate) {
    weights_ = weights;
    rate_ = rate;
  }

 private:
  Weights weights_;
  float rate_ = kFirstRate;
};

}  // namespace recengine
