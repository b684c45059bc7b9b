// UserState: what an engine remembers of each user beside the learned row: the last items, newest first, with the
// sessions they came in and, if asked for, their times, and all items seen.
//
// A session is a run of events with no pause longer than `session_gap` seconds. Time never runs backwards for it: an
// event from before the user's last one belongs to the session of that one.
//
// Thread safety: `observe` and `contains` from any thread; writers of one user take turns, readers never wait. A reader
// that meets a writer may see the newest item, or its time, in the place of the oldest: never an item the user did not
// have.
// `erase_items` and `restore` need writers paused.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>

#include "learner/stored_users.hpp"
#include "storage/chunked.hpp"
#include "storage/epoch.hpp"
#include "storage/id_map.hpp"
#include "storage/row_set.hpp"
#include "storage/turn.hpp"

namespace recengine {

class UserState {
 public:
  // `keeps_dislikes`: beyond the history, too.
  UserState(EpochDomain& domain, std::uint32_t history, double session_gap, bool timed, bool keeps_dislikes)
      : domain_(domain), history_(history), session_gap_(session_gap), timed_(timed), keeps_dislikes_(keeps_dislikes) {}

  std::uint32_t history() const { return history_; }

  // All of it is what lies elsewhere from now on, and only read. REQUIRES: a new object, not yet shared; a session of
  // each entry, times if `timed`, and a visit of each user.
  void adopt(const StoredUsers& stored) { stored_ = stored; }
  bool is_stored() const { return stored_.has_value(); }
  // REQUIRES: is_stored(). Ascending, unless the file is damaged.
  std::span<const Row> stored_seen(Row user) const { return stored_->seen.of(user); }

  void reserve(std::size_t users) {
    if (stored_) return;
    users_.reserve(users);
    ring_.reserve(users * history_);
    if (timed_) times_.reserve(users * history_);
    if (keeps_dislikes_) disliked_.reserve(users);
    if (history_ > 0) visits_.reserve(users);
  }

  void wipe(Row user) {
    users_[user].seen.erase_if([](Row) { return true; }, domain_);
    if (keeps_dislikes_) disliked_[user].erase_if([](Row) { return true; }, domain_);
    users_[user].pushed.store(0, std::memory_order_relaxed);
    for (std::uint32_t slot = 0; slot < history_; ++slot) clear(user, slot);
    restore_visit(user, 0, 0);
  }

  // The user chose this item, or disliked it, at this time.
  void observe(Row user, Row item, double timestamp, bool disliked) {
    User& state = users_[user];
    // Nothing to write: no turn to take.
    if (history_ == 0 && state.seen.contains(item) && dislikes(user, item) == (disliked && keeps_dislikes_)) return;
    const Turn turn(state.writing);
    if (history_ > 0) push(state, user, entry(item, visit(user, timestamp), disliked), timestamp);
    state.seen.insert(item, domain_);
    if (!keeps_dislikes_) return;
    if (disliked) {
      disliked_[user].insert(item, domain_);
    } else {
      disliked_[user].erase_if([item](Row other) { return other == item; }, domain_);
    }
  }

  bool keeps_dislikes() const { return keeps_dislikes_; }
  // Whether the user's latest word on the item was a dislike. False if dislikes are not kept.
  bool dislikes(Row user, Row item) const {
    if (!keeps_dislikes_) return false;
    if (!stored_) return disliked_[user].contains(item);
    const auto all = stored_->disliked.ends.empty() ? std::span<const Row>() : stored_->disliked.of(user);
    return std::find(all.begin(), all.end(), item) != all.end();
  }
  // REQUIRES: keeps_dislikes(), not is_stored().
  template <class Visit>
  void for_each_disliked(Row user, Visit visit) const {
    disliked_[user].for_each(visit);
  }
  void restore_dislike(Row user, Row item) { disliked_[user].insert(item, domain_); }

