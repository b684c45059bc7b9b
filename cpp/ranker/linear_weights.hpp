// LinearWeights: of each signal, while a session goes on and when it is over. A candidate's score is the sum of its
// signals, each times its weight; in the beginning the embedding's score and the demand count: where embeddings have
// learned nothing, what is popular is shown.
//
// Thread safety: all methods but restore; values are read and written without locks, through relaxed accesses.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/relaxed.hpp"
#include "kernels/table.hpp"
#include "learner/context_weights.hpp"
#include "ranker/signals.hpp"

namespace recengine {

class LinearWeights {
 public:
  static constexpr float kRate = 0.1f;
  static constexpr float kFirstSum = 10;     // of Adagrad: the first steps, of few events, are small
  static constexpr float kForget = 1e-4f;    // of Adagrad's sums at each step: rates that do not die away
  static constexpr float kMostWeight = 64;   // of either sign: room for what is learned, none for divergence
  static constexpr float kMostSlope = 1e6f;  // larger ones would keep a weight from moving for long

  explicit LinearWeights(std::size_t signals) : signals_(signals), scalars_(2 * signals) {
    for (const bool in_session : {true, false}) {
      set(in_session)[kScoreSignal].value = 1;
      set(in_session)[kDemand].value = 1;
    }
    for (LearnedScalar& scalar : scalars_) scalar.sum = kFirstSum;
  }

  std::size_t signals() const { return signals_; }
  void load(bool in_session, float* weights) const {
    for (std::size_t s = 0; s < signals_; ++s) weights[s] = load_relaxed(&set(in_session)[s].value);
  }

  // One step of Adagrad. The weights of score and demand do not turn negative: what a user dislikes is not shown for
  // it. Slopes that are not finite change nothing.
  void step(bool in_session, const float* slopes) {
    for (std::size_t s = 0; s < signals_; ++s) {
      LearnedScalar& scalar = set(in_session)[s];
      const float slope = slopes[s];
      if (slope == 0 || !(std::abs(slope) <= kMostSlope)) continue;
      const float sum = std::min(load_relaxed(&scalar.sum) * (1 - kForget) + slope * slope, kMaxAccumulator);
      store_relaxed(&scalar.sum, sum);
      const float moved = load_relaxed(&scalar.value) - kRate * slope / std::sqrt(sum);
      store_relaxed(&scalar.value,
                    std::clamp(moved, s == kScoreSignal || s == kDemand ? 0.0f : -kMostWeight, kMostWeight));
    }
  }

  // For saving and loading: of a session that goes on, then of one that is over.
  std::span<const LearnedScalar> scalars() const { return scalars_; }
  static bool is_valid(const LearnedScalar& scalar) {
    return std::abs(scalar.value) <= kMostWeight && scalar.sum >= 0 && scalar.sum <= kMaxAccumulator;
  }
  void restore(std::span<const LearnedScalar> scalars) { scalars_.assign(scalars.begin(), scalars.end()); }

 private:
  LearnedScalar* set(bool in_session) { return scalars_.data() + (in_session ? 0 : signals_); }
  const LearnedScalar* set(bool in_session) const { return scalars_.data() + (in_session ? 0 : signals_); }

  const std::size_t signals_;
  std::vector<LearnedScalar> scalars_;
};

}  // namespace recengine
