#include "retrieval/cell.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/relaxed.hpp"
#include "retrieval/coded_query.hpp"
#include "storage/arena.hpp"

namespace recengine {

namespace {

std::size_t whole_blocks(std::size_t rows) { return std::max<std::size_t>(1, (rows + kBlockRows - 1) / kBlockRows); }

// Of the norms between them, squares neither underflow nor overflow. VectorCode's is too large by less than 2^-23 for
// each dimension and 16 more.
float least_norm(float norm, std::size_t n) {
  return norm > 1e-15f && norm < 1e18f ? norm * (1 - static_cast<float>(n + 32) * 0x1p-22f) : 0.0f;
}

void raise(std::atomic<float>& bound, float value) {
  // Relaxed: read under the cell's sequence lock.
  if (!(value <= bound.load(std::memory_order_relaxed))) bound.store(value, std::memory_order_relaxed);
}

}  // namespace

Cell::Cell(std::size_t rows, std::size_t stride) : stride_(stride), capacity_(whole_blocks(rows) * kBlockRows) {
  const std::size_t blocks = capacity_ / kBlockRows, bytes = memory_bytes();
  blocks_ = static_cast<unsigned char*>(Arena::shared().allocate(bytes));
  std::memset(blocks_, 0, bytes);
  rows_ = reinterpret_cast<std::atomic<Row>*>(blocks_ + blocks * block_bytes(stride_));
  for (std::size_t lane = 0; lane < capacity_; ++lane) ::new (rows_ + lane) std::atomic<Row>(kNoRow);
  least_norms_ = reinterpret_cast<float*>(rows_ + capacity_);
  norms_ = reinterpret_cast<std::atomic<float>*>(least_norms_ + capacity_);
  std::uninitialized_value_construct_n(norms_, blocks);
}

Cell::~Cell() { Arena::shared().deallocate(blocks_, memory_bytes()); }

VectorCode Cell::encode(std::size_t lane, Row row, const float* values, float bias) {
  VectorCode code;
  const std::size_t b = lane / kBlockRows;
  bias = CodedQuery::coded_bias(bias);
  active_kernels().encode_row(values, stride_, bias, blocks_ + b * block_bytes(stride_), lane % kBlockRows, &code);
  for (std::size_t before = 0; before <= b; ++before) raise(norms_[before], code.norm);
  raise(length_, code.length);
  raise(error_, code.error);
  rows_[lane].store(row, std::memory_order_relaxed);
  store_relaxed(&least_norms_[lane], least_norm(code.norm, stride_));
  return code;
}

VectorCode Cell::write(std::size_t lane, Row row, const float* values, float bias) {
  lock_.begin_write();
  const VectorCode code = encode(lane, row, values, bias);
  lock_.end_write();
  return code;
}

VectorCode Cell::append(Row row, const float* values, float bias) {
  // Readers of the lanes before must also see a block's bounds as they were or as they are.
  lock_.begin_write();
  const std::uint32_t lane = size_.load(std::memory_order_relaxed);
  const VectorCode code = encode(lane, row, values, bias);
  lock_.end_write();
  // Release: the lane is complete.
  size_.store(lane + 1, std::memory_order_release);
  return code;
}

}  // namespace recengine
