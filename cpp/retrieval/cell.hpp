// Cell: int8 codes of some rows, in blocks of 16, with what bounds the scores in each block.
//
// Which rows a cell holds never changes, but that the last cell of a directory takes newcomers at its end. Codes change
// in place when their row was learned; the sequence lock tells readers. A block's norm and error are running maxima:
// they only grow until the cell is built anew. A norm also bounds the blocks behind, so that a scan of a cell that was
// built longest row first can stop at the first block that is too short.
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

class Cell {
 public:
  Cell(std::size_t rows, std::size_t stride);
  ~Cell();
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  // Lanes in use: [0, size()). Acquire: they are complete.
  std::size_t size() const { return size_.load(std::memory_order_acquire); }
  std::size_t capacity() const { return capacity_; }
  std::size_t memory_bytes() const { return bytes_; }

  const unsigned char* block(std::size_t b) const { return codes_ + b * kBlockRows * stride_; }
  const float* scales(std::size_t b) const { return scales_ + b * kBlockRows; }
  const float* biases(std::size_t b) const { return biases_ + b * kBlockRows; }
  // kNoRow beyond size().
  Row row(std::size_t lane) const { return rows_[lane].load(std::memory_order_relaxed); }
  // At least the norm of every row in this block and those behind it.
  float block_norm(std::size_t b) const { return norms_[b].load(std::memory_order_relaxed); }
  float block_error(std::size_t b) const { return errors_[b].load(std::memory_order_relaxed); }
  const SequenceLock& lock() const { return lock_; }

  // Starts to load what a scan looks at first. REQUIRES: this object is in the cache, or be patient.
  void prefetch() const {
    __builtin_prefetch(norms_);
    __builtin_prefetch(scales_);
    for (std::size_t line = 0; line < 4; ++line) __builtin_prefetch(codes_ + line * kCacheLine);
  }

  // Codes a copy of the row into a lane below size(), or at its end where there is room: append.
  RowCode write(std::size_t lane, Row row, const float* values, float bias);
  RowCode append(Row row, const float* values, float bias);

 private:
  RowCode encode(std::size_t lane, Row row, const float* values, float bias);

  const std::size_t stride_;
  const std::size_t capacity_;
  std::size_t bytes_;
  SequenceLock lock_;
  std::atomic<std::uint32_t> size_{0};
  // One piece of memory, codes first.
  unsigned char* codes_;
  float* scales_;
  float* biases_;
  std::atomic<Row>* rows_;
  std::atomic<float>* norms_;   // of each block, not increasing
  std::atomic<float>* errors_;  // of each block, at least the largest |x - decoded|
};

}  // namespace recengine
