// FileMapping: a file as memory, read-only and shared: processes that map the same file share its pages, and pages that
// nobody has touched are not read.
//
// The file must not change while it is mapped: whoever cuts it short ends the process (SIGBUS). recengine never writes
// to a finished file: it puts a new one in its place, and the mapping keeps the old one.
//
// Thread safety: immutable.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace recengine {

class FileMapping {
 public:
  FileMapping() = default;
  // All of an open file; its descriptor may be closed afterwards. On failure nothing is mapped and errno says why.
  FileMapping(int file, std::size_t bytes);
  ~FileMapping();
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&& other) noexcept;
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  explicit operator bool() const { return data_ != nullptr; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Starts to read all of it from the disk.
  void read_ahead() const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Which file it is, whatever its names. A number is used again only when nobody has the file open or mapped any more.
struct FileIdentity {
  std::uint64_t device = 0, number = 0;

  FileIdentity() = default;
  explicit FileIdentity(const struct stat& status)
      : device(static_cast<std::uint64_t>(status.st_dev)), number(static_cast<std::uint64_t>(status.st_ino)) {}
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

}  // namespace recengine
