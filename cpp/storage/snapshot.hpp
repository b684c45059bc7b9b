// The container of a saved engine: one file of named, checksummed sections. docs/file-format.md describes its bytes.
//
// A file appears under its name only when it is complete and on the disk; until then the old one stays. A reader that
// copies the file hands nothing out before all of it has been checked. One that maps it has checked the structure and
// the checksums of small sections: what it hands out of the others is not to be trusted before `verify` has returned.
//
// Errors: std::system_error for what the system refuses, FormatError for a file that is foreign, cut or damaged. Both
// name the path.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/table.hpp"
#include "storage/mapping.hpp"
#include "storage/memory.hpp"

namespace recengine {

class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr std::uint32_t kFormatVersion = 4;  // that is written
inline constexpr std::uint32_t kOldestVersion = 1;  // that is read
inline constexpr std::uint32_t kMappableVersion = 4;

// What a section holds, so that no table is read as another type.
enum class ElementType : std::uint32_t { kBytes, kInt64, kUint32, kUint64, kFloat32, kFloat64, kFloat16 };

template <class T>
constexpr ElementType element_type() {
  if constexpr (std::is_same_v<T, std::byte> || std::is_same_v<T, char>)
    return ElementType::kBytes;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return ElementType::kInt64;
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return ElementType::kUint32;
  else if constexpr (std::is_same_v<T, std::uint64_t>)
    return ElementType::kUint64;
  else if constexpr (std::is_same_v<T, float>)
    return ElementType::kFloat32;
  else if constexpr (std::is_same_v<T, Half>)
    return ElementType::kFloat16;
  else {
    static_assert(std::is_same_v<T, double>, "no such element type");
    return ElementType::kFloat64;
  }
}

struct Section {
  std::array<char, 16> name;  // padded with zeros
  ElementType type;
  std::uint32_t crc;     // CRC-32C of its bytes
  std::uint64_t offset;  // from the start of the file, a multiple of 64
  std::uint64_t length;  // in bytes
};
static_assert(sizeof(Section) == 40);

class SnapshotWriter {
 public:
  // Opens a temporary file beside `path`.
  explicit SnapshotWriter(std::filesystem::path path);
  // Keeps everything in memory, where it takes little time, until commit_to writes the file.
  SnapshotWriter() : position_(kStart), in_memory_(true) {}
  // Takes memory for so many bytes now: later, while somebody waits, it would take longer than what is written to it.
  void reserve(std::uint64_t bytes);
  ~SnapshotWriter();  // without commit, removes the temporary file and leaves `path` as it was
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  // One section: a name of 1 to 16 printable ASCII characters, each name once (std::invalid_argument otherwise).
  template <class T>
  void add(std::string_view name, std::span<const T> values) {
    begin<T>(name);
    append(values);
    end();
  }

  // The same piece by piece, for tables that don't lie in one run. Between begin and end, append only.
  template <class T>
  void begin(std::string_view name) {
    begin_section(name, element_type<T>());
  }
  template <class T>
  void append(std::span<const T> values) {
    append_bytes(element_type<T>(), std::as_bytes(values));
  }
  void end();

  // Puts the finished file on the disk and under its name. The writer is used up.
  void commit();
  // The same of what was kept in memory. Throws as the constructor with a path does.
  void commit_to(std::filesystem::path path);

  std::uint64_t bytes() const { return position_; }  // of the file so far

 private:
  static constexpr std::uint64_t kStart = 64;  // of the first section
  static constexpr std::size_t kBlock = std::size_t{1} << 23;

  void open_temporary(std::filesystem::path path);
  void keep(std::span<const std::byte> bytes);
  void begin_section(std::string_view name, ElementType type);
  void append_bytes(ElementType type, std::span<const std::byte> bytes);
  void write(std::span<const std::byte> bytes);
  void write_through(std::span<const std::byte> bytes);
  void pad();
  void flush();
  void abandon();
  [[noreturn]] void fail();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int file_ = -1;
  bool open_section_ = false;
  std::uint64_t position_ = 0;                         // the end of the file, what is buffered included
  std::uint64_t written_ = kStart, started_ = kStart;  // given to the system; and on its way to the disk
  std::vector<std::byte> buffer_;                      // the last bytes before position_, not yet given to the system
  std::vector<Section> sections_;
  bool in_memory_ = false;
  // In memory: the bytes from kStart to position_, in blocks of which all are full but the last, and those behind it.
  std::vector<Memory> blocks_;
};

class SnapshotReader {
 public:
  enum class Access : std::uint8_t { kCopied, kMapped };

  // Reads the file into memory (as much as it is long) and checks every byte of it; or maps it (storage/mapping.hpp).
  explicit SnapshotReader(const std::filesystem::path& path, Access access = Access::kCopied);

  const std::filesystem::path& path() const { return path_; }
  std::uint32_t version() const { return version_; }
  FileIdentity identity() const { return identity_; }
  std::size_t bytes() const { return bytes_.size(); }

  // Checks every byte of a mapped file. Throws FormatError; returns false if `stop` was set meanwhile. Any thread.
  bool verify(const std::atomic<bool>& stop) const;

  bool has(std::string_view name) const { return find(name) != nullptr; }

  // The section's bytes, 64-byte aligned, valid as long as the reader. FormatError if there is none of that name.
  std::span<const std::byte> section(std::string_view name) const;

  // The same as elements; FormatError also if it holds another type.
  template <class T>
  std::span<const T> array(std::string_view name) const {
    const std::span<const std::byte> bytes = typed_section(name, element_type<T>(), sizeof(T));
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

  const std::vector<Section>& sections() const { return sections_; }

 private:
  static constexpr std::uint64_t kSmall = std::uint64_t{1} << 16;  // sections whose checksums do not wait

  // Its checksum, and the zeros behind it. False if stopped.
  bool check_section(const Section& section, const std::atomic<bool>* stop) const;
  const Section* find(std::string_view name) const;
  std::span<const std::byte> typed_section(std::string_view name, ElementType type, std::size_t size) const;
  [[noreturn]] void fail(std::string_view reason) const;

  std::filesystem::path path_;
  std::uint32_t version_ = 0;
  FileIdentity identity_;
  Memory copy_;
  FileMapping mapping_;
  std::span<const std::byte> bytes_;  // of the one or the other
  std::vector<Section> sections_;
};

}  // namespace recengine
