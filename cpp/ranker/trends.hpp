// Trends: how often each item was chosen lately, by several half-lives at once: side columns of the item table.
//
// Kept like Popularity, as logarithms at a common origin, so that time passing writes nothing; those of one item lie
// side by side.
//
// Thread safety: all methods, from any thread; additions are atomic (none is lost). `restore` needs a new object.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <limits>
#include <span>

#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class Trends {
 public:
  static constexpr double kDay = 86400;
  // The last one never forgets.
  static constexpr std::array<double, 4> kHalfLives{kDay, 7 * kDay, 30 * kDay, std::numeric_limits<double>::infinity()};
  static constexpr std::size_t kCount = kHalfLives.size();
  using Levels = std::array<double, kCount>;

  void reserve(std::size_t items) { levels_.reserve(items); }
  // kCount levels of each item that lie elsewhere and are only read; -infinity for none, never 0. Column::adopt.
  void adopt(std::span<const double> levels) { levels_.adopt(levels); }
  void wipe(Row item) { restore(item, none()); }

  // One event of each item, at most kBatch.
  static constexpr std::size_t kBatch = 16;
  void add(const Row* items, const double* timestamps, std::size_t count);

  // out[h][j] = log(1 + n) of row j with the decayed number n of its events at `now`. Each of `out` has room for as
  // many floats as there are rows, rounded up to a multiple of kRowPadding, 64-byte aligned.
  void log_counts(std::span<const Row> rows, double now, const std::array<float*, kCount>& out) const;

  // Logarithms to base 2 of the numbers of events at the origin; -infinity for none.
  Levels levels(Row item) const;
  void restore(Row item, const Levels& levels);

  std::size_t memory_bytes() const { return levels_.memory_bytes(); }

 private:
  struct Stored {
    std::array<std::atomic<double>, kCount> level;  // as encode_level has them
  };
  static Levels none() {
    Levels levels;
    levels.fill(-std::numeric_limits<double>::infinity());
    return levels;
  }

  Column<Stored> levels_;
};

}  // namespace recengine
