// EmbeddingTable: the rows of users or of items, their ids, and which slots are in use.
//
// A row is a slot of the table; an id owns one slot from insertion to erasure. Invariants:
//  1. A slot is filled and its id stored, then its live bit is set (release), then its id can be found (release): who
//     sees a live bit can name the row, who finds an id sees it live, and both see the row of that owner, or of nobody.
//  2. An erased slot goes to no new owner before `recycle` was called for it and every thread pinned then has left, so
//     that what a pinned thread holds never changes its owner.
// The numbers themselves (rows, biases, accumulators) are learned without locks and read through RowTable or
// relaxed.hpp.
//
// Thread safety: find_or_insert under a writer pin, readers under any pin; erase and recycle while writers are paused.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "kernels/table.hpp"
#include "storage/aligned.hpp"
#include "storage/chunked.hpp"
#include "storage/dirty_rows.hpp"
#include "storage/epoch.hpp"
#include "storage/fence.hpp"
#include "storage/id_map.hpp"
#include "storage/movement.hpp"
#include "storage/row_table.hpp"

namespace recengine {

class EmbeddingTable {
 public:
  // What a row is born with: uniform in [-scale, scale), drawn from (seed, row) alone.
  struct Initializer {
    std::uint64_t seed;
    float scale;
  };

  EmbeddingTable(EpochDomain& domain, std::size_t dim, Initializer initializer, Storage storage = Storage::kFp32);

  std::size_t dim() const { return dim_; }
  std::size_t stride() const { return stride_; }
  Storage storage() const { return rows.storage(); }
  // Slots handed out so far, live or not: rows [0, count()) may be read.
  Row count() const { return count_.load(std::memory_order_acquire); }
  std::size_t size() const { return ids.size(); }

  bool is_live(Row row) const { return (live_word(row / 64) >> (row % 64) & 1) != 0; }
  // Liveness of rows [64 * word, 64 * word + 64), one bit each. Acquire: the rows behind the set bits are complete.
  std::uint64_t live_word(std::size_t word) const { return live_[word].load(std::memory_order_acquire); }

  // Columns that belong to others (popularity, user state) grow and are wiped with the table.
  void attach(std::function<void(std::size_t)> reserve, std::function<void(Row)> wipe);

  // Room for `extra` new ids; afterwards their insertion does not allocate table memory.
  void reserve(std::size_t extra);

  template <class Key>
  Row find_or_insert(Key key) {
    return insert(key).first;
  }
  // And whether it is new.
  template <class Key>
  std::pair<Row, bool> insert(Key key) {
    const Row found = ids.find(key);
    if (found != kNoRow) return {found, false};
    const auto announce = [this](Row row) {
      set_live(row);
      full_fence();
      mark_replaced(row);
    };
    return ids.insert(key, [this] { return take_slot(); }, announce);
  }

  // The row was written, other than by a step of learning. REQUIRES: a full fence since.
  void mark_replaced(Row row) {
    dirty.mark(row);
    movement.replaced.mark(row);
  }

  // Unmaps the id and wipes its slot; returns the slot, which stays unused until recycled, or kNoRow.
  template <class Key>
  Row erase(Key key) {
    const Row row = ids.erase(key);
    if (row != kNoRow) retire_slot(row);
    return row;
  }

  // Nothing but threads pinned now can still refer to these erased slots. One after another, or none: std::bad_alloc.
  void recycle(const std::vector<Row>& rows);
  // The same, with memory that was taken before: while there is some, it cannot fail.
  using Recycled = std::list<std::pair<std::uint64_t, Row>>;  // tickets, slots
  void recycle(Row row, Recycled& memory);

  // The slots to hand out again, in order, for saving; and the way back. REQUIRES: writers paused, or a new table.
  std::vector<Row> free_slots() const;
  void restore_slots(Row count, const std::vector<Row>& free_slots);
  // Gives a slot below count() its id again. False if the id has another slot.
  template <class Key>
  bool restore_id(Key key, Row row) {
    return ids.insert(key, [row] { return row; }, [this](Row slot) { set_live(slot); }).second;
  }

  // A table that lies in memory of somebody else and is only read: rows padded to the stride, biases and liveness (as
  // live_word has it, with a word more than there are whole ones) of each slot. Sums of squares are not there. The ids
  // are the caller's to adopt. REQUIRES: a new table.
  struct Stored {
    std::span<const std::byte> rows;
    std::span<const float> bias;
    std::span<const std::uint64_t> live;
  };
  void adopt(const Stored& stored);

  std::size_t memory_bytes() const;

  // Where a row and its scalars are: one look-up for whoever needs several of them.
  Slot slot(Row row) {
    const ChunkPosition at = locate(row);
    return {rows.slot_row(at), &bias.at(at), &accumulators.at(at)};
  }

  IdMap ids;
  RowTable rows;
  Column<float> bias;  // b, added to the inner product
  Column<Accumulators> accumulators;
  DirtyRows dirty;    // rows and biases written since what retrieval derives from them was derived
  Movement movement;  // and how far, for what may lag behind

 private:
  // Release: pairs with live_word. The row is filled and its id stored.
  void set_live(Row row) { live_[row / 64].fetch_or(std::uint64_t{1} << (row % 64), std::memory_order_release); }
  Row take_slot();
  void retire_slot(Row row);
  void grow_to(std::size_t rows);
  void reserve_derived(std::size_t rows);

  EpochDomain& domain_;
  const std::size_t dim_;
  const std::size_t stride_;
  const Initializer initializer_;
  std::atomic<Row> count_{0};
  Column<std::atomic<std::uint64_t>> live_;
  mutable std::mutex slots_mutex_;
  Recycled recycled_;          // GUARDED_BY(slots_mutex_), oldest first
  const AlignedFloats zeros_;  // what a retired slot is wiped with: there must be memory for that
  std::vector<std::pair<std::function<void(std::size_t)>, std::function<void(Row)>>> attached_;
};

}  // namespace recengine
