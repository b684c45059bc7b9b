// RowSet: the rows one user has seen; one pointer, so that millions of users without any cost 8 bytes each.
//
// An open-addressing table probed by buckets of eight, published by an atomic pointer. Growing and removing copy it;
// the old table is freed when every thread pinned at that time has left.
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
#include <utility>

#include "kernels/relaxed.hpp"
#include "storage/arena.hpp"
#include "storage/epoch.hpp"

namespace recengine {

class RowSet {  // zero bytes are an empty set, as a Column needs
 public:
  RowSet() = default;
  ~RowSet() {  // REQUIRES: nobody uses the set any more
    if (const Table table = load()) delete_table(table);
  }
  RowSet(const RowSet&) = delete;
  RowSet& operator=(const RowSet&) = delete;

  bool contains(std::uint32_t row) const {
    const Table table = load();
    return table && table.contains(row);
  }

  std::size_t size() const {
    const Table table = load();
    return table ? table.size().load(std::memory_order_relaxed) : 0;
  }

  // Starts to load what contains(row) will look at. REQUIRES: this object itself is in the cache, or be patient.
  void prefetch(std::uint32_t row) const {
    if (const Table table = load()) __builtin_prefetch(table.first_bucket(row), 0, 2);
  }

  // Calls visit(row) for each row, in no particular order; rows inserted meanwhile may be missed.
  template <class Visit>
  void for_each(Visit&& visit) const {
    if (const Table table = load()) table.for_each(visit);
  }

  // False if `row` (< 2^32 - 1) was there. Throws std::bad_alloc and changes nothing.
  bool insert(std::uint32_t row, EpochDomain& domain) {
    const Table table = load();
    if (table && table.contains(row)) return false;
    const std::size_t size = this->size();
    if (table && (size + 1) * 8 <= table.capacity() * 5) {
      table.add(row);
      return true;
    }
    const Table fresh = make_table(size + 1);
    if (table) table.for_each([fresh](std::uint32_t old) { fresh.add(old); });
    fresh.add(row);
    replace(table, fresh, domain);
    return true;
  }

  // Removes the rows for which pred(row) is true and says how many. Throws std::bad_alloc and changes nothing.
  template <class Predicate>
  std::size_t erase_if(Predicate&& pred, EpochDomain& domain) {
    const Table table = load();
    if (!table) return 0;
    std::size_t removed = 0;
    table.for_each([&](std::uint32_t row) { removed += pred(row) ? 1 : 0; });
    if (removed == 0) return 0;
    const std::size_t left = size() - removed;
    const Table fresh = left == 0 ? Table{} : make_table(left);
    if (fresh) {
      table.for_each([&](std::uint32_t row) {
        if (!pred(row)) fresh.add(row);
      });
    }
    replace(table, fresh, domain);
    return removed;
  }

  std::size_t memory_bytes() const {
    const Table table = load();
    return table ? table.bytes() : 0;
  }

 private:
  static constexpr std::uint32_t kEmpty = 0;  // rows are stored plus one

  using Place = std::atomic<std::uint32_t>;

  static constexpr std::size_t kBucket = 8;     // places looked at together, as is_any_of_eight does
  static constexpr std::uint32_t kMinBits = 3;  // of a table: one bucket
  // Of a table, and with it of each bucket; and it leaves five bits of the address free for bits - kMinBits.
  static constexpr std::size_t kAlignment = kBucket * sizeof(Place);

  // A table as the one word that is published, where it is and how large, so that a look-up loads nothing in between:
  // 2^bits places, then their number of rows.
  struct Table {
    std::uintptr_t word = 0;

    explicit operator bool() const { return word != 0; }
    std::uint32_t bits() const { return static_cast<std::uint32_t>(word % kAlignment) + kMinBits; }
    std::size_t capacity() const { return std::size_t{1} << bits(); }
    Place* places() const { return reinterpret_cast<Place*>(word - word % kAlignment); }
    std::atomic<std::uint32_t>& size() const { return places()[capacity()]; }

    // Fibonacci hashing: the high bits of the product are the best mixed.
    Place* first_bucket(std::uint32_t row) const {
      const std::uint64_t hash = row * 0x9E3779B97F4A7C15u >> 32;
      return places() + ((hash << bits() >> 32) & ~(kBucket - 1));
    }
    Place* next_bucket(Place* bucket) const {
      bucket += kBucket;
      return bucket == places() + capacity() ? places() : bucket;
    }

    // A bucket fills from its first place on and overflows into the next. All accesses are relaxed: a place holds a row
    // or nothing, and says nothing about other memory.
    bool contains(std::uint32_t row) const {
      for (Place* bucket = first_bucket(row);; bucket = next_bucket(bucket)) {
        // All at once: where a row lies in its bucket cannot be predicted.
        if (is_any_of_eight(reinterpret_cast<const std::uint32_t*>(bucket), row + 1)) return true;
        if (bucket[kBucket - 1].load(std::memory_order_relaxed) == kEmpty) return false;
      }
    }

    // REQUIRES: the row is not there, an empty place is.
    void add(std::uint32_t row) const {
      for (Place* bucket = first_bucket(row);; bucket = next_bucket(bucket)) {
        for (std::size_t i = 0; i < kBucket; ++i) {
          if (bucket[i].load(std::memory_order_relaxed) != kEmpty) continue;
          bucket[i].store(row + 1, std::memory_order_relaxed);
          size().fetch_add(1, std::memory_order_relaxed);
          return;
        }
      }
    }

    template <class Visit>
    void for_each(Visit&& visit) const {
      for (std::size_t place = 0; place < capacity(); ++place) {
        const std::uint32_t value = places()[place].load(std::memory_order_relaxed);
        if (value != kEmpty) visit(value - 1);
      }
    }

    std::size_t bytes() const { return (capacity() + 1) * sizeof(Place); }
  };

  static Table make_table(std::size_t rows) {
    const auto bits = std::max(kMinBits, static_cast<std::uint32_t>(std::bit_width(rows * 2 - 1)));
    Table table{bits - kMinBits};
    table.word += reinterpret_cast<std::uintptr_t>(Arena::shared().allocate(table.bytes()));
    std::uninitialized_value_construct_n(table.places(), table.capacity() + 1);
    return table;
  }
  static void delete_table(Table table) { Arena::shared().deallocate(table.places(), table.bytes()); }

  // Acquire: what the table holds was copied before it was published.
  Table load() const { return {table_.load(std::memory_order_acquire)}; }

  void replace(Table old, Table fresh, EpochDomain& domain) {
    table_.store(fresh.word, std::memory_order_release);  // release: with all its rows
    if (old) domain.retire([old] { delete_table(old); });
  }

  std::atomic<std::uintptr_t> table_{0};
};

}  // namespace recengine
