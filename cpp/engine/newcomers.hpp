// Newcomers: claims room for the new ids of a batch, event by event, in their order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_set>

#include "engine/capacity.hpp"
#include "engine/event_check.hpp"
#include "storage/epoch.hpp"

namespace recengine {

class Newcomers {
 public:
  Newcomers(EpochDomain& domain, const IdMap& users, const IdMap& items, const EventColumns& events, Claims& claims)
      : domain_(domain), events_(events), claims_(claims), users_(users, events_.users), items_(items, events_.items) {}

  // Whether there is room for what is new in this event, which is then claimed; else why not. REQUIRES: events are
  // asked in order.
  BadEvent admit(std::size_t e) {
    if (e >= end_) look_up(e);
    const bool new_user = users_.is_new(e - first_), new_item = items_.is_new(e - first_);
    if (new_user && !claims_.try_claim(1, 0)) return BadEvent::kMaxUsers;
    if (new_item && !claims_.try_claim(0, 1)) {
      if (new_user) claims_.give_back_user();
      return BadEvent::kMaxItems;
    }
    if (new_user) users_.add(e - first_);
    if (new_item) items_.add(e - first_);
    return BadEvent::kNone;
  }

  std::size_t num_users() const { return users_.added.size(); }
  std::size_t num_items() const { return items_.added.size(); }

 private:
  static constexpr std::size_t kPiece = 1024;  // ids looked up together

  struct Column {
    Column(const IdMap& map, const IdSpan& span) : ids(map), all(span) {}

    void look_up(std::size_t first, std::size_t count) {
      ids.find_many(all, first, count, rows.data());
      for (std::size_t k = 0; k < count; ++k) hashes[k] = rows[k] == kNoRow ? hash_at(all, first + k) : 0;
    }
    bool is_new(std::size_t k) const { return rows[k] == kNoRow && !added.contains(hashes[k]); }
    void add(std::size_t k) { added.insert(hashes[k]); }

    const IdMap& ids;
    const IdSpan& all;
    std::array<Row, kPiece> rows;
    std::array<std::uint64_t, kPiece> hashes;
    std::unordered_set<std::uint64_t> added;
  };

  void look_up(std::size_t e) {
    const auto pin = domain_.pin_reader();
    first_ = e;
    const std::size_t count = std::min(kPiece, events_.users.size - e);
    end_ = e + count;
    users_.look_up(e, count);
    items_.look_up(e, count);
  }

  EpochDomain& domain_;
  const EventColumns events_;
  Claims& claims_;
  Column users_, items_;
  std::size_t first_ = 0, end_ = 0;
};

}  // namespace recengine
