// IdIndex: the way from ids to rows as a file holds it (docs/file-format.md), used as it lies there.
//
// A hash table with open addressing and linear probing, of a power of two of words: 0, or the row plus one in the lower
// half and the lower half of the id's hash in the upper half. An id's first place is the upper bits of its hash.
//
// Nothing in it is trusted: a row out of range is passed over, an id whose offsets are wrong is empty, a table without
// an empty place is searched once around. What is found has the id that was asked for.
//
// Thread safety: immutable. What it refers to must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "storage/id_map.hpp"

namespace recengine {

class IdIndex {
 public:
  // The id of each row, and the table. A string's offsets lie within `text`. Throws std::invalid_argument unless the
  // table has a power of two of words, more than there are `live` rows.
  IdIndex(const IdSpan& ids, std::size_t text, std::span<const std::uint64_t> words, std::size_t live);

  IdKind kind() const { return ids_.kind; }
  std::size_t size() const { return live_; }
  std::size_t used() const;  // words that are not 0: as many as live rows, if nothing is wrong

  Row find(std::int64_t id) const;
  Row find(std::string_view id) const;

  // REQUIRES: row < the number of rows.
  std::int64_t int_at(Row row) const { return ids_.ints[row]; }
  std::string_view string_at(Row row) const;

  // The table of those rows for which is_live(row).
  template <class Live>
  static std::vector<std::uint64_t> build(const IdSpan& ids, Live is_live) {
    std::vector<std::uint64_t> words(capacity(count(ids, is_live)));
    for (std::size_t row = 0; row < ids.size; ++row) {
      if (is_live(row)) place(words, hash_of(ids, row), static_cast<Row>(row));
    }
    return words;
  }

 private:
  template <class Live>
  static std::size_t count(const IdSpan& ids, Live is_live) {
    std::size_t live = 0;
    for (std::size_t row = 0; row < ids.size; ++row) live += is_live(row) ? 1 : 0;
    return live;
  }
  static std::size_t capacity(std::size_t ids);
  static std::uint64_t hash_of(const IdSpan& ids, std::size_t row);
  static void place(std::span<std::uint64_t> words, std::uint64_t hash, Row row);
  static std::size_t first_place(std::uint64_t hash, std::size_t capacity);

  template <class Equal>
  Row find_if(std::uint64_t hash, Equal equal) const;

  IdSpan ids_;
  std::size_t text_;
  std::span<const std::uint64_t> words_;
  std::size_t live_;
};

}  // namespace recengine
