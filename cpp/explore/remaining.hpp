// Remaining: the candidates that may still be chosen for the next slot: not chosen yet, and not of a group that has all
// the places it may have.
//
// Thread safety: an object is one thread's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace recengine {

// Candidates by place, best first. Groups, if any: a number of each, 0 for none, below groups.size() + 1; of each at
// most per_group are chosen.
struct CandidateScores {
  std::span<const float> scores;
  std::span<const std::uint32_t> groups;
  std::size_t per_group = 0;
};

class Remaining {
 public:
  explicit Remaining(const CandidateScores& candidates)
      : groups_(candidates.groups),
        per_group_(candidates.per_group),
        places_(candidates.scores.size()),
        index_(candidates.scores.size()),
        taken_(groups_.empty() ? 0 : candidates.scores.size() + 1) {
    std::iota(places_.begin(), places_.end(), 0u);
    std::iota(index_.begin(), index_.end(), 0u);
  }

  std::size_t size() const { return places_.size(); }
  std::span<const std::uint32_t> places() const { return places_; }  // in no order
  // False also of a place that there is not.
  bool contains(std::uint32_t place) const { return place < index_.size() && index_[place] != kGone; }
  // REQUIRES: size() > 0. The lowest place.
  std::uint32_t best() {
    while (index_[best_] == kGone) ++best_;
    return best_;
  }

  // REQUIRES: contains(place).
  void take(std::uint32_t place) {
    remove(place);
    if (groups_.empty() || groups_[place] == 0 || ++taken_[groups_[place]] < per_group_) return;
    for (std::size_t k = places_.size(); k-- > 0;) {  // what takes the place of a removed one was looked at
      if (groups_[places_[k]] == groups_[place]) remove(places_[k]);
    }
  }

 private:
  static constexpr std::uint32_t kGone = ~0u;

  void remove(std::uint32_t place) {
    const std::uint32_t at = index_[place];
    places_[at] = places_.back();
    index_[places_[at]] = at;
    places_.pop_back();
    index_[place] = kGone;
  }

  const std::span<const std::uint32_t> groups_;
  const std::size_t per_group_;
  std::vector<std::uint32_t> places_, index_;
  std::vector<std::size_t> taken_;  // of each group
  std::uint32_t best_ = 0;
};

}  // namespace recengine
