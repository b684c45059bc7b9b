// Chunked storage: tables that grow while readers read, and never move an element.
//
// Chunk c holds kFirst << c elements, one chunk about as large as all before it together, so that a fixed directory of
// pointers reaches 2^32 rows, small tables stay small, and large ones are a few long runs that a scan reads straight
// through.
//
// Thread safety: any number of readers beside one growing thread (`reserve` is serialised by the caller). `reserve`
// publishes a chunk with release; readers load the directory with acquire. What the elements hold is the business of
// their owner. A table whose rows lie in a mapped file (`adopt`) is read only.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "storage/memory.hpp"

namespace recengine {

inline constexpr std::size_t kFirst = 64;  // a power of two; 64, so that a 64-row liveness word never straddles chunks
inline constexpr std::size_t kMaxChunks = 32;

struct ChunkPosition {
  std::uint32_t chunk;
  std::uint32_t offset;
};

// With kFirst added, a row's highest bit names its chunk and the bits below are its place there.
inline ChunkPosition locate(std::size_t row) {
  const std::uint64_t shifted = std::uint64_t{row} + kFirst;
  // Its highest bit, in the form that compilers turn into one instruction: several look-ups go into every event.
  const unsigned top = 63u ^ static_cast<unsigned>(__builtin_clzll(shifted));
  return {top - static_cast<unsigned>(std::bit_width(kFirst) - 1),
          static_cast<std::uint32_t>(shifted ^ (std::uint64_t{1} << top))};
}

inline constexpr std::size_t chunk_begin(std::size_t chunk) { return (kFirst << chunk) - kFirst; }
inline constexpr std::size_t chunk_rows(std::size_t chunk) { return kFirst << chunk; }

// The growing directory that Column and RowTable (row_table.hpp) share; it knows bytes only.
class ChunkDirectory {
 public:
  void reserve(std::size_t rows, std::size_t row_bytes) {
    if (rows > chunk_begin(kMaxChunks - 1)) throw std::bad_alloc();
    if (adopted_) return;
    const std::size_t before = chunks_;
    std::size_t after = before;
    while (chunk_begin(after) < rows) ++after;
    std::array<Memory, kMaxChunks> fresh;  // all or nothing: every chunk is there before the first is published
    for (std::size_t c = before; c < after; ++c) fresh[c] = Memory(chunk_rows(c) * row_bytes);
    for (std::size_t c = before; c < after; ++c) {
      memory_[c] = std::move(fresh[c]);
      // Release: whoever finds the chunk also finds its zeros.
      starts_[c].store(memory_[c].data(), std::memory_order_release);
      bytes_.fetch_add(memory_[c].bytes(), std::memory_order_relaxed);  // a figure, orders nothing
    }
    chunks_ = after;
    // Release: whoever sees the capacity also sees the chunks that make it up.
    if (after != before) capacity_.store(chunk_begin(after), std::memory_order_release);
  }

  // Takes rows that lie one behind the other in memory of somebody else, who keeps it, for its own: nothing is copied.
  // They can be read, not written; growing does nothing. REQUIRES: an empty directory, an aligned start.
  void adopt(const std::byte* rows, std::size_t count, std::size_t row_bytes) {
    for (; chunk_begin(chunks_) < count; ++chunks_) {
      std::byte* const start = const_cast<std::byte*>(rows) + chunk_begin(chunks_) * row_bytes;
      starts_[chunks_].store(start, std::memory_order_release);  // release: as reserve
    }
    capacity_.store(count, std::memory_order_release);
    adopted_ = true;
  }

  std::byte* start(std::size_t chunk) const { return starts_[chunk].load(std::memory_order_acquire); }
  std::size_t capacity() const { return capacity_.load(std::memory_order_acquire); }
  std::size_t memory_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<std::byte*>, kMaxChunks> starts_{};
  std::atomic<std::size_t> capacity_{0};
  std::atomic<std::size_t> bytes_{0};
  std::array<Memory, kMaxChunks> memory_;  // the growing thread's, as is chunks_
  std::size_t chunks_ = 0;
  bool adopted_ = false;
};

// A column of T. REQUIRES of T: zero bytes are a valid value (numbers, std::atomic of them, small structs of both).
template <class T>
class Column {
  static_assert(alignof(T) <= kCacheLine);

 public:
  Column() = default;
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;
  ~Column() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      for (std::size_t c = 0; chunk_begin(c) < capacity(); ++c) std::destroy_n(element(c, 0), chunk_rows(c));
    }
  }

  void reserve(std::size_t rows) { chunks_.reserve(rows, sizeof(T)); }  // grows only; std::bad_alloc changes nothing

  // The same of elements that lie in memory of somebody else, as ChunkDirectory::adopt: one of T for each, or for
  // several of another type that T is made of.
  template <class Stored>
  void adopt(std::span<const Stored> values) {
    static_assert(std::is_trivially_destructible_v<T> && sizeof(T) % sizeof(Stored) == 0);
    const std::span<const std::byte> bytes = std::as_bytes(values);
    chunks_.adopt(bytes.data(), bytes.size() / sizeof(T), sizeof(T));
  }

  // REQUIRES: row < capacity(). A position that was located once serves all columns.
  T& operator[](std::size_t row) { return at(locate(row)); }
  const T& operator[](std::size_t row) const { return at(locate(row)); }
  T& at(ChunkPosition position) { return *element(position.chunk, position.offset); }
  const T& at(ChunkPosition position) const { return *element(position.chunk, position.offset); }

  std::size_t capacity() const { return chunks_.capacity(); }
  std::size_t memory_bytes() const { return chunks_.memory_bytes(); }

 private:
  T* element(std::size_t chunk, std::size_t offset) const {
    return reinterpret_cast<T*>(chunks_.start(chunk)) + offset;
  }

  ChunkDirectory chunks_;
};

// Calls visit(first_row, count) for the contiguous runs that make up [0, rows), in order: the same for every table.
template <class Visit>
void for_each_run(std::size_t rows, Visit&& visit) {
  for (std::size_t chunk = 0; chunk_begin(chunk) < rows; ++chunk) {
    visit(chunk_begin(chunk), std::min(chunk_rows(chunk), rows - chunk_begin(chunk)));
  }
}

}  // namespace recengine
