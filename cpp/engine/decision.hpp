// Decision: what a policy chose, and everything that its probability is a function of.
//
// Thread safety: never changes once it is made.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/ids.hpp"
#include "explore/diversity.hpp"
#include "explore/policy.hpp"

namespace recengine {

// How to choose from the candidates of a query.
struct ExploreOptions {
  Policy policy;
  Diversity diversity;
  std::size_t candidates = 200;       // at least as many as results are asked for
  std::optional<std::uint64_t> seed;  // none: the engine's next one
};

struct Decision {
  IdArray user;                // who asked, known to the engine or not; none: a visitor
  IdArray history;             // of a visitor: the items of the session, the last kMaxLoggedHistory
  std::vector<float> context;  // of the query: what was added to the weights of the item features, one each, or none
  IdArray candidates;          // that the policy chose from, best first
  // Places of candidates that were removed since, ascending: of them only the place, score and chance are kept.
  std::vector<std::uint32_t> removed;
  std::vector<float> scores;          // theirs
  std::vector<std::uint32_t> groups;  // theirs, by number, 0 for none; where MaxPerGroup limits them, else empty
  std::vector<std::uint32_t> slate;
  // Of each slot's candidate, given those before it. NaN: not known. Errors are those of estimates, or empty.
  std::vector<double> log_propensities, errors;
  Policy policy;
  Diversity diversity;
  std::uint64_t seed = 0;
  bool certified = true;
  // That the engine had seen before: of users or items, and of users.
  std::uint64_t removals = 0, user_removals = 0;

  bool is_removed(std::uint32_t place) const { return std::binary_search(removed.begin(), removed.end(), place); }
};

inline constexpr std::size_t kMaxLoggedHistory = 1024;

}  // namespace recengine
