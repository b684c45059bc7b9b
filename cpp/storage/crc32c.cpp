#include "storage/crc32c.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

#if defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace recengine {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian, and so is this code");

constexpr std::uint32_t kPolynomial = 0x82F63B78u;

// table[k][b]: the remainder of byte b followed by k zero bytes ("slicing by 8", Kounavis and Berry 2005).
constexpr auto kTable = [] {
  std::array<std::array<std::uint32_t, 256>, 8> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = remainder >> 1 ^ (remainder & 1 ? kPolynomial : 0u);
    table[0][byte] = remainder;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xFF];
    }
  }
  return table;
}();

std::uint64_t load_word(const std::byte* from) {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

#if defined(__x86_64__)
#define RECENGINE_CRC32C_TARGET __attribute__((target("sse4.2")))
inline bool hardware() { return __builtin_cpu_supports("sse4.2"); }
RECENGINE_CRC32C_TARGET inline std::uint32_t step8(std::uint32_t crc, std::uint64_t word) {
  return static_cast<std::uint32_t>(__builtin_ia32_crc32di(crc, word));
}
RECENGINE_CRC32C_TARGET inline std::uint32_t step1(std::uint32_t crc, std::byte byte) {
  return __builtin_ia32_crc32qi(crc, std::to_integer<unsigned char>(byte));
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define RECENGINE_CRC32C_TARGET
inline bool hardware() { return true; }
inline std::uint32_t step8(std::uint32_t crc, std::uint64_t word) { return __crc32cd(crc, word); }
inline std::uint32_t step1(std::uint32_t crc, std::byte byte) {
  return __crc32cb(crc, std::to_integer<std::uint8_t>(byte));
}
#else
#define RECENGINE_CRC32C_TARGET
inline bool hardware() { return false; }
inline std::uint32_t step8(std::uint32_t, std::uint64_t) { throw std::logic_error("no CRC-32C instruction"); }
inline std::uint32_t step1(std::uint32_t, std::byte) { throw std::logic_error("no CRC-32C instruction"); }
#endif

}  // namespace

namespace {

// The product of two polynomials, modulo that of the checksum; the highest bit is that of x^0.
constexpr std::uint32_t product(std::uint32_t a, std::uint32_t b) {
  std::uint32_t sum = 0;
  for (; a != 0; a <<= 1) {
    if ((a & 0x80000000u) != 0) sum ^= b;
    b = b >> 1 ^ ((b & 1) != 0 ? kPolynomial : 0);
  }
  return sum;
}

// x^(8 2^k)
constexpr auto kPowers = [] {
  std::array<std::uint32_t, 61> powers{0x80000000u >> 8};
  for (std::size_t k = 1; k < powers.size(); ++k) powers[k] = product(powers[k - 1], powers[k - 1]);
  return powers;
}();

}  // namespace

std::uint32_t crc32c_moved(std::uint32_t crc, std::uint64_t bytes) {
  for (std::size_t k = 0; bytes != 0; bytes >>= 1, ++k) {
    if ((bytes & 1) != 0) crc = product(kPowers[k], crc);
  }
  return crc;
}

std::uint32_t crc32c_portable(std::span<const std::byte> data, std::uint32_t before) {
  std::uint32_t crc = ~before;
  for (; data.size() >= 8; data = data.subspan(8)) {
    const std::uint64_t word = load_word(data.data()) ^ crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= kTable[7 - k][word >> (8 * k) & 0xFF];
  }
  for (const std::byte byte : data) crc = crc >> 8 ^ kTable[0][(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFF];
  return ~crc;
}

bool has_hardware_crc32c() { return hardware(); }

RECENGINE_CRC32C_TARGET std::uint32_t crc32c_hardware(std::span<const std::byte> data, std::uint32_t before) {
  const std::byte* at = data.data();
  std::size_t left = data.size();
  std::uint32_t crc = ~before;
  for (; left >= 8; left -= 8, at += 8) crc = step8(crc, load_word(at));
  for (; left > 0; --left, ++at) crc = step1(crc, *at);
  return ~crc;
}

std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t before) {
  static const bool fast = has_hardware_crc32c();
  return fast ? crc32c_hardware(data, before) : crc32c_portable(data, before);
}

}  // namespace recengine
