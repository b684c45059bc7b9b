// PopularItems: some of the items that are chosen most, as the ranker met them among its candidates: a source of
// candidates that costs no look at the whole catalogue.
//
// Thread safety: offer, for_each from any thread. Two threads that offer at once may leave an item twice, or one of
// two: readers do not care. erase_if and restore while writers are paused.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "storage/id_map.hpp"

namespace recengine {

class PopularItems {
 public:
  static constexpr std::size_t kSize = 32;

  // Slots that are zero are free; others hold a row + 1. Relaxed, here and below: a row stands for itself.
  // Takes the items whose level(item) is above that of what is here. `level` is asked for rows that were offered once.
  template <class Rows, class Level>
  void offer(const Rows& rows, Level level) {
    std::array<double, kSize> levels;
    std::array<Row, kSize> held;
    for (std::size_t s = 0; s < kSize; ++s) {
      held[s] = slots_[s].load(std::memory_order_relaxed);
      levels[s] = held[s] == 0 ? -1e300 : level(held[s] - 1);
    }
    std::size_t least = least_of(levels);
    for (const Row row : rows) {
      const double value = level(row);
      if (!(value > levels[least])) continue;
      bool is_held = false;
      for (const Row other : held) is_held |= other == row + 1;
      if (is_held) continue;
      held[least] = row + 1;
      levels[least] = value;
      slots_[least].store(row + 1, std::memory_order_relaxed);
      least = least_of(levels);
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
  static std::size_t least_of(const std::array<double, kSize>& levels) {
    std::size_t least = 0;
    for (std::size_t s = 1; s < kSize; ++s) least = levels[s] < levels[least] ? s : least;
    return least;
  }

  std::array<std::atomic<Row>, kSize> slots_{};
};

}  // namespace recengine
