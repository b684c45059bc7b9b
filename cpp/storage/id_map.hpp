// IdMap: exact, concurrent maps between the caller's ids (64-bit ints or UTF-8 strings, one kind a map) and dense rows.
//
// Ids are spread over 64 shards, each an open-addressing table with linear probing.
//
// Invariants
//  1. A table's entry goes through empty -> row -> tombstone, once. Its id is written before the row is published and
//     never changes, so that a reader that sees the row (acquire) sees whole the id that belongs to it.
//  2. Tombstones vanish when the shard's table is rebuilt as a copy; the old table, like the block of an erased string,
//     is freed when every thread pinned at that time has left.
//  3. The id of a row is stored before the row is published, and stays until the row is given to another id.
//
// Thread safety: every method may be called from any thread. Lookups never wait and REQUIRE that the calling thread is
// pinned in the map's EpochDomain; inserts and erasures take one shard's mutex, and need no pin.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

#include "storage/chunked.hpp"
#include "storage/epoch.hpp"
#include "storage/id_hash.hpp"
#include "storage/memory.hpp"

namespace recengine {

using Row = std::uint32_t;
inline constexpr Row kNoRow = 0xFFFFFFFFu;
inline constexpr Row kMaxRow = 0xFFFFFFFDu;
inline constexpr std::size_t kMaxIdBytes = 512;
enum class IdKind : std::uint8_t { kNone, kInt, kString };

// A borrowed array of ids, as it came from the caller.
struct IdSpan {
  IdKind kind = IdKind::kNone;
  std::size_t size = 0;
  const std::int64_t* ints = nullptr;  // kind == kInt
  const char* bytes = nullptr;         // kind == kString: id k is bytes[offsets[k] .. offsets[k + 1])
  const std::uint64_t* offsets = nullptr;

  std::string_view string_at(std::size_t k) const { return {bytes + offsets[k], offsets[k + 1] - offsets[k]}; }
};

// At most kMaxIdBytes of valid UTF-8.
bool is_valid_id(std::string_view id);
// Throws std::invalid_argument naming the length or the position unless is_valid_id.
void validate_id(std::string_view id);

class IdIndex;

class IdMap {
 public:
  explicit IdMap(EpochDomain& domain);
  ~IdMap();  // REQUIRES: nobody uses the map any more. The domain must outlive it.
  IdMap(const IdMap&) = delete;
  IdMap& operator=(const IdMap&) = delete;

  // kNone until the first insert settles it. Relaxed: an id is found through its table only; the kind orders nothing.
  IdKind kind() const { return kind_.load(std::memory_order_relaxed); }

  // Settles the kind ahead of an insert; throws std::invalid_argument if the map is of the other kind.
  void claim_kind(IdKind kind);

  // kNoRow if absent, or if the map is of the other kind.
  Row find(std::int64_t id) const { return find_as<IntKey>(id); }
  Row find(std::string_view id) const { return find_as<StringKey>(id); }

  // Starts to load what find(id) will look at.
  void prefetch(std::int64_t id) const;
  void prefetch(std::string_view id) const;

  // out[i] = find(ids[first + i]) for i < count, with the cache misses of many ids under way at once.
  void find_many(const IdSpan& ids, std::size_t first, std::size_t count, Row* out) const;

  struct NoAnnouncement {
    void operator()(Row) const {}
  };

  // The row of `id` and false; or, if it has none, the row that `allocate()` returns and true. `allocate` takes a free
  // row (<= kMaxRow) and makes it ready: readers find it as soon as insert has published it. It runs under the shard's
  // mutex and must not call back into this map. If it throws, nothing is changed except that the kind is settled.
  // Throws std::invalid_argument if the map is of the other kind. REQUIRES of a string: validate_id passes.
  // `announce(row)`, if given, is called for a new row once its id is stored and before the id can be found: what it
  // announces elsewhere (a scan's live bit) can be named by whoever meets it, and is there for whoever finds the id.
  template <class Allocate, class Announce = NoAnnouncement>
  std::pair<Row, bool> insert(std::int64_t id, Allocate&& allocate, Announce&& announce = {}) {
    return insert_as<IntKey>(id, std::forward<Allocate>(allocate), std::forward<Announce>(announce));
  }
  template <class Allocate, class Announce = NoAnnouncement>
  std::pair<Row, bool> insert(std::string_view id, Allocate&& allocate, Announce&& announce = {}) {
    return insert_as<StringKey>(id, std::forward<Allocate>(allocate), std::forward<Announce>(announce));
  }

