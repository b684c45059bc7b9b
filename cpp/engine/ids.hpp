// Ids as they enter and leave the engine: single ones, owned arrays, and the checks that come before any change.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "storage/id_index.hpp"
#include "storage/id_map.hpp"

namespace recengine {

// One id of either kind, borrowed.
struct Id {
  IdKind kind = IdKind::kNone;
  std::int64_t number = 0;
  std::string_view text;
};

// An id that should be known and is not (KeyError in Python).
class UnknownId : public std::out_of_range {
 public:
  using std::out_of_range::out_of_range;
};

// An int where the engine holds strings, or the other way round (TypeError in Python).
class WrongIdKind : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// An owned array of ids.
struct IdArray {
  IdKind kind = IdKind::kNone;
  std::vector<std::int64_t> ints;
  std::string bytes;
  std::vector<std::uint64_t> offsets{0};

  std::size_t size() const { return kind == IdKind::kString ? offsets.size() - 1 : ints.size(); }
  void reserve(const IdMap& map, std::size_t rows);  // for the map's ids, and some more
  void append(const IdMap& map, Row row);
  void append(const Id& id);
  void append(const IdSpan& ids);  // of the kind that there is, if there are some
  void append_blank();             // of a row without an id: 0, or nothing
  IdSpan span() const;
};

inline Id id_at(const IdSpan& ids, std::size_t k) {
  if (ids.kind == IdKind::kString) return {ids.kind, 0, ids.string_at(k)};
  return {ids.kind, ids.ints[k], {}};
}

// "'u1'" or "17".
std::string describe(const Id& id);

Row find(const IdMap& map, const Id& id);
Row find(const IdIndex& index, const Id& id);

// Throw WrongIdKind, or std::invalid_argument for a string that is too long or not UTF-8. `what` is "user" or "item".
void check_kind(const IdMap& map, IdKind kind, std::string_view what);
void check_ids(const IdMap& map, const IdSpan& ids, std::string_view what);

// The rows of all the ids; throws UnknownId naming the first that has none.
std::vector<Row> find_all(const IdMap& map, const IdSpan& ids, std::string_view what);

std::uint64_t hash_at(const IdSpan& ids, std::size_t k);

// How many different ids among those without a row.
std::size_t count_new(const IdSpan& ids, const Row* rows);

// Calls visit with the id as the map's key type.
template <class Visit>
auto with_key(const Id& id, Visit visit) {
  return id.kind == IdKind::kString ? visit(id.text) : visit(id.number);
}

}  // namespace recengine
