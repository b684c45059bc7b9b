// Slates of the policies whose probabilities are known in closed form: drawing one, and how probable one is.
//
// Thread safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "explore/policy.hpp"
#include "explore/remaining.hpp"

namespace recengine {

// At most k places in the order of the slots, with what log_propensities says of them. REQUIRES: policy.is_closed().
struct Slate {
  std::vector<std::uint32_t> places;
  std::vector<double> log_propensities;
};
Slate draw_slate(const Policy& policy, const CandidateScores& candidates, std::size_t k, std::uint64_t seed);

// Of each slot the logarithm of the probability of its candidate, given those before it: their sum is the slate's.
// -infinity where the policy would never choose it there. REQUIRES: policy.is_closed(), places below the number of
// candidates.
std::vector<double> log_propensities(const Policy& policy, const CandidateScores& candidates,
                                     std::span<const std::uint32_t> slate);

// The probability of each candidate to be chosen for the first slot. REQUIRES: policy.is_closed(), a candidate.
std::vector<double> first_propensities(const Policy& policy, const CandidateScores& candidates);

// The same for each of so many slots, given that those before it hold what the slate says: slots x scores.size(), 0 for
// what may not be chosen there; all 0 below what the policy could not have chosen, and where nothing is left. REQUIRES:
// the same, slots <= slate.size() + 1.
std::vector<double> slot_propensities(const Policy& policy, const CandidateScores& candidates,
                                      std::span<const std::uint32_t> slate, std::size_t slots);

// The logarithm of the probability that the candidate is chosen next. REQUIRES: the same; it is among those that
// remain.
double log_propensity(const Policy& policy, const CandidateScores& candidates, Remaining& remaining,
                      std::uint32_t place);

// The slate of other scores than those that the candidates are sorted by: best first, as many of each group as may be.
std::vector<std::uint32_t> best_places(std::span<const float> scores, const CandidateScores& candidates, std::size_t k);

}  // namespace recengine
