#include "durability/log_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "storage/file.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/snapshot.hpp"

namespace recengine {

LogReader::LogReader(std::filesystem::path path, std::uint64_t identity, std::uint64_t first, bool salvage)
    : path_(std::move(path)), number_(first), start_(checksum_start(identity, first)), salvage_(salvage) {
  const File file{retry([&] { return open(path_.c_str(), O_RDONLY | O_CLOEXEC); })};
  struct stat status{};
  if (file.descriptor < 0 || fstat(file.descriptor, &status) < 0) fail_io("open", path_);
  if (!S_ISREG(status.st_mode)) fail("not a regular file");
  file_ = Memory(static_cast<std::size_t>(status.st_size));
  length_ = read_fully(file.descriptor, {file_.data(), file_.bytes()}, path_);

  SegmentHeader header;
  if (length_ >= sizeof(header)) std::memcpy(&header, file_.data(), sizeof(header));
  const bool whole = length_ >= sizeof(header) && header.magic == kLogMagic && header.crc == header_checksum(header);
  if (whole) {
    if (header.version != kLogVersion) {
      fail(message("log version ", header.version, "; this build reads version ", kLogVersion));
    }
    if (header.identity != identity) fail("it belongs to another engine");
    if (header.first != first) fail(message("it begins with record ", header.first, ", not ", first));
    return;
  }
  // Nothing is written behind a header before it is whole.
  if (length_ > sizeof(header)) check_nothing_follows();
  void_ = true;
  position_ = 0;
}

std::optional<LogReader::Record> LogReader::record_at(std::uint64_t position, std::uint64_t number) const {
  RecordHeader header;
  if (length_ < position || length_ - position < sizeof(header)) return std::nullopt;
  std::memcpy(&header, file_.data() + position, sizeof(header));
  if (header.number != number || header.length > kMaxRecord) return std::nullopt;
  if (length_ - position < record_size(header.length)) return std::nullopt;
  const std::span<const std::byte> payload(file_.data() + position + sizeof(header), header.length);
  if (record_checksum(header, payload, start_) != header.crc) return std::nullopt;
  const std::span<const std::byte> padding(payload.data() + payload.size(),
                                           record_size(payload.size()) - sizeof(header) - payload.size());
  if (std::any_of(padding.begin(), padding.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
    return std::nullopt;
  }
  return Record{number, payload};
}

std::optional<LogReader::Record> LogReader::next() {
  if (void_) return std::nullopt;
  std::optional<Record> record = record_at(position_, number_);
  if (record) {
    position_ += record_size(record->payload.size());
    ++number_;
  } else if (position_ < length_) {
    check_nothing_follows();
  }
  return record;
}

// Whether there is a whole record anywhere behind the one that is not. Bytes that came with events may look like the
// beginnings of many long ones: each costs the same, since the checksum of a part follows from those of the file up to
// where it begins and up to where it ends.
void LogReader::check_nothing_follows() const {
  if (salvage_) return;
  constexpr std::size_t kWord = kRecordAlignment, kWordsPerCheck = std::size_t{1} << 16;
  std::vector<std::uint32_t> up_to;  // of the bytes from position_ up to each word, and the last word's end
  up_to.reserve((length_ - position_) / kWord + 1);
  up_to.push_back(0);
  const auto bytes = [this](std::uint64_t at, std::size_t size) {
    return std::span<const std::byte>(file_.data() + at, size);
  };
  for (std::uint64_t at = position_; at + kWord <= length_; at += kWord) {
    if (up_to.size() % kWordsPerCheck == 0) check_interrupt();
    up_to.push_back(crc32c(bytes(at, kWord), up_to.back()));
  }
  const auto checksum_up_to = [&](std::uint64_t at) {
    const std::size_t words = (at - position_) / kWord, rest = (at - position_) % kWord;
    return crc32c(bytes(at - rest, rest), up_to[words]);
  };
  for (std::uint64_t at = position_; at + sizeof(RecordHeader) <= length_; at += kWord) {
    if ((at - position_) / kWord % kWordsPerCheck == 0) check_interrupt();
    RecordHeader header;
    std::memcpy(&header, file_.data() + at, sizeof(header));
    // Each record takes 16 bytes or more: others are no numbers of this segment.
    if (header.number < number_ || header.number - number_ > (at - position_) / sizeof(RecordHeader)) continue;
    if (header.length > kMaxRecord || length_ - at < record_size(header.length)) continue;
    const std::uint64_t begin = at + sizeof(header), end = begin + header.length;
    const std::uint32_t before = record_checksum(header, {}, start_) ^ checksum_up_to(begin);
    if (header.crc != (crc32c_moved(before, header.length) ^ checksum_up_to(end))) continue;
    if (record_at(at, header.number)) {
      fail(message("record ", number_, " at byte ", position_, " is damaged, and record ", header.number,
                   " behind it is not"));
    }
  }
}

void LogReader::fail(std::string_view reason) const {
  throw FormatError("cannot recover from " + path_.string() + ": " + std::string(reason) +
                    " (Engine.open(..., salvage=True) keeps what comes before)");
}

}  // namespace recengine
