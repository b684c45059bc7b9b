// Movement: how far each row has moved since something derived from it was derived. What is derived may then lag behind
// its row, by a distance that is known, where rows are written faster than anything can be derived anew.
//
// Only while it is tracked, and only of rows that are learned: what is written otherwise (rows set, fitted, given to
// new owners) is marked in `replaced`. A learner looks at `tracked` under its writer's pin, so that once every pin from
// before `track` has left, all that is learned is added.
//
// Who derives resets the row, passes a full fence, then reads it; a learner writes the row, orders its stores, then
// adds. A step that the reader misses is therefore added after the reset, and kept; one that it sees may be added, too,
// which errs on the safe side. So does an addition that a reset interrupts. Of two threads that add to the same row at
// the same instant one may be lost, as a step of theirs may be lost from the row itself.
//
// Thread safety: every method from any thread, but for `reserve` (as Column's).
#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/relaxed.hpp"
#include "storage/chunked.hpp"
#include "storage/dirty_rows.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class Movement {
 public:
  void reserve(std::size_t rows) {
    distances_.reserve(rows);
    replaced.reserve(rows);
  }

  // Steps were taken: how many there were, about. (Racing learners may lose some.)
  void count(std::size_t steps) { steps_.store(this->steps() + steps, std::memory_order_relaxed); }
  std::uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }

  // A distance is |x' - x| + bias_weight |b' - b|.
  void track(float bias_weight) {
    store_relaxed(&bias_weight_, bias_weight);
    tracked_.store(true, std::memory_order_release);  // with its weight
  }
  void stop() { tracked_.store(false, std::memory_order_release); }  // whoever stopped needs it no more
  bool tracked() const { return tracked_.load(std::memory_order_acquire); }
  float bias_weight() const { return load_relaxed(&bias_weight_); }

  // At least the norm of a vector whose square norm was computed as this: see pairs.inl.
  static float norm(float square, std::size_t n) {
    return std::sqrt(square) * (1 + static_cast<float>(n + 64) * 0x1p-23f) + 0x1p-54f;
  }

  // Rounded up: beside a sum 2^20 times as large it still counts.
  void add(Row row, float distance) {
    float& sum = distances_[row];
    store_relaxed(&sum, (load_relaxed(&sum) + distance) * (1 + 0x1p-20f));
  }
  void reset(Row row) { store_relaxed(&distances_[row], 0); }
  float distance(Row row) const { return load_relaxed(&distances_[row]); }
  // Live; of the rows from this one on in its chunk.
  const float* distances(Row first) const { return &distances_[first]; }

  std::size_t memory_bytes() const { return distances_.memory_bytes() + replaced.memory_bytes(); }

  DirtyRows replaced;

 private:
  Column<float> distances_;
  std::atomic<bool> tracked_{false};
  std::atomic<std::uint64_t> steps_{0};
  float bias_weight_ = 0;
};

}  // namespace recengine
