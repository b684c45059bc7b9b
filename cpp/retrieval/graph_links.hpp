// Where the graph keeps its links: lists of a fixed capacity that never move, changed in place beside readers.
//
// A list is its rows plus one, then zeros: zero bytes are an empty list. While a writer rewrites it, a reader may meet
// some links twice and miss others, but every link it meets is one that was stored, and the first place is never empty
// between two lists that are not.
//
// Thread safety: any number of readers beside one writer a list. A link is stored with release and loaded with acquire:
// whoever meets it also sees the columns that hold its row, and what its writer had done to them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class LinkList {
 public:
  using Place = std::atomic<Row>;

  LinkList() = default;  // of capacity zero
  LinkList(Place* places, std::size_t capacity) : places_(places), capacity_(capacity) {}

  std::size_t capacity() const { return capacity_; }
  const void* address() const { return places_; }

  // Calls visit(row) for each link, in order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (std::size_t i = 0; i < capacity_; ++i) {
      const Row stored = places_[i].load(std::memory_order_acquire);
      if (stored == 0) return;
      visit(stored - 1);
    }
  }

  bool contains(Row row) const {
    bool found = false;
    for_each([&](Row link) { found |= link == row; });
    return found;
  }

  // False if there is no room.
  bool append(Row row) const {
    for (std::size_t i = 0; i < capacity_; ++i) {
      // Relaxed, here and below: the writer reads what it stored itself, or what its lock handed over.
      if (places_[i].load(std::memory_order_relaxed) != 0) continue;
      places_[i].store(row + 1, std::memory_order_release);
      return true;
    }
    return false;
  }

  // REQUIRES: no more rows than the capacity.
  void assign(std::span<const Row> rows) const {
    for (std::size_t i = 0; i < rows.size(); ++i) places_[i].store(rows[i] + 1, std::memory_order_release);
    for (std::size_t i = rows.size(); i < capacity_; ++i) places_[i].store(0, std::memory_order_release);
  }

  void erase(Row row) const {
    std::size_t hole = capacity_;
    std::size_t size = 0;
    for (; size < capacity_; ++size) {
      const Row stored = places_[size].load(std::memory_order_relaxed);
      if (stored == 0) break;
      if (stored == row + 1) hole = size;
    }
    if (hole == capacity_) return;
    // The last link first fills the hole, then leaves its place: a reader meets it at least once.
    places_[hole].store(places_[size - 1].load(std::memory_order_relaxed), std::memory_order_release);
    places_[size - 1].store(0, std::memory_order_release);
  }

 private:
  Place* places_ = nullptr;
  std::size_t capacity_ = 0;
};

// One list a row.
class LinkTable {
 public:
  explicit LinkTable(std::size_t capacity) : capacity_(capacity) {}

  // As Column::reserve.
  void reserve(std::size_t rows) { chunks_.reserve(rows, capacity_ * sizeof(LinkList::Place)); }

  // REQUIRES: the row is within what was reserved.
  LinkList operator[](Row row) const {
    const ChunkPosition at = locate(row);
    return {reinterpret_cast<LinkList::Place*>(chunks_.start(at.chunk)) + at.offset * capacity_, capacity_};
  }

  std::size_t memory_bytes() const { return chunks_.memory_bytes(); }

 private:
  ChunkDirectory chunks_;
  std::size_t capacity_;
};

// The lists of one row on the levels above zero. Few rows have any, so that they are allocated one by one; a row's
// level is fixed, so that once is enough.
class UpperLinks {  // zero bytes are no lists, as a Column needs
 public:
  UpperLinks() = default;
  ~UpperLinks() { delete[] places_.load(std::memory_order_relaxed); }
  UpperLinks(const UpperLinks&) = delete;
  UpperLinks& operator=(const UpperLinks&) = delete;

  bool allocated() const { return places_.load(std::memory_order_relaxed) != nullptr; }

  // REQUIRES: called once, by one thread.
  void allocate(std::size_t places) {
    auto fresh = std::make_unique<LinkList::Place[]>(places);
    places_.store(fresh.release(), std::memory_order_release);  // release: readers see the zeros
  }

  // The list of the given level, from 1 on; of capacity zero before the lists are allocated.
  LinkList list(std::size_t level, std::size_t capacity) const {
    LinkList::Place* const places = places_.load(std::memory_order_acquire);
    return places == nullptr ? LinkList() : LinkList(places + (level - 1) * capacity, capacity);
  }

 private:
  std::atomic<LinkList::Place*> places_{nullptr};
};

}  // namespace recengine
