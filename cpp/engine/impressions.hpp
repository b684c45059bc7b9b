// Impressions: the latest decisions that were shown, each under a number, waiting for what their users do. Bounded: the
// oldest goes when there is no room.
//
// Users may be such as the engine does not know yet: it is their feedback that it learns them by.
//
// Removed users and items. What was shown to a removed user is gone: of the impression only the number is left. A
// removed item keeps its place in lists, with score and chance, so that estimates from the log stay what they were, but
// not its id. Ids of removed items are noted at once, and taken out of the lists in bulk (`sweep`).
//
// Thread safety: every method from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/decision.hpp"
#include "storage/process.hpp"

namespace recengine {

// How feedback is weighed where it is learned from.
enum class Correction : std::uint32_t { kNone, kInversePropensity, kTopK };
Correction parse_correction(std::string_view name);
std::string_view name_of(Correction correction);

struct FeedbackSettings {
  std::size_t capacity = 10'000;  // impressions
  double window = 86'400;         // seconds after which feedback is refused; infinity: never
  Correction correction = Correction::kInversePropensity;
  double clip = 10;          // of weights
  double position_bias = 0;  // slot j, from 0, is taken to be looked at with the probability (j + 1)^-position_bias

  // Throws std::invalid_argument naming the value that is out of range.
  void validate() const;
  bool operator==(const FeedbackSettings& other) const = default;
};

// The weight of feedback to the item of a slot, 1 where the probability is not known.
//   inverse propensity  min(clip, 1 / (p theta)), p the propensity given the slots above, theta that of the slot to be
//                       looked at. On average (but for the clip) as if, below what is above it, each slot had been
//                       filled by any candidate left alike: over a list of k an item counts as often as it is left for
//                       a slot, once if k is 1, up to k times if it is hardly ever chosen
//   top-K               min(clip, pi / (p theta)) K (1 - pi)^(K - 1), pi the softmax of the scores over the candidates
//                       (Chen et al. 2019, "Top-K off-policy correction for a REINFORCE recommender system")
double feedback_weight(const FeedbackSettings& settings, const Decision& decision, std::size_t slot);

// The decision without the ids of these items (of `candidates` or `history`, by place); null if there are none.
std::shared_ptr<const Decision> without_items(const Decision& decision,
                                              const std::function<bool(const IdSpan&, std::size_t)>& is_gone);

struct Impression {
  std::uint64_t number;
  double time;                               // when it was shown; NaN: no timestamp had been seen by then
  std::shared_ptr<const Decision> decision;  // none: its user was removed
  std::vector<float> rewards;                // of each slot, added up; NaN: none came
};

// An impression that is about to be shown, with all of its memory.
Impression prepare_impression(std::shared_ptr<const Decision> decision, double time);

class Impressions {
 public:
  std::uint64_t add(Impression impression);  // its number

  struct Place {
    std::shared_ptr<const Decision> decision;
    std::size_t slot;
  };
  // Where the item was shown. Throws UnknownId for a number that is not known (any more), one whose window is over at
  // `now` (of which there is none where either time is NaN), or an item that was not shown.
  Place find(std::uint64_t number, const Id& item, double now) const;
  // Adds the reward there, unless the impression has gone meanwhile. False: there never was such a place.
  bool add_reward(std::uint64_t number, std::size_t slot, float reward);
  // Which of these users something was shown to that is kept.
  std::vector<bool> shown_to(const IdSpan& users) const;
  // Drops what was shown to these users.
  void forget(const IdSpan& users);
  void forget_items(const IdSpan& items);
  void sweep();  // of removed items' ids nothing is left afterwards

  FeedbackSettings settings() const;
  void set_settings(const FeedbackSettings& settings);
  std::vector<Impression> copy();  // oldest first; without those that are gone

  // Everything, for saving and the way back. REQUIRES: `restore`: nobody else is there.
  struct Stored {
    FeedbackSettings settings;
    std::uint64_t next = 1;
    std::vector<Impression> queue;  // numbers from next - queue.size() on
  };
  Stored stored();
  void restore(Stored stored);

 private:
  void sweep_locked();
  bool is_removed(const Id& item, std::uint64_t number) const;  // from the impression

  mutable ForkMutex mutex_;
  FeedbackSettings settings_;     // GUARDED_BY(mutex_)
  std::uint64_t next_ = 1;        // GUARDED_BY(mutex_)
  std::deque<Impression> queue_;  // GUARDED_BY(mutex_): their numbers follow one another
  // GUARDED_BY(mutex_): items removed since the last sweep, and the number of the first impression after that.
  std::unordered_map<std::int64_t, std::uint64_t, IdHash> removed_numbers_;
  std::unordered_map<std::string, std::uint64_t, IdHash> removed_texts_;
};

}  // namespace recengine
