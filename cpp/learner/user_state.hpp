// UserState: what an engine remembers of each user beside the learned row: the last items, newest first, and all items
// seen.
//
// Thread safety: `observe` and `contains` from any thread; writers of one user take turns, readers never wait. A reader
// that meets a writer may see the newest item in the place of the oldest: never an item the user did not have.
// `erase_items` and `restore` need writers paused.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "storage/chunked.hpp"
#include "storage/epoch.hpp"
#include "storage/id_map.hpp"
#include "storage/row_set.hpp"
#include "storage/turn.hpp"

namespace recengine {

class UserState {
 public:
  UserState(EpochDomain& domain, std::uint32_t history) : domain_(domain), history_(history) {}

  std::uint32_t history() const { return history_; }

  void reserve(std::size_t users) {
    users_.reserve(users);
    ring_.reserve(users * history_);
  }

  void wipe(Row user) {
    users_[user].seen.erase_if([](Row) { return true; }, domain_);
    users_[user].pushed.store(0, std::memory_order_relaxed);
    for (std::uint32_t slot = 0; slot < history_; ++slot) ring(user, slot).store(0, std::memory_order_relaxed);
  }

  // The user chose this item now.
  void observe(Row user, Row item) {
    User& state = users_[user];
    if (history_ == 0 && state.seen.contains(item)) return;  // nothing to write: no turn to take
    const Turn turn(state.writing);
    push(state, user, item + 1);
    state.seen.insert(item, domain_);
  }

  // For saving: visits the entries of the history, oldest first, each an item + 1, or 0 for one that was removed; and
  // the way back, entry by entry. REQUIRES: writers paused, or a new engine.
  template <class Visit>
  void for_each_entry(Row user, Visit visit) const {
    const std::uint32_t pushed = users_[user].pushed.load(std::memory_order_acquire);
    for (std::uint32_t age = std::min(pushed, history_); age > 0; --age) {
      visit(ring(user, (pushed - age) % history_).load(std::memory_order_relaxed));
    }
  }
  void restore_entry(Row user, Row entry) { push(users_[user], user, entry); }
  void restore_seen(Row user, Row item) { users_[user].seen.insert(item, domain_); }

  // Copies the last items, at most `most` (<= history()), into `items`, newest first; returns how many. Removed items
  // are left out.
  std::uint32_t last_items(Row user, Row* items, std::uint32_t most) const {
    const std::uint32_t pushed = users_[user].pushed.load(std::memory_order_acquire);
    const std::uint32_t length = std::min(pushed, most);
    std::uint32_t count = 0;
    for (std::uint32_t age = 0; age < length; ++age) {
      const Row entry = ring(user, (pushed - 1 - age) % history_).load(std::memory_order_relaxed);
      if (entry != 0) items[count++] = entry - 1;
    }
    return count;
  }

  const RowSet& seen(Row user) const { return users_[user].seen; }
  void prefetch(Row user) const { __builtin_prefetch(&users_[user], 1); }

  // Forgets the items for which `gone(row)`, in the states of the first `users` users.
  template <class Predicate>
  void erase_items(Row users, Predicate gone) {
    for (Row user = 0; user < users; ++user) {
      for (std::uint32_t slot = 0; slot < history_; ++slot) {
        const Row entry = ring(user, slot).load(std::memory_order_relaxed);
        if (entry != 0 && gone(entry - 1)) ring(user, slot).store(0, std::memory_order_relaxed);
      }
      users_[user].seen.erase_if(gone, domain_);
    }
  }

  std::size_t memory_bytes(Row users) const {
    std::size_t bytes = users_.memory_bytes() + ring_.memory_bytes();
    for (Row user = 0; user < users; ++user) bytes += users_[user].seen.memory_bytes();
    return bytes;
  }

 private:
  struct User {
    RowSet seen;
    std::atomic<std::uint32_t> pushed;   // entries so far, kept in [0, 2 * history): modulo history it is the next slot
    std::atomic<std::uint32_t> writing;  // 1 while a writer is at this user
  };

  void push(User& state, Row user, Row entry) {
    if (history_ == 0) return;
    const std::uint32_t pushed = state.pushed.load(std::memory_order_relaxed);
    ring(user, pushed % history_).store(entry, std::memory_order_relaxed);
    // Release: a reader that sees the new length sees the entry.
    state.pushed.store(pushed + 1 < 2 * history_ ? pushed + 1 : pushed + 1 - history_, std::memory_order_release);
  }

  // Entries hold item + 1; 0 is none.
  std::atomic<Row>& ring(Row user, std::uint32_t slot) { return ring_[std::size_t{user} * history_ + slot]; }
  const std::atomic<Row>& ring(Row user, std::uint32_t slot) const {
    return ring_[std::size_t{user} * history_ + slot];
  }

  EpochDomain& domain_;
  const std::uint32_t history_;
  Column<User> users_;
  Column<std::atomic<Row>> ring_;
};

}  // namespace recengine
