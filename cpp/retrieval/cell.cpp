#include "retrieval/cell.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/relaxed.hpp"

namespace recengine {

namespace {

std::size_t whole_blocks(std::size_t rows) { return std::max<std::size_t>(1, (rows + kBlockRows - 1) / kBlockRows); }

void raise(std::atomic<float>& bound, float value) {
  // Relaxed: read under the cell's sequence lock.
  if (!(value <= bound.load(std::memory_order_relaxed))) bound.store(value, std::memory_order_relaxed);
}

}  // namespace

Cell::Cell(std::size_t rows, std::size_t stride) : stride_(stride), capacity_(whole_blocks(rows) * kBlockRows) {
  const std::size_t blocks = capacity_ / kBlockRows;
  bytes_ = capacity_ * (stride_ + 2 * sizeof(float) + sizeof(Row)) + blocks * 2 * sizeof(float);
  codes_ = static_cast<unsigned char*>(::operator new(bytes_, std::align_val_t{kCacheLine}));
  std::memset(codes_, 0, bytes_);
  scales_ = reinterpret_cast<float*>(codes_ + capacity_ * stride_);
  biases_ = scales_ + capacity_;
  rows_ = reinterpret_cast<std::atomic<Row>*>(biases_ + capacity_);
  for (std::size_t lane = 0; lane < capacity_; ++lane) ::new (rows_ + lane) std::atomic<Row>(kNoRow);
  norms_ = reinterpret_cast<std::atomic<float>*>(rows_ + capacity_);
  errors_ = norms_ + blocks;
  std::uninitialized_value_construct_n(norms_, 2 * blocks);
}

Cell::~Cell() { ::operator delete(codes_, std::align_val_t{kCacheLine}); }

RowCode Cell::encode(std::size_t lane, Row row, const float* values, float bias) {
  RowCode code;
  const std::size_t b = lane / kBlockRows;
  active_kernels().encode_row(values, stride_, codes_ + b * kBlockRows * stride_, lane % kBlockRows, &code);
  store_relaxed(scales_ + lane, code.scale);
  store_relaxed(biases_ + lane, bias);
  for (std::size_t before = 0; before <= b; ++before) raise(norms_[before], code.norm);
  raise(errors_[b], code.error);
  rows_[lane].store(row, std::memory_order_relaxed);
  return code;
}

RowCode Cell::write(std::size_t lane, Row row, const float* values, float bias) {
  lock_.begin_write();
  const RowCode code = encode(lane, row, values, bias);
  lock_.end_write();
  return code;
}

RowCode Cell::append(Row row, const float* values, float bias) {
  // Readers of the lanes before must also see a block's bounds as they were or as they are.
  lock_.begin_write();
  const std::uint32_t lane = size_.load(std::memory_order_relaxed);
  const RowCode code = encode(lane, row, values, bias);
  lock_.end_write();
  // Release: the lane is complete.
  size_.store(lane + 1, std::memory_order_release);
  return code;
}

}  // namespace recengine
