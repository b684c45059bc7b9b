// Policy: how a slate is chosen from scored candidates. A small value; docs/exploration.md has the formulas and
// sources.
//
// Thread safety: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace recengine {

enum class PolicyKind : std::uint32_t { kGreedy, kRandom, kEpsilonGreedy, kSoftmax, kThompson, kUcb, kSquareCb };

// What is known of how uncertain scores are: of each user a number for each coordinate, or of all users together a
// matrix.
enum class PrecisionKind : std::uint32_t { kDiagonal, kShared };

struct Policy {
  PolicyKind kind = PolicyKind::kGreedy;
  double parameter = 0;  // epsilon, temperature, scale of the noise, alpha, or gamma; none of the others
  PrecisionKind precision = PrecisionKind::kDiagonal;  // of Thompson and UCB
  std::uint32_t samples = 0;  // of Thompson: draws that its propensities are estimated from; 0: they are not

  // Throws std::invalid_argument naming the value that is out of range.
  void validate() const;

  // Whether scores are moved by what is uncertain of the items' rows.
  bool is_linear() const { return kind == PolicyKind::kThompson || kind == PolicyKind::kUcb; }
  // Whether the probability of a choice is known in closed form.
  bool is_closed() const { return !is_linear(); }
};

inline constexpr std::uint32_t kMaxSamples = 100'000;
inline constexpr std::size_t kMaxCandidates = 4096;

PolicyKind parse_policy(std::string_view name);
std::string_view name_of(PolicyKind kind);
PrecisionKind parse_precision(std::string_view name);
std::string_view name_of(PrecisionKind kind);

}  // namespace recengine
