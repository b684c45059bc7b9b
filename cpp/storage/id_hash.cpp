#include "storage/id_hash.hpp"

#include <unistd.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <random>

namespace recengine {

namespace {

template <class T>
T load_bytes(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace

IdHashKey IdHashKey::random() noexcept {
  try {
    std::random_device device;
    const auto word = [&device] { return std::uint64_t{device()} << 32 | device(); };
    return {word(), word() | 1};
  } catch (const std::exception&) {
    // A system without random numbers: what an outsider would have to guess is little, but it is not nothing.
    const auto time = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    const auto place = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&time));
    return {fold_product(time, place ^ 0x9E3779B97F4A7C15u), static_cast<std::uint64_t>(getpid()) << 20 | 1};
  }
}

const IdHashKey kProcessKey = IdHashKey::random();

std::uint64_t hash_id(std::string_view id, const IdHashKey& key) {
  const std::uint64_t k0 = 0xA0761D6478BD642Fu ^ key.a, k1 = 0xE7037ED1A0B428DBu ^ key.b;
  constexpr std::uint64_t k2 = 0x8EBC6AF09C88C6E3u;
  const char* at = id.data();
  std::size_t left = id.size();
  std::uint64_t h = k0 ^ left;
  for (; left > 16; left -= 16, at += 16) {
    h = fold_product(load_bytes<std::uint64_t>(at) ^ k1, load_bytes<std::uint64_t>(at + 8) ^ h);
  }
  std::uint64_t a = 0;
  std::uint64_t b = 0;  // the last 0 to 16 bytes; the two loads may overlap
  if (left >= 8) {
    a = load_bytes<std::uint64_t>(at);
    b = load_bytes<std::uint64_t>(at + left - 8);
  } else if (left >= 4) {
    a = load_bytes<std::uint32_t>(at);
    b = load_bytes<std::uint32_t>(at + left - 4);
  } else if (left > 0) {
    a = static_cast<std::uint64_t>(static_cast<unsigned char>(at[0])) << 16 |
        static_cast<std::uint64_t>(static_cast<unsigned char>(at[left / 2])) << 8 |
        static_cast<unsigned char>(at[left - 1]);
  }
  h = fold_product(a ^ k1, b ^ h);
  return fold_product(h ^ k2, id.size() ^ k1);
}

}  // namespace recengine
