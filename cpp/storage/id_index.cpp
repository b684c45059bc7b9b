#include "storage/id_index.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace recengine {

IdIndex::IdIndex(const IdSpan& ids, std::size_t text, std::span<const std::uint64_t> words, std::size_t live,
                 const IdHashKey& key, std::size_t farthest)
    : ids_(ids), text_(text), words_(words), live_(live), key_(key), farthest_(std::min(farthest, words.size() - 1)) {
  if (!std::has_single_bit(words.size()) || words.size() <= live) {
    throw std::invalid_argument("the index of ids has an impossible size");
  }
}

std::size_t IdIndex::used() const {
  return words_.size() - static_cast<std::size_t>(std::count(words_.begin(), words_.end(), std::uint64_t{0}));
}

// At most three quarters full.
std::size_t IdIndex::capacity(std::size_t ids) { return std::bit_ceil(ids + ids / 3 + 1); }

std::size_t IdIndex::first_place(std::uint64_t hash, std::size_t capacity) {
  return capacity == 1 ? 0 : hash >> (64 - std::countr_zero(capacity));
}

std::uint64_t IdIndex::hash_of(const IdSpan& ids, std::size_t row, const IdHashKey& key) {
  return ids.kind == IdKind::kString ? hash_id(ids.string_at(row), key) : hash_id(ids.ints[row], key);
}

bool IdIndex::place(std::span<std::uint64_t> words, std::uint64_t hash, Row row) {
  std::size_t at = first_place(hash, words.size());
  for (std::size_t far = 0; words[at] != 0; ++far) {
    if (far == kFarthest) return false;
    at = (at + 1) & (words.size() - 1);
  }
  words[at] = hash << 32 | (row + 1);
  return true;
}

std::string_view IdIndex::string_at(Row row) const {
  const std::uint64_t first = ids_.offsets[row], end = ids_.offsets[row + 1];
  if (first > end || end > text_ || end - first > kMaxIdBytes) return {};
  return {ids_.bytes + first, end - first};
}

template <class Equal>
Row IdIndex::find_if(std::uint64_t hash, Equal equal) const {
  std::size_t at = first_place(hash, words_.size());
  for (std::size_t far = 0; far <= farthest_; ++far, at = (at + 1) & (words_.size() - 1)) {
    const std::uint64_t word = words_[at];
    if (word == 0) return kNoRow;
    const auto row = static_cast<Row>(word) - 1;
    if (word >> 32 == (hash & 0xFFFFFFFFu) && row < ids_.size && equal(row)) return row;
  }
  return kNoRow;
}

Row IdIndex::find(std::int64_t id) const {
  if (kind() != IdKind::kInt) return kNoRow;
  return find_if(hash_id(id, key_), [&](Row row) { return ids_.ints[row] == id; });
}

Row IdIndex::find(std::string_view id) const {
  if (kind() != IdKind::kString) return kNoRow;
  return find_if(hash_id(id, key_), [&](Row row) { return string_at(row) == id; });
}

}  // namespace recengine
