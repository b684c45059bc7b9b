// How events stand in a record of the log; replay.cpp reads it.
#pragma once

#include <cstdint>

#include "durability/payload.hpp"
#include "engine/event_check.hpp"
#include "engine/event_sources.hpp"
#include "engine/journal.hpp"

namespace recengine {

inline std::uint32_t learn_flags(const EventColumns& events, const SourceSpan& source) {
  return (events.values != nullptr ? kHasValues : 0u) | (events.weights != nullptr ? kHasWeights : 0u) |
         (events.timestamps != nullptr ? kHasTimestamps : 0u) | (source.offsets.empty() ? 0u : kHasSource);
}

inline void put_events(PayloadWriter& to, const EventColumns& events, double latest, const SourceSpan& source) {
  const std::size_t size = events.users.size;
  to.put(latest);
  if (!source.offsets.empty()) {
    to.put_text(source.name);
    to.put(source.offsets.back());
  }
  to.put_ids(events.users, 0, size);
  to.put_ids(events.items, 0, size);
  if (events.values != nullptr) to.put_array(events.values, size);
  if (events.weights != nullptr) to.put_array(events.weights, size);
  if (events.timestamps != nullptr) to.put_array(events.timestamps, size);
}

}  // namespace recengine
