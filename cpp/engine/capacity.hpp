// Capacity: how many rows a table of users or items may have, and which of them were least recently used.
//
// Room. Whoever is about to add rows claims room for them first, and gives back each claim once its row is there, or is
// not needed. Rows and claims together are never more than the capacity, whoever else claims meanwhile; a row that is
// there and still claimed counts twice for a moment, so that a claim may be refused by those under way.
//
// Use. A stamp beside each row says when it was last learned from or set: the least ones go first. A stamp is one
// relaxed store an event, and no lists are kept in order: what goes is found by a look at all stamps, for so many rows
// at once (kEvictedShare) that this costs little.
//
// Thread safety: every method from any thread; least_recent while writers are paused.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string_view>
#include <vector>

#include "storage/chunked.hpp"
#include "storage/embedding_table.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class Capacity {
 public:
  static constexpr std::size_t kEvictedShare = 32;  // one in so many goes at once

  // most 0: no limit. `evicts`: stamps are kept. `name` is that of the setting.
  Capacity(EmbeddingTable& table, std::size_t most, bool evicts, std::string_view name);

  bool on() const { return most_ > 0; }
  bool evicts() const { return evicts_; }
  std::size_t most() const { return most_; }
  std::string_view name() const { return name_; }

  // False if there is no room for so many. What a log says is applied as it is: nothing is claimed in recovery.
  bool try_claim(std::size_t rows);
  void release(std::size_t rows);
  bool has_room(std::size_t rows) const;
  void enforce(bool on) { enforced_.store(on, std::memory_order_relaxed); }

  // Throws std::invalid_argument: there is no room for `rows` new ones.
  [[noreturn]] void refuse(std::size_t rows) const;

  // Stamps ascend from 1; 0: never used.
  void touch(Row row, std::uint64_t stamp) {
    if (evicts_) stamps_[row].store(stamp, std::memory_order_relaxed);
  }
  std::uint64_t stamp(Row row) const { return stamps_[row].load(std::memory_order_relaxed); }

  // Rows to go, so that there is room for so many: those that were used least recently, oldest first, the lower row
  // first where that is equal; none that was used at `before` or later, unless others have used all the rest since.
  // REQUIRES: evicts()
  std::vector<Row> least_recent(std::size_t room, std::uint64_t before) const;

  std::size_t memory_bytes() const { return stamps_.memory_bytes(); }

 private:
  EmbeddingTable& table_;
  const std::size_t most_;
  const bool evicts_;
  const std::string_view name_;
  std::atomic<bool> enforced_{true};  // relaxed: recovery is over before there is another thread
  mutable std::mutex mutex_;
  std::size_t claimed_ = 0;  // GUARDED_BY(mutex_)
  Column<std::atomic<std::uint64_t>> stamps_;
};

// The claims of one call in both tables; what is left of them is given back at its end.
class Claims {
 public:
  Claims(Capacity& users, Capacity& items) : users_(users), items_(items) {}
  ~Claims() { release(); }
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;

  // All or nothing.
  bool try_claim(std::size_t users, std::size_t items);
  // A row of a claim is there. From any thread.
  void user_added() { added(users_, num_users_); }
  void item_added() { added(items_, num_items_); }
  void give_back_user() { added(users_, num_users_); }  // of the last claim: it is not needed
  void release();

  Capacity& users() { return users_; }
  Capacity& items() { return items_; }

 private:
  static void added(Capacity& capacity, std::atomic<std::size_t>& claimed);

  Capacity& users_;
  Capacity& items_;
  std::atomic<std::size_t> num_users_{0}, num_items_{0};
};

}  // namespace recengine