  // The row that `id` had, or kNoRow. The row may go to another id once a ticket taken after this has passed.
  Row erase(std::int64_t id);
  Row erase(std::string_view id);

  // The id of `row`. REQUIRES: the map is of that kind; the row was published and, if erased since, this thread has
  // been pinned since before. The string stays valid while it is pinned.
  std::int64_t int_at(Row row) const {
    if (stored_) [[unlikely]]
      return stored_int_at(row);
    return IntKey::load(ids_[row].load(std::memory_order_acquire));
  }
  std::string_view string_at(Row row) const {
    if (stored_) [[unlikely]]
      return stored_string_at(row);
    return StringKey::load(ids_[row].load(std::memory_order_acquire));
  }

  // The ids are those of an index from now on, which is only read. REQUIRES: a new map, not yet shared.
  void adopt(std::unique_ptr<const IdIndex> stored);

  // Makes room for `extra` more ids spread like hashes, so that inserting them hardly ever grows a table. Throws
  // std::bad_alloc, changing nothing that can be seen.
  void reserve(std::size_t extra);

  std::size_t size() const { return size_.load(std::memory_order_acquire); }
  std::size_t string_bytes() const { return string_bytes_.load(std::memory_order_relaxed); }  // a figure
  // Strings as long as they are, without what the allocator adds. REQUIRES: this thread is pinned.
  std::size_t memory_bytes() const;

  // Fixed functions of the id within this process, which nobody outside it knows (id_hash.hpp).
  static std::uint64_t hash(std::int64_t id) { return IntKey::hash(id); }
  static std::uint64_t hash(std::string_view id) { return StringKey::hash(id); }

 private:
  static constexpr std::size_t kShards = 64;
  static constexpr int kShardShift = 58;  // the shard is the hash's top 6 bits, the tag its low 32

  // What differs between the kinds: an id is kept as one word, an int as itself, a string as a pointer to its block.
  struct IntKey {
    using Id = std::int64_t;
    using Owner = std::uint64_t;  // holds the word until it is stored
    static constexpr IdKind kKind = IdKind::kInt;
    static std::uint64_t hash(Id id) { return keyed_hash(id, kProcessKey); }
    static Owner make(Id id) { return static_cast<std::uint64_t>(id); }
    static std::uint64_t release(Owner& owner) { return owner; }
    static bool equal(std::uint64_t word, Id id) { return word == static_cast<std::uint64_t>(id); }
    static Id load(std::uint64_t word) { return static_cast<Id>(word); }
  };
  struct StringKey {
    using Id = std::string_view;
    using Owner = std::unique_ptr<char[]>;  // uint16 length, then the bytes
    static constexpr IdKind kKind = IdKind::kString;
    static std::uint64_t hash(Id id) { return hash_id(id, kProcessKey); }
    static Owner make(Id id);
    static std::uint64_t release(Owner& owner) { return reinterpret_cast<std::uintptr_t>(owner.release()); }
    static bool equal(std::uint64_t word, Id id) { return load(word) == id; }
    static Id load(std::uint64_t word);
  };

  // The row is stored plus one, so that zeroed memory is an empty table.
  static constexpr std::uint32_t kEmpty = 0;
  static constexpr std::uint32_t kTombstone = 0xFFFFFFFFu;
  struct Entry {
    std::uint64_t word;
    std::uint32_t tag;  // its low bits are the entry's first place, so that a rebuild needs no hashes
    std::atomic<std::uint32_t> row;
  };
  struct Table {
    explicit Table(std::size_t capacity)
        : memory(capacity * sizeof(Entry)), entries(reinterpret_cast<Entry*>(memory.data())), mask(capacity - 1) {}
    std::span<Entry> all() const { return {entries, mask + 1}; }

