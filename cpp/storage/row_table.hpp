// RowTable: rows of floats, or of halves (fp16), which take half the memory. The only place that knows which.
//
// Callers see floats: halves are converted exactly when they are read, and rounded when they are written. So every sum
// formed over a table of halves has the bits that the same sum over a table of floats of those values would have.
//
// Thread safety: reserve as Column's; everything else from any thread, rows are read and written without locks by the
// kernels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kernels/kernels.hpp"
#include "storage/aligned.hpp"
#include "storage/chunked.hpp"
#include "storage/id_map.hpp"
#include "storage/random.hpp"

namespace recengine {

enum class Storage : std::uint32_t { kFp32, kFp16 };

class RowTable {
 public:
  // Rows of `stride` elements (a multiple of 16), zero-filled, on huge pages where chunks are large.
  explicit RowTable(std::size_t stride, Storage storage = Storage::kFp32)
      : stride_(stride),
        storage_(storage),
        row_bytes_(stride * (storage == Storage::kFp32 ? sizeof(float) : sizeof(Half))) {}
  RowTable(const RowTable&) = delete;
  RowTable& operator=(const RowTable&) = delete;

  void reserve(std::size_t rows) { chunks_.reserve(rows, row_bytes()); }  // as Column::reserve

  // Rows as they lie in memory of somebody else, padded to the stride: as Column::adopt.
  void adopt(std::span<const std::byte> rows) { chunks_.adopt(rows.data(), rows.size() / row_bytes(), row_bytes()); }

  std::size_t stride() const { return stride_; }
  Storage storage() const { return storage_; }
  std::size_t row_bytes() const { return row_bytes_; }
  std::size_t capacity() const { return chunks_.capacity(); }
  std::size_t memory_bytes() const { return chunks_.memory_bytes(); }

  // REQUIRES, here and below: rows are below capacity(). Vectors are of `stride` floats, 64-byte aligned.
  void load(Row row, float* x) const {
    visit([&]<class Element>(const RowKernels<Element>& kernels) { kernels.load(x, at<Element>(row), stride_); });
  }
  void store(Row row, const float* x) {
    visit([&]<class Element>(const RowKernels<Element>& kernels) { kernels.store(at<Element>(row), x, stride_); });
  }

  float dot(const float* query, Row row) const {
    return visit([&]<class Element>(const RowKernels<Element>& kernels) {
      return kernels.dot(query, at<Element>(row), stride_);
    });
  }

  // out[i] = <query, rows[i]>. Slots are this table's: who has them saves looking the rows up again.
  void gather_dot(const float* query, std::span<const Row> rows, float* out) const { gather(query, rows, out); }
  void gather_dot(const float* query, std::span<const Slot> slots, float* out) const { gather(query, slots, out); }

  // Rows [first, first + count) against one query or several, with their biases: see the kernels.
  // REQUIRES: the rows are of one chunk, as those of a liveness word are.
  float scan(const float* query, Row first, std::size_t count, const float* bias, float* out) const {
    return visit([&]<class Element>(const RowKernels<Element>& kernels) {
      return kernels.scan(query, at<Element>(first), bias, count, stride_, out);
    });
  }
  void scan_many(const float* queries, std::size_t num_queries, Row first, std::size_t count, const float* bias,
                 float* out, std::size_t out_stride) const {
    visit([&]<class Element>(const RowKernels<Element>& kernels) {
      kernels.scan_many(queries, num_queries, at<Element>(first), bias, count, stride_, out, out_stride);
    });
  }
  void square_norms(Row first, std::size_t count, float* out) const {
    visit([&]<class Element>(const RowKernels<Element>& kernels) {
      kernels.square_norms(at<Element>(first), count, stride_, out);
    });
  }
  float square_norm(Row row) const {
    float square;
    square_norms(row, 1, &square);
    return square;
  }

  // x += scale * row
  void add_scaled(float* x, Row row, float scale) const {
    visit([&]<class Element>(const RowKernels<Element>& kernels) {
      kernels.add_scaled(x, at<Element>(row), scale, stride_);
    });
  }

  // step(values) moves a row in place: the live one, if it is of floats. Halves are stepped in `scratch` and rounded
  // back at random, as a function of the seed and the row alone. REQUIRES: `slot` is the row's.
  template <class Step>
  void modify(Row row, const Slot& slot, std::uint64_t seed, AlignedFloats& scratch, Step step) {
    if (storage_ == Storage::kFp32) return step(slot.row);
    const Kernels& kernels = active_kernels();
    Half* const values = at<Half>(slot);
    scratch.resize(stride_);
    kernels.halves.load(scratch.data(), values, stride_);
    step(scratch.data());
    const auto key = static_cast<std::uint32_t>(Random(seed, row).next() >> 32);
    kernels.store_stochastic(values, scratch.data(), stride_, key);
  }

  // Calls visit(elements) for the rows [0, rows), padding included, some at a time. REQUIRES: nobody writes them.
  template <class Element, class Visit>
  void for_each_piece(Row rows, Visit visit) const {
    constexpr std::size_t kPiece = 4096;
    for_each_run(rows, [&](std::size_t first, std::size_t count) {
      for (std::size_t done = 0; done < count; done += kPiece) {
        const std::size_t size = std::min(kPiece, count - done);
        visit(std::span<const Element>(at<Element>(static_cast<Row>(first + done)), size * stride_));
      }
    });
  }

  // Starts to load the row, or of a long one what comes before the hardware follows by itself.
  void prefetch(Row row) const {
    constexpr std::size_t kFirstBytes = 1024;
    const std::byte* const bytes = address(locate(row));
    for (std::size_t b = 0; b < std::min(row_bytes(), kFirstBytes); b += kCacheLine) __builtin_prefetch(bytes + b);
  }

  // Where a row lies: 64-byte aligned floats, or 32-byte aligned halves. Rows of one chunk lie one behind the other.
  const std::byte* address(ChunkPosition position) const { return start(position); }
  // The same for a Slot.
  float* slot_row(ChunkPosition position) { return reinterpret_cast<float*>(start(position)); }

 private:
  std::byte* start(ChunkPosition position) const {
    return chunks_.start(position.chunk) + position.offset * row_bytes();
  }
  template <class Element>
  Element* at(Row row) const {
    return reinterpret_cast<Element*>(start(locate(row)));
  }
  template <class Element>
  Element* at(const Slot& slot) const {
    return reinterpret_cast<Element*>(slot.row);
  }

  template <class Where>
  void gather(const float* query, std::span<const Where> rows, float* out) const {
    visit([&]<class Element>(const RowKernels<Element>& kernels) {
      constexpr std::size_t kTogether = 64;
      std::array<const Element*, kTogether> addresses;
      for (std::size_t first = 0; first < rows.size(); first += kTogether) {
        const std::size_t count = std::min(kTogether, rows.size() - first);
        for (std::size_t i = 0; i < count; ++i) addresses[i] = at<Element>(rows[first + i]);
        kernels.gather_dot(query, addresses.data(), count, stride_, out + first);
      }
    });
  }

  // function(kernels of the rows' element)
  template <class Function>
  std::invoke_result_t<Function, const RowKernels<float>&> visit(Function function) const {
    return storage_ == Storage::kFp32 ? function(row_kernels<float>()) : function(row_kernels<Half>());
  }

  ChunkDirectory chunks_;
  const std::size_t stride_;
  const Storage storage_;
  const std::size_t row_bytes_;
};

}  // namespace recengine
