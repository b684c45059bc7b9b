// RowSet: the rows one user has seen; one pointer, so that millions of users without any cost 8 bytes each.
//
// An open-addressing table with linear probing, published by an atomic pointer. Growing and removing copy it; the old
// table is freed when every thread pinned at that time has left.
//
// Thread safety: any number of readers beside one writer (the caller serialises writers). All but construction and
// destruction REQUIRE that the calling thread is pinned in the domain that the writers name.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "storage/epoch.hpp"

namespace recengine {

class RowSet {  // zero bytes are an empty set, as a Column needs
 public:
  RowSet() = default;
  ~RowSet() { delete_table(table_.load(std::memory_order_relaxed)); }  // REQUIRES: nobody uses the set any more
  RowSet(const RowSet&) = delete;
  RowSet& operator=(const RowSet&) = delete;

  bool contains(std::uint32_t row) const {
    const Table* table = load();
    // Compared with the row: the place that was empty may since hold another.
    return table != nullptr && table->place_of(row)->load(std::memory_order_relaxed) == row + 1;
  }

  std::size_t size() const {
    const Table* table = load();
    return table == nullptr ? 0 : table->size.load(std::memory_order_relaxed);
  }

  // Starts to load what contains(row) and insert(row) will look at: first the table's head, then, once that is there,
  // its places.
  void prefetch_head() const { __builtin_prefetch(load()); }
  void prefetch(std::uint32_t row) const {
    if (const Table* table = load()) __builtin_prefetch(table->places() + table->first_place(row));
  }

  // Calls visit(row) for each row, in no particular order; rows inserted meanwhile may be missed.
  template <class Visit>
  void for_each(Visit&& visit) const {
    if (const Table* table = load()) table->for_each(visit);
  }

  // False if `row` (< 2^32 - 1) was there. Throws std::bad_alloc and changes nothing.
  bool insert(std::uint32_t row, EpochDomain& domain) {
    Table* table = load();
    const std::size_t size = this->size();
    if (table == nullptr || (size + 1) * 8 > table->capacity() * 5) {
      if (table != nullptr && *table->place_of(row) != kEmpty) return false;
      Table* fresh = make_table(size + 1);
      if (table != nullptr) table->for_each([fresh](std::uint32_t old) { fresh->add(old); });
      fresh->add(row);
      replace(table, fresh, domain);
      return true;
    }
    return table->add(row);
  }

  // Removes the rows for which pred(row) is true and says how many. Throws std::bad_alloc and changes nothing.
  template <class Predicate>
  std::size_t erase_if(Predicate&& pred, EpochDomain& domain) {
    Table* table = load();
    if (table == nullptr) return 0;
    std::size_t removed = 0;
    table->for_each([&](std::uint32_t row) { removed += pred(row) ? 1 : 0; });
    if (removed == 0) return 0;
    const std::size_t left = size() - removed;
    Table* fresh = left == 0 ? nullptr : make_table(left);
    if (fresh != nullptr) {
      table->for_each([&](std::uint32_t row) {
        if (!pred(row)) fresh->add(row);
      });
    }
    replace(table, fresh, domain);
    return removed;
  }

  std::size_t memory_bytes() const {
    const Table* table = load();
    return table == nullptr ? 0 : table_bytes(table->capacity());
  }

 private:
  static constexpr std::uint32_t kEmpty = 0;  // rows are stored plus one

  struct Table {
    std::atomic<std::uint32_t> size;
    std::uint32_t mask;

    std::size_t capacity() const { return std::size_t{mask} + 1; }
    std::atomic<std::uint32_t>* places() { return reinterpret_cast<std::atomic<std::uint32_t>*>(this + 1); }
    const std::atomic<std::uint32_t>* places() const {
      return reinterpret_cast<const std::atomic<std::uint32_t>*>(this + 1);
    }

    // Fibonacci hashing: the high bits of the product are the best mixed.
    std::uint32_t first_place(std::uint32_t row) const {
      return static_cast<std::uint32_t>((row * 0x9E3779B97F4A7C15u) >> 32) & mask;
    }

    // Where `row` is, or the empty place where it would go. All accesses are relaxed: a place holds a row or nothing,
    // and says nothing about other memory.
    const std::atomic<std::uint32_t>* place_of(std::uint32_t row) const {
      for (std::uint32_t place = first_place(row);; place = (place + 1) & mask) {
        const std::uint32_t value = places()[place].load(std::memory_order_relaxed);
        if (value == kEmpty || value == row + 1) return &places()[place];
      }
    }

    bool add(std::uint32_t row) {
      auto* place = const_cast<std::atomic<std::uint32_t>*>(place_of(row));
      if (place->load(std::memory_order_relaxed) != kEmpty) return false;
      place->store(row + 1, std::memory_order_relaxed);
      size.fetch_add(1, std::memory_order_relaxed);
      return true;
    }

    template <class Visit>
    void for_each(Visit&& visit) const {
      for (std::size_t place = 0; place < capacity(); ++place) {
        const std::uint32_t value = places()[place].load(std::memory_order_relaxed);
        if (value != kEmpty) visit(value - 1);
      }
    }
  };
  static_assert(sizeof(Table) == 8);

  static std::size_t table_bytes(std::size_t capacity) { return sizeof(Table) + capacity * sizeof(std::uint32_t); }

  static Table* make_table(std::size_t rows) {
    const std::size_t capacity = std::max<std::size_t>(8, std::bit_ceil(rows * 2));
    auto* table = new (::operator new(table_bytes(capacity))) Table{0, static_cast<std::uint32_t>(capacity - 1)};
    std::uninitialized_value_construct_n(table->places(), capacity);
    return table;
  }
  static void delete_table(Table* table) { ::operator delete(table); }

  // Acquire: what the table holds was copied before it was published.
  Table* load() const { return table_.load(std::memory_order_acquire); }

  void replace(Table* old, Table* fresh, EpochDomain& domain) {
    table_.store(fresh, std::memory_order_release);  // release: with all its rows
    if (old != nullptr) domain.retire([old] { delete_table(old); });
  }

  std::atomic<Table*> table_{nullptr};
};

}  // namespace recengine
