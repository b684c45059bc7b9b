// The policies that know how uncertain scores are: Thompson sampling and upper confidence bounds over a Bayesian linear
// model on the items' rows (precisions.hpp). A candidate's score s_i becomes
//   Thompson  s_i + scale (<F z, q_i> + d_i z_i), z standard normal, drawn anew for every slot: slots are independent
//             draws, each the best of what is left, so that the probability of a slot given those before it can be
//             estimated
//   UCB       s_i + alpha sqrt(|F^T q_i|^2 + d_i^2)
// with F F^T the covariance of the weights and d_i the deviation of the item's bias.
//
// Thread safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "explore/draws.hpp"
#include "explore/policy.hpp"
#include "explore/remaining.hpp"
#include "storage/aligned.hpp"

namespace recengine {

// F: a diagonal, or a matrix.
struct Uncertainty {
  AlignedFloats deviations;                     // of a diagonal, `stride`
  std::shared_ptr<const AlignedFloats> factor;  // stride x stride; null: the diagonal counts
};

// Candidates with their rows: (scores.size() x stride), 64-byte aligned, padded by zeros; and the d_i.
struct LinearCandidates {
  CandidateScores candidates;
  const float* rows;
  std::size_t stride;
  std::span<const float> bias_deviations;
};

// Scores of UCB.
std::vector<float> optimistic_scores(const Policy& policy, const LinearCandidates& candidates,
                                     const Uncertainty& uncertainty);

std::vector<std::uint32_t> thompson_slate(const Policy& policy, const LinearCandidates& candidates,
                                          const Uncertainty& uncertainty, std::size_t k, std::uint64_t seed);

// Estimates from policy.samples draws, as if half a draw more had chosen each slot's candidate and half a draw another
// one, so that none is zero; and the standard errors of the logarithms.
struct Estimates {
  std::vector<double> logs, errors;
};
// How often each candidate wins each of so many slots, in policy.samples draws, given that those before it hold what
// the slate says: slots x scores.size(), as slot_propensities has it. Of UCB: 1 for what it chooses there. Draws are
// the same for all slots.
std::vector<double> linear_slot_propensities(const Policy& policy, const LinearCandidates& candidates,
                                             const Uncertainty& uncertainty, std::span<const std::uint32_t> slate,
                                             std::size_t slots, std::uint64_t seed);

Estimates thompson_propensities(const Policy& policy, const LinearCandidates& candidates,
                                const Uncertainty& uncertainty, std::span<const std::uint32_t> slate,
                                std::uint64_t seed);

}  // namespace recengine