  // For saving: visits the entries of the history, oldest first, with their times; and the way back, entry by entry. An
  // entry's lower half is an item + 1, or 0 for one that was removed, its upper half session_of(entry). REQUIRES:
  // writers paused, or a new engine.
  template <class Visit>
  void for_each_entry(Row user, Visit visit) const {
    const std::uint32_t pushed = users_[user].pushed.load(std::memory_order_acquire);
    for (std::uint32_t age = std::min(pushed, history_); age > 0; --age) {
      const std::uint32_t slot = (pushed - age) % history_;
      visit(ring(user, slot).load(std::memory_order_relaxed), time(user, slot));
    }
  }
  std::uint32_t num_entries(Row user) const {
    return std::min(users_[user].pushed.load(std::memory_order_acquire), history_);
  }
  void restore_entry(Row user, std::uint64_t entry, float time) { push(users_[user], user, entry, time); }
  void restore_seen(Row user, Row item) { users_[user].seen.insert(item, domain_); }
  double last_visit(Row user) const { return history_ > 0 ? visits_[user].last.load(std::memory_order_relaxed) : 0; }
  void restore_visit(Row user, double last, std::uint32_t session) {
    if (history_ == 0) return;
    visits_[user].last.store(last, std::memory_order_relaxed);
    visits_[user].session.store(session, std::memory_order_relaxed);
  }
  std::uint32_t session(Row user) const {
    return history_ > 0 ? visits_[user].session.load(std::memory_order_relaxed) : 0;
  }

  static Row item_of(std::uint64_t entry) { return static_cast<Row>(entry); }  // + 1
  static std::uint32_t session_of(std::uint64_t entry) { return static_cast<std::uint32_t>(entry >> 32); }

  // Copies the last items, at most `most` (<= history()), into `entries`, newest first, as they stand at time `now`;
  // returns how many. Removed items are left out. `times`, if given, gets their times.
  std::uint32_t last_items(Row user, double now, HistoryEntry* entries, std::uint32_t most,
                           float* times = nullptr) const {
    if (history_ == 0) return 0;
    if (stored_) [[unlikely]]
      return stored_->last_items(user, now, session_gap_, entries, most, times);
    const std::uint32_t pushed = users_[user].pushed.load(std::memory_order_acquire);
    const std::uint32_t length = std::min(pushed, most);
    // Relaxed, here and in visit(): a reader that meets a writer takes one session for another, once.
    const Visits& visits = visits_[user];
    const bool goes_on = now - visits.last.load(std::memory_order_relaxed) <= session_gap_;
    const std::uint32_t session = visits.session.load(std::memory_order_relaxed);
    std::uint32_t count = 0;
    std::uint32_t slot = pushed % history_;
    for (std::uint32_t age = 0; age < length; ++age) {
      slot = (slot == 0 ? history_ : slot) - 1;
      const std::uint64_t entry = ring(user, slot).load(std::memory_order_relaxed);
      if (item_of(entry) == 0) continue;
      if (times != nullptr) times[count] = time(user, slot);
      entries[count++] = {item_of(entry) - 1, goes_on && (session_of(entry) & ~kDisliked) == session,
                          (session_of(entry) & kDisliked) != 0};
    }
    return count;
  }

  // Whether the user's session goes on at this time. False for a user without items.
  bool goes_on(Row user, double now) const {
    if (history_ == 0) return false;
    if (stored_) [[unlikely]]
      return stored_->goes_on(user, now, session_gap_);
    if (users_[user].pushed.load(std::memory_order_relaxed) == 0) return false;
    return now - visits_[user].last.load(std::memory_order_relaxed) <= session_gap_;
  }
  // Whether nothing is known of the user. REQUIRES: history() > 0, not is_stored().
  bool is_blank(Row user) const { return users_[user].pushed.load(std::memory_order_relaxed) == 0; }
  bool timed() const { return timed_; }

  // REQUIRES: not is_stored().
  const RowSet& seen(Row user) const { return users_[user].seen; }
  // Calls visit(item) for each item seen, in no particular order.
  template <class Visit>
  void for_each_seen(Row user, Visit visit) const {
    if (!stored_) return seen(user).for_each(visit);
    for (const Row item : stored_seen(user)) {
      if (item < stored_->items) visit(item);
    }
  }
  void prefetch(Row user) const { __builtin_prefetch(&users_[user], 1); }

