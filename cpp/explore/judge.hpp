// How a policy sees a list that another one showed: how probable it makes what was shown, and what it would have shown
// itself. What off-policy evaluation is made of.
//
// Thread safety: functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "explore/linear.hpp"
#include "explore/policy.hpp"
#include "explore/remaining.hpp"

namespace recengine {

// A list that was shown, of candidates in any order.
struct ShownList {
  std::span<const float> scores;          // the policy's; -infinity of what it would never show
  std::span<const std::uint32_t> groups;  // or none; 0 of no group
  std::size_t per_group = 0;              // of each other group at most so many
  std::span<const double> features;       // candidates x width: what a reward model is linear in
  std::size_t width = 0;
  std::span<const std::uint32_t> slate;  // places of the candidates that were shown
};

// Of the slots of lists, one after another. Below an item that the policy would never show there nothing is shown by
// it: zeros.
struct Views {
  std::vector<double> target;     // the probability of the slot's item, given what was shown above it
  std::vector<double> marginals;  // the same, whatever is above it
  // x width: mean features of what the policy shows there, given what was shown above it, and below its own best items.
  std::vector<double> expected, ahead;
};

// Those candidates that a policy may show, as it takes them: by its scores, best first.
class SortedList {
 public:
  explicit SortedList(const ShownList& list);

  CandidateScores candidates() const { return {scores_, groups_, list_.per_group}; }
  std::size_t size() const { return places_.size(); }
  std::size_t place(std::size_t rank) const { return places_[rank]; }  // among the list's candidates
  std::size_t num_slots() const { return slate_.size(); }
  std::span<const std::uint32_t> slate() const { return slate_; }  // ranks; kNotThere of what it would never show
  static constexpr std::uint32_t kNotThere = ~0u;
  // By score alone, as many of each group as may be.
  std::vector<std::uint32_t> best() const;

  // What the shares of slots, num_slots() x size(), say of the slate and of the features.
  void add_target(std::span<const double> shares, std::vector<double>& target) const;
  void add_means(std::span<const double> shares, std::vector<double>& means) const;

 private:
  const ShownList& list_;
  std::vector<std::uint32_t> places_, groups_, slate_;
  std::vector<float> scores_;
};

// Appends what a policy in closed form makes of a list. `draws`: lists of its own that marginals are estimated from,
// without bias; 0: there are no marginals.
void judge(const Policy& policy, const ShownList& list, std::size_t draws, std::uint64_t seed, Views& views);

// The same of a policy of the linear model, with the rows of the sorted list's candidates.
void judge(const Policy& policy, const SortedList& list, const LinearCandidates& linear, const Uncertainty& uncertainty,
           std::size_t draws, std::uint64_t seed, Views& views);

// The marginals alone.
std::vector<double> marginals_of(const Policy& policy, const ShownList& list, std::size_t draws, std::uint64_t seed);

// Of each slot the mean, over lists that the policy draws, of the probability of its candidate below what such a list
// has above it; 0 of what is not there. REQUIRES: policy.is_closed(), candidates sorted by score.
std::vector<double> drawn_marginals(const Policy& policy, const CandidateScores& candidates,
                                    std::span<const std::uint32_t> slate, std::size_t draws, std::uint64_t seed);

}  // namespace recengine
