// ItemFeatures: a caller's own numbers of each item, which are signals of the ranker like its own. Items that were
// given none have zeros.
//
// Thread safety: all methods, from any thread; a reader may meet one feature before a change and another after it.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/relaxed.hpp"
#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class ItemFeatures {
 public:
  explicit ItemFeatures(std::size_t count) : count_(count) {}

  std::size_t count() const { return count_; }
  void reserve(std::size_t items) { values_.reserve(items * count_); }
  // Values that lie elsewhere, those of an item side by side, and are only read. Column::adopt.
  void adopt(std::span<const float> values) { values_.adopt(values); }
  void wipe(Row item) {
    for (std::size_t f = 0; f < count_; ++f) set(item, f, 0);
  }
  float get(Row item, std::size_t feature) const { return load_relaxed(&values_[place(item, feature)]); }
  void set(Row item, std::size_t feature, float value) { store_relaxed(&values_[place(item, feature)], value); }

  std::size_t memory_bytes() const { return values_.memory_bytes(); }

 private:
  std::size_t place(Row item, std::size_t feature) const { return std::size_t{item} * count_ + feature; }

  const std::size_t count_;
  Column<float> values_;
};

}  // namespace recengine
