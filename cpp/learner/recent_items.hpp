// RecentItems: the items of the last kWindow events, so that negatives can be drawn as popular items are, now.
//
// Thread safety: push and draw from any thread; wipe while no learner runs. Racing pushes keep the counts exact: the
// window is the multiset of the slots, and each count is the number of slots that hold the item once the pushes have
// returned.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class RecentItems {
 public:
  static constexpr std::uint32_t kWindow = 8192;

  RecentItems() {
    for (auto& slot : window_) slot.store(kNoRow, std::memory_order_relaxed);
  }

  void reserve(std::size_t items) { count_.reserve(items); }

  // Relaxed but where it says otherwise: rows and counts are statistics, and what a row holds was published with its
  // id.
  void push(Row item) {
    const std::uint64_t position = pushed_.fetch_add(1, std::memory_order_relaxed);
    // Counted before it can be evicted (release, and acquire by whoever evicts it): no count is ever below zero.
    count_[item].fetch_add(1, std::memory_order_relaxed);
    const Row evicted = window_[position % kWindow].exchange(item, std::memory_order_acq_rel);
    if (evicted != kNoRow) count_[evicted].fetch_sub(1, std::memory_order_relaxed);
  }

  // How many slots are filled.
  std::uint32_t size() const {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(pushed_.load(std::memory_order_relaxed), kWindow));
  }
  // The item in a slot below size(), or kNoRow if it was removed.
  Row at(std::uint32_t slot) const { return window_[slot].load(std::memory_order_relaxed); }
  // How many slots hold the item.
  std::uint32_t count(Row item) const { return count_[item].load(std::memory_order_relaxed); }

  // Forgets the items for which `gone(row)`. REQUIRES: no push runs.
  template <class Predicate>
  void erase_if(Predicate gone) {
    for (auto& slot : window_) {
      const Row row = slot.load(std::memory_order_relaxed);
      if (row != kNoRow && gone(row)) {
        slot.store(kNoRow, std::memory_order_relaxed);
        count_[row].store(0, std::memory_order_relaxed);
      }
    }
  }

  std::uint64_t pushed() const { return pushed_.load(std::memory_order_relaxed); }
  // For loading: the window as saved. REQUIRES: a new object with room for the rows.
  void restore(std::uint64_t pushed, const std::array<Row, kWindow>& window) {
    pushed_.store(pushed, std::memory_order_relaxed);
    for (std::uint32_t slot = 0; slot < kWindow; ++slot) {
      window_[slot].store(window[slot], std::memory_order_relaxed);
      if (window[slot] != kNoRow) count_[window[slot]].fetch_add(1, std::memory_order_relaxed);
    }
  }

  std::size_t memory_bytes() const { return sizeof(window_) + count_.memory_bytes(); }

 private:
  std::atomic<std::uint64_t> pushed_{0};
  std::array<std::atomic<Row>, kWindow> window_;
  Column<std::atomic<std::uint32_t>> count_;
};

}  // namespace recengine
