// CRC-32C (Castagnoli), the checksum of the file format: RFC 3720, appendix B.4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace recengine {

// The checksum of `data`, or, given the checksum of what came before, of both together.
std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t before = 0);

// What a checksum becomes when so many bytes follow, but for their own: for any two parts a and b,
// crc32c(b, crc32c(a)) == crc32c_moved(crc32c(a), size of b) ^ crc32c(b). It is linear: of x ^ y it is that of both.
std::uint32_t crc32c_moved(std::uint32_t crc, std::uint64_t bytes);

// The ways to compute it, all with the same result; crc32c takes the fastest that this machine has.
std::uint32_t crc32c_portable(std::span<const std::byte> data, std::uint32_t before = 0);
bool has_hardware_crc32c();
std::uint32_t crc32c_hardware(std::span<const std::byte> data, std::uint32_t before = 0);  // REQUIRES: it has

}  // namespace recengine
