// Cell: 4-bit codes of some rows, in blocks of 16, with what bounds their scores.
//
// Which rows a cell holds never changes, but that the last cell of a directory takes newcomers at its end. Codes change
// in place when their row was learned; the sequence lock tells readers. Bounds are running maxima: they only grow until
// the cell is built anew. A block's norm also bounds the blocks behind, so that a scan of a cell that was built longest
// row first can stop at the first block that is too short. Lengths and errors are in scales of their rows, in which
// they hardly differ: one of each for the whole cell.
//
// Thread safety: readers beside one writer (the holder of the index's lock).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "kernels/kernels.hpp"
#include "storage/fence.hpp"
#include "storage/id_map.hpp"
#include "storage/memory.hpp"

namespace recengine {

class alignas(kCacheLine) Cell {
 public:
  Cell(std::size_t rows, std::size_t stride);
  ~Cell();
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  // Lanes in use: [0, size()). Acquire: they are complete.
  std::size_t size() const { return size_.load(std::memory_order_acquire); }
  std::size_t blocks() const { return (size() + kBlockRows - 1) / kBlockRows; }
  std::size_t capacity() const { return capacity_; }
  // Of what it points to.
  std::size_t memory_bytes() const {
    const std::size_t blocks = capacity_ / kBlockRows;
    return blocks * (block_bytes(stride_) + sizeof(float)) + capacity_ * (sizeof(Row) + sizeof(float));
  }

  const unsigned char* block(std::size_t b) const { return blocks_ + b * block_bytes(stride_); }
  // kNoRow beyond size().
  Row row(std::size_t lane) const { return rows_[lane].load(std::memory_order_relaxed); }
  // At least the norm of every row in this block and those behind it.
  float block_norm(std::size_t b) const { return norms_[b].load(std::memory_order_relaxed); }
  // At most the norm of each row of this block and those behind it, or 0.
  const float* least_norms(std::size_t b) const { return least_norms_ + b * kBlockRows; }
  // At least VectorCode's of every row.
  float length() const { return length_.load(std::memory_order_relaxed); }
  float error() const { return error_.load(std::memory_order_relaxed); }
  const SequenceLock& lock() const { return lock_; }

  // Starts to load what a scan looks at first. REQUIRES: this object is in the cache, or be patient.
  void prefetch() const {
    __builtin_prefetch(norms_);
    __builtin_prefetch(norms_ + blocks() - 1);
    for (std::size_t line = 0; line < 4; ++line) __builtin_prefetch(blocks_ + line * kCacheLine);
  }

  // The same of the rows of a block, which are looked at where a scan hits.
  void prefetch_rows(std::size_t b) const { __builtin_prefetch(rows_ + b * kBlockRows); }

  // Codes a copy of the row into a lane below size(), or at its end where there is room: append.
  VectorCode write(std::size_t lane, Row row, const float* values, float bias);
  VectorCode append(Row row, const float* values, float bias);

 private:
  VectorCode encode(std::size_t lane, Row row, const float* values, float bias);

  const std::size_t stride_;
  const std::size_t capacity_;
  SequenceLock lock_;
  std::atomic<std::uint32_t> size_{0};
  std::atomic<float> length_{0};
  std::atomic<float> error_{0};
  // One piece of memory.
  unsigned char* blocks_;
  std::atomic<Row>* rows_;
  float* least_norms_;         // of each lane; shared: accessed by kernels and store_relaxed
  std::atomic<float>* norms_;  // of each block, not increasing
};
static_assert(sizeof(Cell) == kCacheLine);  // found by one load

}  // namespace recengine
