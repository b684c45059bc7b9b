// Trends: how often each item was chosen lately, by several half-lives at once: side columns of the item table.
//
// Kept like Popularity, as logarithms at a common origin, so that time passing writes nothing; those of one item lie
// side by side. The sums over all items are kept as well: an item's share of the choices is 2^(its level - that of the
// sum), whatever the time. Of an item that is removed the sums keep what they have.
//
// Thread safety: all methods, from any thread; additions to items are atomic (none is lost), those to the sums are not.
// `restore` needs a new object.
#pragma once

#include <algorithm>
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
  static constexpr double kHour = 3600, kDay = 24 * kHour;
  // The last one never forgets.
  static constexpr std::array<double, 8> kHalfLives{
      kHour / 6, kHour, 6 * kHour, kDay, 3 * kDay, 7 * kDay, 30 * kDay, std::numeric_limits<double>::infinity()};
  static constexpr std::size_t kCount = kHalfLives.size();
  using Levels = std::array<double, kCount>;
  using Shares = std::array<float, kCount>;

  void reserve(std::size_t items) {
    levels_.reserve(items);
    blocks_.reserve(items / kBlock + 1);
  }
  // kCount levels of each item that lie elsewhere and are only read; -infinity for none, never 0. Column::adopt.
  void adopt(std::span<const double> levels) {
    levels_.adopt(levels);
    is_adopted_ = true;
  }
  void wipe(Row item) { write(levels_[item], none()); }
  void prefetch(Row item) const {
    __builtin_prefetch(&levels_[item], 1);
    __builtin_prefetch(&blocks_[item / kBlock], 1);
  }

  // Counts a choice. Returns the shares that the item had before.
  Shares add(Row item, double timestamp);

  // out[j] = log(1 + n) of row j with the decayed number n of its events at `now`, by one of the half-lives. There is
  // room for as many floats as there are rows, rounded up to a multiple of kRowPadding, 64-byte aligned.
  void log_counts(std::span<const Row> rows, double now, std::size_t half_life, float* out) const;

  // out[h * stride + j] = the share of row j, for rows up to stride, a multiple of kRowPadding; 64-byte aligned.
  void shares(std::span<const Row> rows, float* out, std::size_t stride) const;

  // At least the largest of level + shift over the half-lives; of a row, and of any row of a block of kBlock. Levels
  // only grow, but for those of items that are removed, so that what is known of a block is the highest there ever
  // were.
  static constexpr std::size_t kBlock = 64;
  double highest(Row row, const Levels& shifts) const { return highest(levels_[row], shifts); }
  double highest_of_block(std::size_t block, const Levels& shifts) const {
    return is_adopted_ ? std::numeric_limits<double>::infinity() : highest(blocks_[block], shifts);
  }

  // Logarithms to base 2 of the numbers of events at the origin; -infinity for none.
  Levels levels(Row item) const { return read(levels_[item]); }
  Levels totals() const { return read(totals_); }
  void restore(Row item, const Levels& levels) {
    write(levels_[item], levels);
    raise(item, levels);
  }
  void restore_totals(const Levels& levels) { write(totals_, levels); }

  std::size_t memory_bytes() const { return levels_.memory_bytes() + blocks_.memory_bytes(); }

 private:
  struct alignas(64) Stored {
    std::array<std::atomic<double>, kCount> level;  // as encode_level has them
  };
  static Levels none() {
    Levels levels;
    levels.fill(-std::numeric_limits<double>::infinity());
    return levels;
  }
  static Levels read(const Stored& stored);
  static double highest(const Stored& stored, const Levels& shifts) {
    // As it is stored: none counts as one event at the origin, no less than it is. A tree: a query does it for each
    // row.
    const auto at = [&](std::size_t h) { return stored.level[h].load(std::memory_order_relaxed) + shifts[h]; };
    static_assert(kCount == 8);
    return std::max(std::max(std::max(at(0), at(1)), std::max(at(2), at(3))),
                    std::max(std::max(at(4), at(5)), std::max(at(6), at(7))));
  }
  void raise(Row item, const Levels& levels);  // those of its block
  static void write(Stored& stored, const Levels& levels);

  Column<Stored> levels_, blocks_;
  bool is_adopted_ = false;  // blocks_ says nothing
  Stored totals_{};
};

}  // namespace recengine
