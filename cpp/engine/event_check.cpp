#include "engine/event_check.hpp"

#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "learner/settings.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

bool is_bad_id(const IdSpan& ids, std::size_t k, const std::uint8_t* no_id) {
  return (no_id != nullptr && no_id[k] != 0) || (ids.kind == IdKind::kString && !is_valid_id(ids.string_at(k)));
}

void require_id(const Id& id) {
  if (id.kind == IdKind::kString) validate_id(id.text);
}

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

IdSpan part_of(IdSpan ids, std::size_t first, std::size_t count) {
  ids.size = count;
  if (ids.kind == IdKind::kString) {
    ids.offsets += first;
  } else {
    ids.ints += first;
  }
  return ids;
}

EventColumns part_of(const EventColumns& events, std::size_t first, std::size_t count) {
  const auto column = [first](auto* values) { return values == nullptr ? nullptr : values + first; };
  return {part_of(events.users, first, count),
          part_of(events.items, first, count),
          column(events.values),
          column(events.weights),
          column(events.timestamps),
          column(events.no_user),
          column(events.no_item)};
}

EventCheck::EventCheck(const Learner& learner, const Settings& settings)
    : learner_(learner),
      max_ahead_(settings.limits.max_ahead),
      max_weight_(settings.limits.max_weight),
      max_value_(settings.objective == Objective::kSquared ? settings.limits.max_value
                                                           : std::numeric_limits<double>::infinity()),
      known_horizon_(std::isinf(max_ahead_) ? max_ahead_ : -std::numeric_limits<double>::infinity()) {}

bool EventCheck::takes(float value) const { return learner_.takes(value) && double{std::abs(value)} <= max_value_; }

bool EventCheck::is_weight(float weight) const {
  return weight >= 0 && std::isfinite(weight) && double{weight} <= max_weight_;
}

void EventCheck::require_value(float value) const {
  learner_.check_value(value);
  if (takes(value)) return;
  throw std::invalid_argument(message("value must be at most max_value = ", max_value_, ", not ", value));
}

void EventCheck::require_weight(float weight) const {
  if (is_weight(weight)) return;
  if (!(weight >= 0 && std::isfinite(weight))) {
    throw std::invalid_argument(message("weight must be finite and at least 0, not ", weight));
  }
  throw std::invalid_argument(message("weight must be at most max_weight = ", max_weight_, ", not ", weight));
}

double EventCheck::horizon() const {
  const double horizon = now() + max_ahead_;
  known_horizon_.store(horizon, std::memory_order_relaxed);
  return horizon;
}

// The clock is read only where the last reading does not answer.
bool EventCheck::is_due(double timestamp) const {
  return timestamp <= known_horizon_.load(std::memory_order_relaxed) || timestamp <= horizon();
}

BadEvent EventCheck::find(const EventColumns& events, std::size_t e, bool logged) const {
  if (events.values != nullptr && !takes(events.values[e])) return BadEvent::kValue;
  if (events.weights != nullptr && !is_weight(events.weights[e])) return BadEvent::kWeight;
  if (events.timestamps != nullptr) {
    const double timestamp = events.timestamps[e];
    if (!(std::abs(timestamp) <= kMaxTimestamp)) return BadEvent::kTimestamp;  // also NaN
    if (!logged && !is_due(timestamp)) return BadEvent::kTimestamp;
  }
  if (is_bad_id(events.users, e, events.no_user)) return BadEvent::kUser;
  if (is_bad_id(events.items, e, events.no_item)) return BadEvent::kItem;
  return BadEvent::kNone;
}

void EventCheck::require(const EventColumns& events, std::size_t first, std::size_t count, bool logged) const {
  for (std::size_t e = first; e < first + count; ++e) {
    switch (find(events, e, logged)) {
      case BadEvent::kNone:
      case BadEvent::kMaxUsers:
      case BadEvent::kMaxItems:
        continue;
      case BadEvent::kValue:
        require_value(events.values[e]);
        break;
      case BadEvent::kWeight:
        require_weight(events.weights[e]);
        break;
      case BadEvent::kTimestamp:
        require_timestamp(events.timestamps[e]);
        continue;  // the clock has just reached it
      case BadEvent::kUser:
        require_id(id_at(events.users, e));
        break;
      case BadEvent::kItem:
        require_id(id_at(events.items, e));
        break;
    }
    throw std::invalid_argument(message("event ", e, " is not valid"));  // of a column with places without an id
  }
}

void EventCheck::require(const Id& user, const Id& item, float value, float weight) const {
  require_value(value);
  require_weight(weight);
  require_id(user);
  require_id(item);
}

void EventCheck::require_timestamp(double timestamp) const {
  if (!(std::abs(timestamp) <= kMaxTimestamp)) {
    throw std::invalid_argument(message("timestamp must be a number of seconds within 1e15, not ", timestamp));
  }
  if (is_due(timestamp)) return;
  throw std::invalid_argument(message("timestamp must be at most max_ahead = ", max_ahead_,
                                      " seconds ahead of the clock, not ", timestamp, ", which is ", timestamp - now(),
                                      " ahead (are these seconds?)"));
}

}  // namespace recengine
