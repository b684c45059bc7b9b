// StoredUsers: what users did last, as a file holds it (docs/file-format.md), read where it lies.
//
// Nothing in it is trusted: parts that are out of bounds are empty, items out of range are passed over.
//
// Thread safety: immutable. What it refers to must outlive it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/id_map.hpp"

namespace recengine {

// An item of a user's history.
struct HistoryEntry {
  Row item;
  bool in_session;  // of the session that goes on
  bool disliked;    // by a negative value
};

// Lists of all rows, one after another, and where each ends.
struct StoredLists {
  std::span<const Row> values;
  std::span<const std::uint64_t> ends;

  struct Part {
    std::size_t first, size;
  };
  // REQUIRES: row < ends.size().
  Part part(Row row) const {
    const std::uint64_t first = row == 0 ? 0 : ends[row - 1], end = ends[row];
    return first <= end && end <= values.size() ? Part{first, end - first} : Part{0, 0};
  }
  std::span<const Row> of(Row row) const { return values.subspan(part(row).first, part(row).size); }
};

struct StoredUsers {
  static constexpr std::uint32_t kDisliked = 1u << 31;  // beside the number of an entry's session

  StoredLists history;                      // items + 1, oldest first
  std::span<const std::uint32_t> sessions;  // of the entries
  std::span<const float> times;             // of the entries; none are kept: empty
  std::span<const double> visits;           // of the users: the latest event,
  std::span<const std::uint32_t> visited;   // and its session
  StoredLists seen;                         // items, ascending
  StoredLists disliked;                     // items; without ends: not kept
  Row items;                                // slots of the item table

  // As UserState's.
  bool goes_on(Row user, double now, double gap) const {
    return history.part(user).size > 0 && now - visits[user] <= gap;
  }
  std::uint32_t last_items(Row user, double now, double gap, HistoryEntry* entries, std::uint32_t most,
                           float* entry_times) const {
    const StoredLists::Part part = history.part(user);
    const bool is_going_on = goes_on(user, now, gap);
    const std::size_t length = std::min<std::size_t>(part.size, most);
    std::uint32_t count = 0;
    for (std::size_t age = 0; age < length; ++age) {
      const std::size_t at = part.first + part.size - 1 - age;
      const Row item = history.values[at];
      if (item == 0 || item > items) continue;
      if (entry_times != nullptr) entry_times[count] = times.empty() ? 0.0f : times[at];
      const bool is_disliked = (sessions[at] & kDisliked) != 0;
      entries[count++] = {item - 1, is_going_on && (sessions[at] & ~kDisliked) == visited[user], is_disliked};
    }
    return count;
  }
};

}  // namespace recengine
