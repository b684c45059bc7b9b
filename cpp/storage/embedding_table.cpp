#include "storage/embedding_table.hpp"

#include <stdexcept>
#include <vector>

#include "kernels/relaxed.hpp"
#include "storage/aligned.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {}  // namespace

EmbeddingTable::EmbeddingTable(EpochDomain& domain, std::size_t dim, Initializer initializer, Storage storage)
    : ids(domain),
      rows(padded(dim), storage),
      domain_(domain),
      dim_(dim),
      stride_(padded(dim)),
      initializer_(initializer),
      zeros_(stride_, 0.0f) {}

void EmbeddingTable::attach(std::function<void(std::size_t)> reserve, std::function<void(Row)> wipe) {
  attached_.emplace_back(std::move(reserve), std::move(wipe));
}

void EmbeddingTable::grow_to(std::size_t count) {
  if (count >= kNoRow) throw std::length_error("the table is full: 2^32 - 1 rows");
  if (count <= rows.capacity()) return;
  // Whole chunks at once, so that columns with another number of elements a row cover the same rows.
  std::size_t chunks = 0;
  while (chunk_begin(chunks) < count) ++chunks;
  count = chunk_begin(chunks);
  bias.reserve(count);
  accumulators.reserve(count);
  live_.reserve(count / 64 + 1);
  reserve_derived(count);
  rows.reserve(count);  // last: its capacity vouches for the others
}

void EmbeddingTable::reserve_derived(std::size_t count) {
  dirty.reserve(count);
  movement.reserve(count);
  for (const auto& [reserve, wipe] : attached_) reserve(count);
}

void EmbeddingTable::adopt(const Stored& stored) {
  const std::lock_guard lock(slots_mutex_);
  rows.adopt(stored.rows);
  bias.adopt(stored.bias);
  live_.adopt(stored.live);
  std::size_t chunks = 0;
  while (chunk_begin(chunks) < stored.bias.size()) ++chunks;
  reserve_derived(chunk_begin(chunks));
  count_.store(static_cast<Row>(stored.bias.size()), std::memory_order_release);  // as in take_slot
}

void EmbeddingTable::reserve(std::size_t extra) {
  ids.reserve(extra);
  const std::lock_guard lock(slots_mutex_);
  grow_to(count_.load(std::memory_order_relaxed) + extra);
}

Row EmbeddingTable::take_slot() {
  AlignedFloats fresh(initializer_.scale > 0 ? stride_ : 0, 0.0f);  // before a slot is taken: it may throw
  Row row = kNoRow;
  {
    const std::lock_guard lock(slots_mutex_);
    if (!recycled_.empty() && domain_.passed(recycled_.front().first)) {
      row = recycled_.front().second;
      recycled_.pop_front();
    } else {
      row = count_.load(std::memory_order_relaxed);
      grow_to(std::size_t{row} + 1);
      // Release: who reads this count sees the chunks that hold it.
      count_.store(row + 1, std::memory_order_release);
    }
  }
  if (!fresh.empty()) {
    Random random(initializer_.seed, row);
    for (std::size_t d = 0; d < dim_; ++d) fresh[d] = initializer_.scale * (2 * random.uniform() - 1);
    rows.store(row, fresh.data());
  }
  return row;
}

void EmbeddingTable::retire_slot(Row row) {
  live_[row / 64].fetch_and(~(std::uint64_t{1} << (row % 64)), std::memory_order_release);
  rows.store(row, zeros_.data());
  store_relaxed(&bias[row], 0.0f);
  store_relaxed(&accumulators[row].row, 0.0f);
  store_relaxed(&accumulators[row].bias, 0.0f);
  for (const auto& [reserve, wipe] : attached_) wipe(row);
}

void EmbeddingTable::recycle(const std::vector<Row>& freed) {
  Recycled memory(freed.size());
  for (const Row row : freed) recycle(row, memory);
}

void EmbeddingTable::recycle(Row row, Recycled& memory) {
  const std::lock_guard lock(slots_mutex_);
  memory.front() = {domain_.ticket(), row};
  recycled_.splice(recycled_.end(), memory, memory.begin());
}

std::vector<Row> EmbeddingTable::free_slots() const {
  const std::lock_guard lock(slots_mutex_);
  std::vector<Row> slots;
  for (const auto& [ticket, row] : recycled_) slots.push_back(row);
  return slots;
}

void EmbeddingTable::restore_slots(Row count, const std::vector<Row>& free_slots) {
  const std::lock_guard lock(slots_mutex_);
  grow_to(count);
  count_.store(count, std::memory_order_release);
  for (const Row row : free_slots) recycled_.emplace_back(domain_.ticket(), row);
}

std::size_t EmbeddingTable::memory_bytes() const {
  return ids.memory_bytes() + rows.memory_bytes() + bias.memory_bytes() + accumulators.memory_bytes() +
         live_.memory_bytes() + dirty.memory_bytes() + movement.memory_bytes();
}

}  // namespace recengine
