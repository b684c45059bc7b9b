// LogReader: the records of one segment, in order, each checked before it is handed out.
//
// Where a record is not whole the segment ends. That is what a process leaves that died while it wrote, or a power cut:
// a torn tail. But if a whole record lies behind, what is there was damaged later: a FormatError.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

#include "durability/log_format.hpp"
#include "storage/memory.hpp"

namespace recengine {

class LogReader {
 public:
  struct Record {
    std::uint64_t number;
    std::span<const std::byte> payload;  // begins at a multiple of 8, valid as long as the reader
  };

  // Reads the segment into memory. `first` is the number that its name says. With `salvage`, damage ends the segment
  // like a torn tail. Throws FormatError for a segment of another folder or with a damaged header.
  LogReader(std::filesystem::path path, std::uint64_t identity, std::uint64_t first, bool salvage = false);

  std::optional<Record> next();  // none: the end. Throws FormatError.

  std::uint64_t next_number() const { return number_; }  // of the record after the last one
  std::uint64_t end() const { return position_; }        // bytes up to the end of the last record
  std::uint64_t bytes() const { return length_; }
  // The segment was cut while it was made, and holds nothing, not even a header.
  bool is_void() const { return void_; }

 private:
  std::optional<Record> record_at(std::uint64_t position, std::uint64_t number) const;
  void check_nothing_follows() const;
  [[noreturn]] void fail(std::string_view reason) const;

  std::filesystem::path path_;
  Memory file_;
  std::uint64_t length_ = 0;
  std::uint64_t position_ = sizeof(SegmentHeader);
  std::uint64_t number_;
  std::uint32_t start_;  // of its checksums
  bool salvage_;
  bool void_ = false;
};

}  // namespace recengine
