// The bytes of a log: segments of records. docs/file-format.md describes them.
//
// A record is known by its number, one more than that of the record before it. Its checksum begins from a value of the
// segment's own, which nobody outside the folder knows: bytes that came with an event never pass for a record.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/crc32c.hpp"

namespace recengine {

inline constexpr std::array<char, 8> kLogMagic = {'R', 'E', 'C', 'E', 'N', 'L', 'O', 'G'};
inline constexpr std::uint32_t kLogVersion = 1;
inline constexpr std::size_t kRecordAlignment = 8;
inline constexpr std::size_t kMaxRecord = std::size_t{1} << 30;  // bytes of its payload

struct SegmentHeader {
  std::array<char, 8> magic = kLogMagic;
  std::uint32_t version = kLogVersion;
  std::uint32_t zero = 0;
  std::uint64_t identity = 0;  // of the folder: drawn at random when it was made
  std::uint64_t first = 0;     // number of the first record
  std::array<std::byte, 28> zeros{};
  std::uint32_t crc = 0;  // CRC-32C of all the bytes before it
};
static_assert(sizeof(SegmentHeader) == 64);

struct RecordHeader {
  std::uint32_t crc;     // CRC-32C of the rest of the header and of the payload, from checksum_start
  std::uint32_t length;  // of the payload, which zeros follow up to the next multiple of 8
  std::uint64_t number;
};
static_assert(sizeof(RecordHeader) == 16);

inline std::uint32_t header_checksum(const SegmentHeader& header) {
  return crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, crc)));
}

inline std::uint32_t checksum_start(std::uint64_t identity, std::uint64_t first) {
  const std::array<std::uint64_t, 2> words{identity, first};
  return crc32c(std::as_bytes(std::span(words)));
}

inline std::uint32_t record_checksum(const RecordHeader& header, std::span<const std::byte> payload,
                                     std::uint32_t start) {
  const auto rest = std::as_bytes(std::span(&header, 1)).subspan(sizeof(header.crc));
  return crc32c(payload, crc32c(rest, start));
}

constexpr std::size_t record_size(std::size_t payload) {
  return sizeof(RecordHeader) + (payload + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
}

}  // namespace recengine
