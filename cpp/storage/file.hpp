// The system calls behind files: repeated where a signal interrupted them, with the path in their errors.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace recengine {

// Throws std::system_error with errno: "cannot <what> <path>".
[[noreturn]] void fail_io(const char* what, const std::filesystem::path& path);

// Throws the failure again, after what had been done before it: "<done>; then: <what it said>".
[[noreturn]] void fail_after(const std::string& done, const std::system_error& failure);

inline constexpr std::size_t kLargestTransfer = std::size_t{1} << 30;  // one system call moves less than 2 GiB

// Repeats a system call that a signal interrupted.
template <class Call>
auto retry(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

// A file descriptor that closes itself.
struct File {
  explicit File(int opened = -1) : descriptor(opened) {}
  ~File() { reset(); }
  File(File&& other) noexcept : descriptor(std::exchange(other.descriptor, -1)) {}
  File& operator=(File&& other) noexcept {
    if (this != &other) {
      reset();
      descriptor = std::exchange(other.descriptor, -1);
    }
    return *this;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  void reset();

  int descriptor;
};

// Puts a file's bytes on the disk; as a system call: -1 and errno.
int sync_to_disk(int file);
// The same of the names in a folder.
int sync_folder(const std::filesystem::path& folder);
// Has the system begin to write these bytes to the disk, where it can be told to: sync_to_disk then finds less to do.
void start_writing(int file, off_t offset, std::size_t bytes) noexcept;

// Reads until `into` is full or the file ends; returns how much there was.
std::size_t read_fully(int file, std::span<std::byte> into, const std::filesystem::path& path);
// Writes all of it at an offset; false, and errno, if the system refused, after which any part may have been written.
bool write_fully_at(int file, std::span<const std::byte> bytes, off_t offset);

}  // namespace recengine
