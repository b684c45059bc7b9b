// UserBudget: how many learning steps a user may still take, so that one who floods the engine cannot move what others
// see. A token bucket for each user: it holds the steps of an hour, and fills by as many an hour.
//
// Kept is one number a user, the time at which the bucket will be full again (the generic cell rate algorithm, ITU-T
// I.371: a step is allowed as long as that is no further ahead than the bucket is deep). Time is the engine's clock,
// the latest timestamp: it only moves forward, whatever times a user's events have.
//
// Thread safety: take from any thread; no step is granted twice. wipe and restore while writers are paused.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <limits>

#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class UserBudget {
 public:
  // Steps an hour; 0: off, nothing is stored.
  explicit UserBudget(double budget) : interval_(budget > 0 ? kHour / budget : 0) {}

  bool on() const { return interval_ > 0; }
  void reserve(std::size_t users) {
    if (on()) full_at_.reserve(users);
  }
  void wipe(Row user) {
    if (on()) full_at_[user].store(0, std::memory_order_relaxed);
  }

  // Whether the user may take a step at `now`, which is then taken. REQUIRES: on().
  bool take(Row user, double now) {
    std::atomic<double>& stored = full_at_[user];
    double old = stored.load(std::memory_order_relaxed);
    for (;;) {
      const double full_at = std::max(decode(old), now) + interval_;
      if (full_at - now > kHour + interval_ / 2) return false;  // half a step, for what rounding adds up to
      // Relaxed: the number stands for itself.
      if (stored.compare_exchange_weak(old, encode(full_at), std::memory_order_relaxed)) return true;
    }
  }

  // For saving and loading: when the bucket is full; -infinity for one that was never used.
  double full_at(Row user) const { return decode(full_at_[user].load(std::memory_order_relaxed)); }
  void restore(Row user, double full_at) { full_at_[user].store(encode(full_at), std::memory_order_relaxed); }

  std::size_t memory_bytes() const { return full_at_.memory_bytes(); }

 private:
  static constexpr double kHour = 3600;

  // Zeroed memory is a full bucket.
  static double decode(double stored) { return stored == 0 ? -std::numeric_limits<double>::infinity() : stored; }
  static double encode(double full_at) {
    if (full_at == -std::numeric_limits<double>::infinity()) return 0;
    return full_at == 0 ? std::numeric_limits<double>::min() : full_at;
  }

  const double interval_;  // seconds that a step takes to come back
  Column<std::atomic<double>> full_at_;
};

}  // namespace recengine
