// Objectives: from the scores of one event's candidates to the slopes d(loss) / d(score). Candidate 0 is the event's
// own item, the others are sampled negatives. Formulas and sources: docs/objectives.md. Checked against float64 numpy
// in tests/. The softmax's is a kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace recengine {

inline float sigmoid(float z) {
  // Both branches exponentiate a number that is not positive: no overflow.
  if (z >= 0) return 1 / (1 + std::exp(-z));
  const float e = std::exp(z);
  return e / (1 + e);
}

// Binary cross-entropy, -y log p - (1 - y) log(1 - p) with p = sigmoid(score).
inline float logistic_slope(float score, float label) { return sigmoid(score) - label; }

// Half the squared error of a rating.
inline float squared_slope(float score, float rating) { return score - rating; }

// Bayesian personalised ranking (Rendle et al. 2009, eq. 4): sum_j -log sigmoid(s_0 - s_j).
inline void bpr_slopes(const float* scores, std::size_t count, float* slopes) {
  slopes[0] = 0;
  for (std::size_t j = 1; j < count; ++j) {
    slopes[j] = sigmoid(scores[j] - scores[0]);
    slopes[0] -= slopes[j];
  }
}

// A dislike: the item shall rank below the sampled ones, (1 / n) sum_j -log sigmoid(s_j - s_0), BPR with the parts
// exchanged.
inline void dislike_slopes(const float* scores, std::size_t count, float* slopes) {
  const float share = 1 / static_cast<float>(std::max<std::size_t>(count, 2) - 1);
  slopes[0] = 0;
  for (std::size_t j = 1; j < count; ++j) {
    const float slope = share * sigmoid(scores[0] - scores[j]);
    slopes[0] += slope;
    slopes[j] = -slope;
  }
}

}  // namespace recengine