    Memory memory;
    Entry* entries;
    std::size_t mask;
  };
  struct alignas(kCacheLine) Shard {
    std::atomic<Table*> table{nullptr};
    mutable std::mutex mutex;  // guards what follows, and every change of the table
    std::size_t used = 0;      // entries that are not empty
    std::size_t live = 0;      // entries with a row
  };
  struct Found {
    Entry* entry = nullptr;
    Row row = kNoRow;
  };

  static std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash); }
  const Table* table_of(std::uint64_t hash) const {
    // Acquire: what the table holds was copied before it was published.
    return shards_[hash >> kShardShift].table.load(std::memory_order_acquire);
  }

  template <class Key>
  static Found probe(const Table* table, std::uint32_t tag, typename Key::Id id) {
    if (table == nullptr) return {};
    for (std::size_t place = tag & table->mask;; place = (place + 1) & table->mask) {
      Entry& entry = table->entries[place];
      // Acquire: the id was written before the row was published, and the row made ready before that.
      const std::uint32_t row = entry.row.load(std::memory_order_acquire);
      if (row == kEmpty) return {};
      if (row != kTombstone && entry.tag == tag && Key::equal(entry.word, id)) return {&entry, row - 1};
    }
  }

  template <class Key>
  Row find_as(typename Key::Id id) const {
    if (kind() != Key::kKind) return kNoRow;
    const std::uint64_t hash = Key::hash(id);
    const Table* const table = table_of(hash);
    return table == nullptr ? find_stored(id) : probe<Key>(table, tag_of(hash), id).row;
  }
  Row find_stored(std::int64_t id) const;  // kNoRow if there is no index
  Row find_stored(std::string_view id) const;
  std::int64_t stored_int_at(Row row) const;
  std::string_view stored_string_at(Row row) const;

  template <class Key, class Allocate, class Announce>
  std::pair<Row, bool> insert_as(typename Key::Id id, Allocate&& allocate, Announce&& announce) {
    claim_kind(Key::kKind);
    const std::uint64_t hash = Key::hash(id);
    Shard& shard = shards_[hash >> kShardShift];
    const std::lock_guard lock(shard.mutex);
    // Relaxed: the mutex orders the table's changes.
    const Found found = probe<Key>(shard.table.load(std::memory_order_relaxed), tag_of(hash), id);
    if (found.entry != nullptr) return {found.row, false};
    make_room(shard, 1);
    reserve_rows(rows_.load(std::memory_order_relaxed) + 2 * kShards);  // ahead of allocate: dense rows fit afterwards
    typename Key::Owner owner = Key::make(id);
    const Row row = allocate();
    reserve_rows(std::size_t{row} + 1);
    const std::uint64_t word = Key::release(owner);
    // Release: whoever reads the word, by whatever way it came to the row, finds the string's bytes.
    ids_[row].store(word, std::memory_order_release);
    announce(row);
    publish(shard, tag_of(hash), word, row);
    return {row, true};
  }

  template <class Key>
  Row erase_as(typename Key::Id id);
  template <class Key>
  void prefetch_as(typename Key::Id id) const;
  template <class Key, class IdAt>
  void find_block(IdAt&& id_at, std::size_t count, Row* out) const;

  void make_room(Shard& shard, std::size_t extra);
  void reserve_rows(std::size_t rows);
  void publish(Shard& shard, std::uint32_t tag, std::uint64_t word, Row row) noexcept;

  EpochDomain& domain_;
  std::atomic<IdKind> kind_{IdKind::kNone};
  std::atomic<std::size_t> size_{0};
  std::atomic<std::size_t> string_bytes_{0};
  std::atomic<std::size_t> rows_{0};  // one above the highest row so far
  std::array<Shard, kShards> shards_;
  std::mutex rows_mutex_;  // serialises the growth of ids_
  Column<std::atomic<std::uint64_t>> ids_;
  std::unique_ptr<const IdIndex> stored_;  // in place of all of this: the tables are empty then
};

}  // namespace recengine
