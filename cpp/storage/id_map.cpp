#include "storage/id_map.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "storage/id_index.hpp"

namespace recengine {
namespace {

constexpr std::size_t kFirstCapacity = 8;
constexpr std::size_t kBlock = 32;  // ids looked up together; about as many as a core has misses under way

bool crowded(std::size_t used, std::size_t capacity) { return used * 10 > capacity * 7; }

std::uint16_t block_length(const char* block) {
  std::uint16_t length;
  std::memcpy(&length, block, sizeof(length));
  return length;
}

}  // namespace

IdMap::StringKey::Owner IdMap::StringKey::make(Id id) {
  const auto length = static_cast<std::uint16_t>(id.size());
  Owner block(new char[sizeof(length) + id.size()]);
  std::memcpy(block.get(), &length, sizeof(length));
  std::copy(id.begin(), id.end(), block.get() + sizeof(length));
  return block;
}

IdMap::StringKey::Id IdMap::StringKey::load(std::uint64_t word) {
  const char* block = reinterpret_cast<const char*>(static_cast<std::uintptr_t>(word));
  return {block + sizeof(std::uint16_t), block_length(block)};
}

IdMap::IdMap(EpochDomain& domain) : domain_(domain) {}

void IdMap::adopt(std::unique_ptr<const IdIndex> stored) {
  kind_.store(stored->kind(), std::memory_order_relaxed);
  size_.store(stored->size(), std::memory_order_relaxed);
  stored_ = std::move(stored);
}

Row IdMap::find_stored(std::int64_t id) const { return stored_ ? stored_->find(id) : kNoRow; }
Row IdMap::find_stored(std::string_view id) const { return stored_ ? stored_->find(id) : kNoRow; }
std::int64_t IdMap::stored_int_at(Row row) const { return stored_->int_at(row); }
std::string_view IdMap::stored_string_at(Row row) const { return stored_->string_at(row); }

IdMap::~IdMap() {
  for (Shard& shard : shards_) {
    const std::unique_ptr<Table> table(shard.table.load(std::memory_order_relaxed));
    if (table == nullptr || kind() != IdKind::kString) continue;
    for (const Entry& entry : table->all()) {
      const std::uint32_t row = entry.row.load(std::memory_order_relaxed);
      if (row != kEmpty && row != kTombstone) delete[] reinterpret_cast<char*>(entry.word);
    }
  }
}

void IdMap::claim_kind(IdKind kind) {
  if (this->kind() == kind) return;
  IdKind settled = IdKind::kNone;
  if (kind_.compare_exchange_strong(settled, kind, std::memory_order_relaxed) || settled == kind) return;
  throw std::invalid_argument(kind == IdKind::kInt ? "an int id, where all ids so far are str"
                                                   : "a str id, where all ids so far are int");
}

template <class Key>
void IdMap::prefetch_as(typename Key::Id id) const {
  const std::uint64_t hash = Key::hash(id);
  if (const Table* table = table_of(hash)) __builtin_prefetch(&table->entries[tag_of(hash) & table->mask]);
}

void IdMap::prefetch(std::int64_t id) const { prefetch_as<IntKey>(id); }
void IdMap::prefetch(std::string_view id) const { prefetch_as<StringKey>(id); }

template <class Key, class IdAt>
void IdMap::find_block(IdAt&& id_at, std::size_t count, Row* out) const {
  std::array<const Table*, kBlock> tables;
  std::array<std::uint32_t, kBlock> tags;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t hash = Key::hash(id_at(i));
    tables[i] = table_of(hash);
    tags[i] = tag_of(hash);
    if (tables[i] != nullptr) __builtin_prefetch(&tables[i]->entries[tags[i] & tables[i]->mask]);
  }
  if constexpr (Key::kKind == IdKind::kString) {
    // The string that will be compared: of the first entry with the right tag.
    for (std::size_t i = 0; i < count; ++i) {
      if (tables[i] == nullptr) continue;
      for (std::size_t place = tags[i] & tables[i]->mask;; place = (place + 1) & tables[i]->mask) {
        const Entry& entry = tables[i]->entries[place];
        if (entry.row.load(std::memory_order_acquire) == kEmpty) break;  // acquire: as in probe
        if (entry.tag != tags[i]) continue;
        __builtin_prefetch(reinterpret_cast<const void*>(entry.word));
        break;
      }
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = tables[i] == nullptr ? find_stored(id_at(i)) : probe<Key>(tables[i], tags[i], id_at(i)).row;
  }
}

void IdMap::find_many(const IdSpan& ids, std::size_t first, std::size_t count, Row* out) const {
  if (ids.kind != kind() || ids.kind == IdKind::kNone) {
    std::fill_n(out, count, kNoRow);
    return;
  }
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t block = std::min(kBlock, count - begin);
    const std::size_t at = first + begin;
    if (ids.kind == IdKind::kInt) {
      find_block<IntKey>([&](std::size_t i) { return ids.ints[at + i]; }, block, out + begin);
    } else {
      find_block<StringKey>([&](std::size_t i) { return ids.string_at(at + i); }, block, out + begin);
    }
  }
}

void IdMap::publish(Shard& shard, std::uint32_t tag, std::uint64_t word, Row row) noexcept {
  const Table& table = *shard.table.load(std::memory_order_relaxed);  // the mutex orders the table's changes
  std::size_t place = tag & table.mask;
  while (table.entries[place].row.load(std::memory_order_relaxed) != kEmpty) place = (place + 1) & table.mask;
  Entry& entry = table.entries[place];
  entry.word = word;
  entry.tag = tag;
  // Release: readers that see the row see its id, and what `allocate` made ready.
  entry.row.store(row + 1, std::memory_order_release);
  ++shard.used;
  ++shard.live;
  size_.fetch_add(1, std::memory_order_release);  // with size: whoever counts the id finds it
  // Figures; they order nothing.
  std::size_t rows = rows_.load(std::memory_order_relaxed);
  while (rows <= row && !rows_.compare_exchange_weak(rows, std::size_t{row} + 1, std::memory_order_relaxed)) {
  }
  if (kind() == IdKind::kString) {
    string_bytes_.fetch_add(StringKey::load(word).size() + sizeof(std::uint16_t), std::memory_order_relaxed);
  }
}

