// Hashes of ids: a family of functions, of which a key chooses one.
//
// Ids come from strangers. Who knows the function can make as many as he likes that fall on one place of a table, and
// each of them is then found only after all the others. So tables in memory use a key that is drawn when the library is
// loaded, and that nobody outside the process knows; nothing that can be observed depends on it. Files use the function
// of key 0, the same everywhere, unless somebody made ids against it (IdIndex::build).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace recengine {

struct IdHashKey {
  std::uint64_t a = 0, b = 0;

  bool is_zero() const { return a == 0 && b == 0; }
  static IdHashKey random() noexcept;
};

// The two halves of the 128-bit product, folded (the mixing step of wyhash, Wang Yi 2019).
inline std::uint64_t fold_product(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// REQUIRES: not key 0.
inline std::uint64_t keyed_hash(std::int64_t id, const IdHashKey& key) {
  const std::uint64_t h = fold_product(static_cast<std::uint64_t>(id) ^ key.a, 0xA0761D6478BD642Fu ^ key.b);
  return fold_product(h ^ key.b, 0xE7037ED1A0B428DBu ^ key.a);
}

inline std::uint64_t hash_id(std::int64_t id, const IdHashKey& key) {
  if (!key.is_zero()) return keyed_hash(id, key);
  // A bijection of 64 bits: MurmurHash3's finaliser with Stafford's constants (mix 13).
  std::uint64_t h = static_cast<std::uint64_t>(id) + 0x9E3779B97F4A7C15u;
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
  return h ^ (h >> 31);
}
std::uint64_t hash_id(std::string_view id, const IdHashKey& key);

// Drawn when the library is loaded.
extern const IdHashKey kProcessKey;

// For the standard's containers: their own hashes of numbers and strings are known as well.
struct IdHash {
  std::size_t operator()(std::int64_t id) const { return keyed_hash(id, kProcessKey); }
  std::size_t operator()(std::string_view id) const { return hash_id(id, kProcessKey); }
};

}  // namespace recengine
