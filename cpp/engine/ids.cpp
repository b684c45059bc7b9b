#include "engine/ids.hpp"

#include <algorithm>

#include "storage/message.hpp"

namespace recengine {

namespace {

std::string_view name_of(IdKind kind) { return kind == IdKind::kString ? "strings" : "ints"; }

}  // namespace

void IdArray::reserve(const IdMap& map, std::size_t rows) {
  if (map.kind() == IdKind::kString) {
    offsets.reserve(rows + 1);
    bytes.reserve(map.string_bytes() + map.string_bytes() / 64 + kMaxIdBytes);
  } else {
    ints.reserve(rows);
  }
}

void IdArray::append(const IdMap& map, Row row) {
  kind = map.kind();
  if (kind == IdKind::kString) {
    bytes += map.string_at(row);
    offsets.push_back(bytes.size());
  } else {
    ints.push_back(map.int_at(row));
  }
}

void IdArray::append(const IdSpan& ids) {
  kind = ids.kind;
  for (std::size_t k = 0; k < ids.size; ++k) append(id_at(ids, k));
}

void IdArray::append(const Id& id) {
  kind = id.kind;
  if (kind == IdKind::kString) {
    bytes += id.text;
    offsets.push_back(bytes.size());
  } else {
    ints.push_back(id.number);
  }
}

void IdArray::append_blank() {
  if (kind == IdKind::kString) {
    offsets.push_back(bytes.size());
  } else {
    ints.push_back(0);
  }
}

IdSpan IdArray::span() const { return {kind, size(), ints.data(), bytes.data(), offsets.data()}; }

std::string describe(const Id& id) {
  return id.kind == IdKind::kString ? message('\'', id.text, '\'') : message(id.number);
}

Row find(const IdMap& map, const Id& id) {
  return with_key(id, [&map](auto key) { return map.find(key); });
}

Row find(const IdIndex& index, const Id& id) {
  return with_key(id, [&index](auto key) { return index.find(key); });
}

void check_kind(const IdMap& map, IdKind kind, std::string_view what) {
  const IdKind held = map.kind();
  if (held == IdKind::kNone || kind == IdKind::kNone || held == kind) return;
  throw WrongIdKind(message(what, " ids of this engine are ", name_of(held), ", not ", name_of(kind)));
}

void check_ids(const IdMap& map, const IdSpan& ids, std::string_view what) {
  check_kind(map, ids.kind, what);
  if (ids.kind != IdKind::kString) return;
  for (std::size_t k = 0; k < ids.size; ++k) validate_id(ids.string_at(k));
}

std::vector<Row> find_all(const IdMap& map, const IdSpan& ids, std::string_view what) {
  check_kind(map, ids.kind, what);
  std::vector<Row> rows(ids.size);
  map.find_many(ids, 0, ids.size, rows.data());
  for (std::size_t k = 0; k < ids.size; ++k) {
    if (rows[k] == kNoRow) throw UnknownId(message("unknown ", what, " ", describe(id_at(ids, k))));
  }
  return rows;
}

std::uint64_t hash_at(const IdSpan& ids, std::size_t k) {
  return with_key(id_at(ids, k), [](auto key) { return IdMap::hash(key); });
}

std::size_t count_new(const IdSpan& ids, const Row* rows) {
  std::vector<std::uint64_t> hashes;
  for (std::size_t k = 0; k < ids.size; ++k) {
    if (rows[k] == kNoRow) hashes.push_back(hash_at(ids, k));
  }
  std::sort(hashes.begin(), hashes.end());
  return static_cast<std::size_t>(std::unique(hashes.begin(), hashes.end()) - hashes.begin());
}

}  // namespace recengine
