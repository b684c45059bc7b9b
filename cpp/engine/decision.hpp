// Decision: what a policy chose, and everything that its probability is a function of.
//
// Thread safety: never changes once it is made.
#pragma once

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
  IdArray user;               // one, or none
  IdArray candidates;         // that the policy chose from, best first
  std::vector<float> scores;  // theirs
  std::vector<std::uint32_t> slate;
  // Of each slot's candidate, given those before it. NaN: not known. Errors are those of estimates, or empty.
  std::vector<double> log_propensities, errors;
  Policy policy;
  Diversity diversity;
  std::uint64_t seed = 0;
  bool certified = true;
};

}  // namespace recengine