  // Forgets the items for which `gone(row)`, in the states of the first `users` users.
  template <class Predicate>
  void erase_items(Row users, Predicate gone) {
    for (Row user = 0; user < users; ++user) {
      for (std::uint32_t slot = 0; slot < history_; ++slot) {
        const Row item = item_of(ring(user, slot).load(std::memory_order_relaxed));
        if (item != 0 && gone(item - 1)) clear(user, slot);
      }
      users_[user].seen.erase_if(gone, domain_);
      if (keeps_dislikes_) disliked_[user].erase_if(gone, domain_);
    }
  }

  std::size_t memory_bytes(Row users) const {
    std::size_t bytes = users_.memory_bytes() + ring_.memory_bytes() + times_.memory_bytes() + visits_.memory_bytes();
    bytes += disliked_.memory_bytes();
    for (Row user = 0; !stored_ && user < users; ++user) {
      bytes += users_[user].seen.memory_bytes() + (keeps_dislikes_ ? disliked_[user].memory_bytes() : 0);
    }
    return bytes;
  }

 private:
  static constexpr std::uint32_t kDisliked = StoredUsers::kDisliked;

  struct User {
    RowSet seen;
    std::atomic<std::uint32_t> pushed;   // entries so far, kept in [0, 2 * history): modulo history it is the next slot
    std::atomic<std::uint32_t> writing;  // 1 while a writer is at this user
  };

  struct Visits {
    std::atomic<double> last;            // the latest event's time
    std::atomic<std::uint32_t> session;  // its session, counted modulo 2^31
  };

  static std::uint64_t entry(Row item, std::uint32_t session, bool disliked) {
    return std::uint64_t{session | (disliked ? kDisliked : 0)} << 32 | (item + 1);
  }

  // The session of an event of the user at this time. Only the writer whose turn it is writes here.
  std::uint32_t visit(Row user, double timestamp) {
    Visits& visits = visits_[user];
    const bool first = users_[user].pushed.load(std::memory_order_relaxed) == 0;
    const double last = visits.last.load(std::memory_order_relaxed);
    std::uint32_t session = first ? 0 : visits.session.load(std::memory_order_relaxed);
    if (!first && timestamp - last > session_gap_) session = (session + 1) & ~kDisliked;
    visits.session.store(session, std::memory_order_relaxed);
    visits.last.store(first ? timestamp : std::max(last, timestamp), std::memory_order_relaxed);
    return session;
  }

  void push(User& state, Row user, std::uint64_t entry, double timestamp) {
    if (history_ == 0) return;
    const std::uint32_t pushed = state.pushed.load(std::memory_order_relaxed);
    const std::uint32_t slot = pushed % history_;
    ring(user, slot).store(entry, std::memory_order_relaxed);
    // Seconds as a float: within 64 at today's Unix time, where days are asked for.
    if (timed_) times_[place(user, slot)].store(static_cast<float>(timestamp), std::memory_order_relaxed);
    // Release: a reader that sees the new length sees the entry.
    state.pushed.store(pushed + 1 < 2 * history_ ? pushed + 1 : pushed + 1 - history_, std::memory_order_release);
  }

  std::size_t place(Row user, std::uint32_t slot) const { return std::size_t{user} * history_ + slot; }
  std::atomic<std::uint64_t>& ring(Row user, std::uint32_t slot) { return ring_[place(user, slot)]; }
  const std::atomic<std::uint64_t>& ring(Row user, std::uint32_t slot) const { return ring_[place(user, slot)]; }
  void clear(Row user, std::uint32_t slot) {
    ring(user, slot).store(0, std::memory_order_relaxed);
    if (timed_) times_[place(user, slot)].store(0, std::memory_order_relaxed);
  }
  float time(Row user, std::uint32_t slot) const {
    return timed_ ? times_[place(user, slot)].load(std::memory_order_relaxed) : 0.0f;
  }

  EpochDomain& domain_;
  const std::uint32_t history_;
  const double session_gap_;
  const bool timed_, keeps_dislikes_;
  Column<User> users_;
  Column<RowSet> disliked_;
  Column<std::atomic<std::uint64_t>> ring_;
  Column<std::atomic<float>> times_;
  Column<Visits> visits_;
  std::optional<StoredUsers> stored_;  // in place of the columns
};

}  // namespace recengine
