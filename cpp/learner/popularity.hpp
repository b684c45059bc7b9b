// Popularity: how often each item was chosen, older events counting less by a half-life.
//
// An item's count at time t is sum_e 2^(-(t - t_e) / half_life). Kept is its logarithm at a common origin,
//   L_i = log2 sum_e 2^(t_e / half_life),
// so that time passing shifts every L_i alike and writes nothing, the order of the items is the order of the L_i, and
// nothing overflows however long the stream. Counts at `now` are 2^(L_i - now / half_life).
//
// Thread safety: all methods, from any thread; additions are atomic (none is lost).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/kernels.hpp"
#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

// A zeroed column means "no events": levels are stored as such, with zero standing for -infinity (and a level of
// exactly zero, a single event at the origin, for the smallest positive number).
inline double decode_level(double stored) { return stored == 0 ? -std::numeric_limits<double>::infinity() : stored; }
inline double encode_level(double level) {
  if (std::isinf(level)) return 0;
  return level == 0 ? std::numeric_limits<double>::min() : level;
}
// In files: -infinity for none, and never 0, so that a level can be read where it lies.
inline double stored_level(double level) { return std::isinf(level) ? level : encode_level(level); }

class Popularity {
 public:
  explicit Popularity(double half_life) : half_life_(half_life) {}

  void reserve(std::size_t items) { level_.reserve(items); }
  // Levels that lie elsewhere and are only read; -infinity for none, never 0. Column::adopt.
  void adopt(std::span<const double> levels) { level_.adopt(levels); }
  void wipe(Row item) { level_[item].store(0, std::memory_order_relaxed); }

  void prefetch(Row item) const { __builtin_prefetch(&level_[item], 1); }

  // One event of each item, at most kBatch, several logarithms at once.
  static constexpr std::size_t kBatch = 64;
  void add(const Row* items, const double* timestamps, std::size_t count) {
    std::array<std::atomic<double>*, kBatch> levels;
    std::array<double, kBatch> olds, nows, fresh;
    for (std::size_t e = 0; e < count; ++e) {
      levels[e] = &level_[items[e]];
      olds[e] = decode_level(levels[e]->load(std::memory_order_relaxed));
      nows[e] = scaled(timestamps[e]);
    }
    active_kernels().log2_add(olds.data(), nows.data(), count, fresh.data());
    for (std::size_t e = 0; e < count; ++e) {
      // Where another event came first, of the batch or of another thread, again. Relaxed: the value stands for itself,
      // nothing is published through it.
      double old = encode_level(olds[e]);
      while (!levels[e]->compare_exchange_strong(old, encode_level(fresh[e]), std::memory_order_relaxed)) {
        olds[e] = decode_level(old);
        active_kernels().log2_add(&olds[e], &nows[e], 1, &fresh[e]);
      }
    }
  }

  // L_i: orders items at any time; -infinity for items without events.
  double level(Row item) const { return decode_level(level_[item].load(std::memory_order_relaxed)); }
  // For loading. REQUIRES: a level that was finite or -infinity when saved.
  void restore(Row item, double level) { level_[item].store(encode_level(level), std::memory_order_relaxed); }
  // The decayed count behind a level. Capped, should `now` be long before the events.
  static constexpr double kMostCount = 1e30;
  double count(double level, double now) const { return std::min(std::exp2(level - scaled(now)), kMostCount); }

  std::size_t memory_bytes() const { return level_.memory_bytes(); }

 private:
  double scaled(double timestamp) const { return timestamp / half_life_; }

  const double half_life_;
  Column<std::atomic<double>> level_;
};

}  // namespace recengine
