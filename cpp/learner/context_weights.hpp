// ContextWeights: how much each item of a user's history counts, learned from the stream, a few hundred numbers that
// all users share.
//
// Positions. An item of the history enters the user's vector with a weight of its place in one of three groups: the
// session that goes on, counted back from now; what came before it; and, when the session is over, what came before
// now. So no decay and no window has to be chosen: where the order of events tells much, the first weights grow large,
// where it tells nothing they become equal.
//
// Repeats. An item of the history gets an offset to its score, by where it stands: bought a moment ago or earlier in
// this session, once or several times in earlier ones, disliked. Without it the vector, which holds the item's own
// row, would recommend what the user has just chosen (FISM, Kabbur et al. 2013, leaves an item out of its own
// prediction for that reason; an offset also learns that people do buy again).
//
// Thread safety: all methods; values are read and written without locks, through relaxed accesses.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/relaxed.hpp"

namespace recengine {

// A learned number and Adagrad's sum of its squared slopes.
struct LearnedScalar {
  float value;
  float sum;
};

class ContextWeights {
 public:
  enum Group : std::uint32_t { kSession, kBefore, kReturning };
  static constexpr std::uint32_t kGroups = 3;
  // By the last occurrence in the session that goes on (0, 1 to 2, 3 to 9, further back), by the number of earlier ones
  // (1, 2, 3, more), and disliked; twice, while a session goes on and when it is over.
  static constexpr std::uint32_t kDisliked = 8;
  static constexpr std::uint32_t kRepeats = 9;
  static constexpr float kDislikedStart = -4;  // before anything is learned: far below what else the user sees
  static constexpr float kMaxWeight = 16;      // of either sign: room for what is learned, none for divergence

  ContextWeights(std::uint32_t history, float decay) : history_(history), scalars_(kGroups * history + 2 * kRepeats) {
    for (std::uint32_t group = 0; group < kGroups; ++group) {
      float weight = 1;
      for (std::uint32_t place = 0; place < history; ++place, weight *= decay) {
        scalars_[group * history + place].value = weight;
      }
    }
    for (const bool in_session : {false, true}) scalars_[repeat(in_session, kDisliked)].value = kDislikedStart;
  }

  // Numbers of scalars.
  std::uint32_t position(Group group, std::uint32_t place) const { return group * history_ + place; }
  std::uint32_t repeat(bool in_session, std::uint32_t kind) const {
    return kGroups * history_ + (in_session ? 0 : kRepeats) + kind;
  }
  static std::uint32_t session_kind(std::uint32_t place) { return place == 0 ? 0 : place < 3 ? 1 : place < 10 ? 2 : 3; }
  static std::uint32_t earlier_kind(std::uint32_t times) { return 3 + std::min(times, 4u); }

  float value(std::uint32_t number) const { return load_relaxed(&scalars_[number].value); }
  LearnedScalar& operator[](std::uint32_t number) { return scalars_[number]; }

  // For saving and loading. `restore` takes what `scalars` gave. REQUIRES: nobody learns.
  std::span<const LearnedScalar> scalars() const { return scalars_; }
  static bool is_valid(const LearnedScalar& scalar) {
    return std::abs(scalar.value) <= kMaxWeight && scalar.sum >= 0 && std::isfinite(scalar.sum);
  }
  void restore(std::span<const LearnedScalar> scalars) { scalars_.assign(scalars.begin(), scalars.end()); }

 private:
  const std::uint32_t history_;
  std::vector<LearnedScalar> scalars_;
};

}  // namespace recengine
