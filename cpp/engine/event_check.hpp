// What an event may be: the one place that says so, for all the ways in which events come.
//
// Times. An event from far ahead would be popular for as long, and the engine's clock, which is the latest timestamp,
// would stand still until then: so no timestamp may be further ahead of this machine's clock than `max_ahead`. What is
// from the past moves nothing forward, and is welcome.
//
// Thread safety: every method from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/ids.hpp"
#include "learner/learner.hpp"
#include "storage/id_map.hpp"

namespace recengine {

// A batch of events, borrowed. Null columns: values 1, weights 1, timestamps the latest one seen.
struct EventColumns {
  IdSpan users;
  IdSpan items;
  const float* values = nullptr;
  const float* weights = nullptr;
  const double* timestamps = nullptr;
  // Not 0 where the caller's column has something that is no id of its kind. Null: there is no such place.
  const std::uint8_t* no_user = nullptr;
  const std::uint8_t* no_item = nullptr;
};

IdSpan part_of(IdSpan ids, std::size_t first, std::size_t count);
EventColumns part_of(const EventColumns& events, std::size_t first, std::size_t count);

// Why an event cannot be learned from.
enum class BadEvent : std::uint32_t { kNone, kValue, kWeight, kTimestamp, kUser, kItem, kMaxUsers, kMaxItems };
inline constexpr std::array<std::string_view, 8> kBadEventNames{"",     "value", "weight",    "timestamp",
                                                                "user", "item",  "max_users", "max_items"};

// Whether a batch with bad events is refused as a whole, or learned without them.
enum class OnBad : std::uint32_t { kRaise, kSkip };

class EventCheck {
 public:
  EventCheck(const Learner& learner, const Settings& settings);

  // `logged`: the event was checked by the clock of its day.
  // Looks at the event alone: whether there is room for its ids is asked elsewhere (newcomers.hpp).
  BadEvent find(const EventColumns& events, std::size_t e, bool logged = false) const;
  // Throw std::invalid_argument for a bad event, naming what is bad.
  void require(const EventColumns& events, std::size_t first, std::size_t count, bool logged = false) const;
  void require(const Id& user, const Id& item, float value, float weight) const;
  void require_timestamp(double timestamp) const;

 private:
  bool is_due(double timestamp) const;
  double horizon() const;

  bool takes(float value) const;
  bool is_weight(float weight) const;
  void require_value(float value) const;
  void require_weight(float weight) const;

  const Learner& learner_;
  const double max_ahead_, max_weight_, max_value_;
  // No timestamp up to here is too far ahead. Relaxed: the clock was past it, whoever read it.
  mutable std::atomic<double> known_horizon_;
};

}  // namespace recengine