template <class Key>
Row IdMap::erase_as(typename Key::Id id) {
  if (kind() != Key::kKind) return kNoRow;
  const std::uint64_t hash = Key::hash(id);
  Shard& shard = shards_[hash >> kShardShift];
  Found found;
  std::uint64_t word = 0;
  {
    const std::lock_guard lock(shard.mutex);
    found = probe<Key>(shard.table.load(std::memory_order_relaxed), tag_of(hash), id);
    if (found.entry == nullptr) return kNoRow;
    word = found.entry->word;  // the entry may be gone with its table once the mutex is free
    // Release: whoever misses the id sees why. Readers that still see the row are pinned, and the epoch keeps row and
    // string for them.
    found.entry->row.store(kTombstone, std::memory_order_release);
    --shard.live;
  }
  size_.fetch_sub(1, std::memory_order_relaxed);
  if constexpr (Key::kKind == IdKind::kString) {
    string_bytes_.fetch_sub(Key::load(word).size() + sizeof(std::uint16_t), std::memory_order_relaxed);
    domain_.retire([word] { delete[] reinterpret_cast<char*>(word); });
  }
  return found.row;
}

Row IdMap::erase(std::int64_t id) { return erase_as<IntKey>(id); }
Row IdMap::erase(std::string_view id) { return erase_as<StringKey>(id); }

void IdMap::make_room(Shard& shard, std::size_t extra) {
  Table* old = shard.table.load(std::memory_order_relaxed);  // the mutex orders the table's changes
  if (old != nullptr && !crowded(shard.used + extra, old->mask + 1)) return;
  // At most half full of live ids: at least a fifth of the table must be inserted before the next rebuild pays for it.
  auto fresh = std::make_unique<Table>(std::max(kFirstCapacity, std::bit_ceil(2 * (shard.live + extra))));
  if (old != nullptr) {
    for (const Entry& entry : old->all()) {
      const std::uint32_t row = entry.row.load(std::memory_order_relaxed);
      if (row == kEmpty || row == kTombstone) continue;
      std::size_t place = entry.tag & fresh->mask;
      while (fresh->entries[place].row.load(std::memory_order_relaxed) != kEmpty) place = (place + 1) & fresh->mask;
      fresh->entries[place].word = entry.word;
      fresh->entries[place].tag = entry.tag;
      fresh->entries[place].row.store(row, std::memory_order_relaxed);
    }
  }
  shard.used = shard.live;
  shard.table.store(fresh.release(), std::memory_order_release);  // release: with all its entries
  if (old != nullptr) domain_.retire([old] { delete old; });
}

void IdMap::reserve_rows(std::size_t rows) {
  if (rows <= ids_.capacity()) return;
  const std::lock_guard lock(rows_mutex_);
  ids_.reserve(rows);
}

void IdMap::reserve(std::size_t extra) {
  // The largest of 64 shares stays below four standard deviations over the mean nearly always; if not, the insert
  // grows.
  const double mean = static_cast<double>(extra) / kShards;
  const auto share = static_cast<std::size_t>(std::ceil(mean + 4 * std::sqrt(mean)));
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    make_room(shard, share);
  }
  reserve_rows(rows_.load(std::memory_order_relaxed) + extra + 2 * kShards);
}

std::size_t IdMap::memory_bytes() const {
  std::size_t bytes = sizeof(*this) + ids_.memory_bytes() + string_bytes_.load(std::memory_order_relaxed);
  for (const Shard& shard : shards_) {
    const Table* table = shard.table.load(std::memory_order_acquire);  // with its size
    if (table != nullptr) bytes += sizeof(Table) + table->memory.bytes();
  }
  return bytes;
}

namespace {

// Where what is no UTF-8 begins, or the size. The well-formed sequences of the Unicode Standard, table 3-7: no overlong
// forms, no surrogates, nothing above U+10FFFF. Only the second byte's range depends on the first.
std::size_t first_invalid(std::string_view id) {
  std::size_t i = 0;
  while (i < id.size()) {
    const auto byte = [&](std::size_t k) { return k < id.size() ? static_cast<unsigned char>(id[k]) : 0u; };
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xC2 ? 0
                               : lead < 0xE0 ? 2
                               : lead < 0xF0 ? 3
                               : lead < 0xF5 ? 4
                                             : 0;
    const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    bool valid = length != 0 && (length < 2 || (low <= byte(i + 1) && byte(i + 1) <= high));
    for (std::size_t k = 2; valid && k < length; ++k) valid = (byte(i + k) & 0xC0) == 0x80;
    if (!valid) return i;
    i += length;
  }
  return id.size();
}

}  // namespace

bool is_valid_id(std::string_view id) { return id.size() <= kMaxIdBytes && first_invalid(id) == id.size(); }

void validate_id(std::string_view id) {
  if (id.size() > kMaxIdBytes) {
    throw std::invalid_argument("an id of " + std::to_string(id.size()) + " bytes; at most " +
                                std::to_string(kMaxIdBytes) + " are allowed");
  }
  const std::size_t invalid = first_invalid(id);
  if (invalid == id.size()) return;
  throw std::invalid_argument("an id that is not valid UTF-8 at byte " + std::to_string(invalid));
}

}  // namespace recengine
