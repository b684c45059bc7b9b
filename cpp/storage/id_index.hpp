// IdIndex: the way from ids to rows as a file holds it (docs/file-format.md), used as it lies there.
//
// A hash table with open addressing and linear probing, of a power of two of words: 0, or the row plus one in the lower
// half and the lower half of the id's hash in the upper half. An id's first place is the upper bits of its hash, and it
// lies at most kFarthest places behind it.
//
// Nothing in it is trusted: a row out of range is passed over, an id whose offsets are wrong is empty, and nobody looks
// farther than that. What is found has the id that was asked for.
//
// Thread safety: immutable. What it refers to must outlive it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "storage/id_map.hpp"

namespace recengine {

class IdIndex {
 public:
  // At three quarters full a few hundred places are the most that chance ever makes.
  static constexpr std::size_t kFarthest = 4096;

  // The id of each row, the table and the key of its hashes; how far ids may lie from their places. A string's offsets
  // lie within `text`. Throws std::invalid_argument unless the table has a power of two of words, more than there are
  // `live` rows.
  IdIndex(const IdSpan& ids, std::size_t text, std::span<const std::uint64_t> words, std::size_t live,
          const IdHashKey& key = {}, std::size_t farthest = kFarthest);

  IdKind kind() const { return ids_.kind; }
  std::size_t size() const { return live_; }
  std::size_t used() const;  // words that are not 0: as many as live rows, if nothing is wrong

  Row find(std::int64_t id) const;
  Row find(std::string_view id) const;

  // REQUIRES: row < the number of rows.
  std::int64_t int_at(Row row) const { return ids_.ints[row]; }
  std::string_view string_at(Row row) const;

  // The table of those rows for which is_live(row). By key 0, so that equal ids give equal files; unless too many fall
  // on one place: then they were chosen for that, and the key is drawn.
  struct Built {
    std::vector<std::uint64_t> words;
    IdHashKey key;
  };
  template <class Live>
  static Built build(const IdSpan& ids, Live is_live) {
    Built built{std::vector<std::uint64_t>(capacity(count(ids, is_live))), {}};
    while (!try_build(ids, is_live, built)) built.key = IdHashKey::random();
    return built;
  }

 private:
  template <class Live>
  static std::size_t count(const IdSpan& ids, Live is_live) {
    std::size_t live = 0;
    for (std::size_t row = 0; row < ids.size; ++row) live += is_live(row) ? 1 : 0;
    return live;
  }
  template <class Live>
  static bool try_build(const IdSpan& ids, Live is_live, Built& built) {
    std::fill(built.words.begin(), built.words.end(), 0);
    for (std::size_t row = 0; row < ids.size; ++row) {
      if (is_live(row) && !place(built.words, hash_of(ids, row, built.key), static_cast<Row>(row))) return false;
    }
    return true;
  }
  static std::size_t capacity(std::size_t ids);
  static std::uint64_t hash_of(const IdSpan& ids, std::size_t row, const IdHashKey& key);
  // False if that would be too far.
  static bool place(std::span<std::uint64_t> words, std::uint64_t hash, Row row);
  static std::size_t first_place(std::uint64_t hash, std::size_t capacity);

  template <class Equal>
  Row find_if(std::uint64_t hash, Equal equal) const;

  IdSpan ids_;
  std::size_t text_;
  std::span<const std::uint64_t> words_;
  std::size_t live_;
  IdHashKey key_;
  std::size_t farthest_;
};

}  // namespace recengine
