// PopularItems: some of the items that are most likely to be chosen, among those that were offered: a source of
// candidates that costs no look at the whole catalogue.
//
// Thread safety: offer, for_each from any thread. Two threads that offer at once may leave an item twice, or one of
// two: readers do not care. erase_if and restore while writers are paused.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <span>

#include "kernels/kernels.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class PopularItems {
 public:
  static constexpr std::size_t kSize = 32;

  // Takes the item in place of the least likely one, if that is less likely: predict(rows, out), where there is room
  // for kOffered scores, 64-byte aligned.
  static constexpr std::size_t kOffered = kSize + kRowPadding;
  template <class Predict>
  void offer(Row item, Predict predict) {
    std::array<Row, kSize + 1> rows;
    for (std::size_t s = 0; s < kSize; ++s) {
      // Slots that are zero are free; others hold a row + 1. Relaxed, here and below: a row stands for itself.
      const Row entry = slots_[s].load(std::memory_order_relaxed);
      if (entry == item + 1) return;
      if (entry == 0) return slots_[s].store(item + 1, std::memory_order_relaxed);
      rows[s] = entry - 1;
    }
    rows[kSize] = item;
    alignas(64) std::array<float, kOffered> scores;
    predict(std::span<const Row>(rows), scores.data());
    const auto least = std::min_element(scores.begin(), scores.begin() + kSize);
    if (scores[kSize] > *least) {
      slots_[static_cast<std::size_t>(least - scores.begin())].store(item + 1, std::memory_order_relaxed);
    }
  }

  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& slot : slots_) {
      const Row entry = slot.load(std::memory_order_relaxed);
      if (entry != 0) visit(entry - 1);
    }
  }

  template <class Predicate>
  void erase_if(Predicate gone) {
    for (auto& slot : slots_) {
      const Row entry = slot.load(std::memory_order_relaxed);
      if (entry != 0 && gone(entry - 1)) slot.store(0, std::memory_order_relaxed);
    }
  }

  // For saving and loading: row + 1, or 0.
  Row entry(std::size_t slot) const { return slots_[slot].load(std::memory_order_relaxed); }
  void restore(std::size_t slot, Row entry) { slots_[slot].store(entry, std::memory_order_relaxed); }

 private:
  std::array<std::atomic<Row>, kSize> slots_{};
};

}  // namespace recengine
