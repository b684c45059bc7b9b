#include "explore/policy.hpp"

#include <array>
#include <cmath>
#include <stdexcept>

#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr std::array<std::string_view, 7> kPolicyNames{"greedy",   "random", "epsilon_greedy", "softmax",
                                                       "thompson", "ucb",    "squarecb"};
constexpr std::array<std::string_view, 2> kPrecisionNames{"diagonal", "shared"};

// Scores of floats over these stay finite as doubles, and so do their products with these.
constexpr double kLeast = 1e-9, kMost = 1e9;

void require_within(std::string_view name, double value, double least, double most) {
  if (value >= least && value <= most) return;
  throw std::invalid_argument(message(name, " must be between ", least, " and ", most, ", not ", value));
}

template <class Names>
std::uint32_t find_name(const Names& names, std::string_view name, std::string_view what) {
  for (std::uint32_t k = 0; k < names.size(); ++k) {
    if (names[k] == name) return k;
  }
  throw std::invalid_argument(message("unknown ", what, " '", name, "'"));
}

}  // namespace

void Policy::validate() const {
  switch (kind) {
    case PolicyKind::kGreedy:
    case PolicyKind::kRandom:
      return;
    case PolicyKind::kEpsilonGreedy:
      return require_within("epsilon", parameter, 0, 1);
    case PolicyKind::kSoftmax:
      return require_within("temperature", parameter, kLeast, kMost);
    case PolicyKind::kThompson:
      require_within("samples", samples, 0, kMaxSamples);
      return require_within("scale", parameter, 0, kMost);
    case PolicyKind::kUcb:
      return require_within("alpha", parameter, 0, kMost);
    case PolicyKind::kSquareCb:
      return require_within("gamma", parameter, 0, kMost);
  }
}

PolicyKind parse_policy(std::string_view name) {
  return static_cast<PolicyKind>(find_name(kPolicyNames, name, "policy"));
}
std::string_view name_of(PolicyKind kind) { return kPolicyNames[static_cast<std::size_t>(kind)]; }
PrecisionKind parse_precision(std::string_view name) {
  return static_cast<PrecisionKind>(find_name(kPrecisionNames, name, "precision"));
}
std::string_view name_of(PrecisionKind kind) { return kPrecisionNames[static_cast<std::size_t>(kind)]; }

}  // namespace recengine
