#include "storage/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace recengine {

void fail_io(const char* what, const std::filesystem::path& path) {
  throw std::system_error(errno, std::generic_category(), std::string("cannot ") + what + " " + path.string());
}

void fail_after(const std::string& done, const std::system_error& failure) {
  // std::system_error adds what the code means, and has added it to this one.
  std::string said = failure.what();
  const std::string meaning = ": " + failure.code().message();
  if (said.ends_with(meaning)) said.resize(said.size() - meaning.size());
  throw std::system_error(failure.code(), done + "; then: " + said);
}

void File::reset() {
  if (descriptor >= 0) close(descriptor);
  descriptor = -1;
}

int sync_to_disk(int file) {
#ifdef F_FULLFSYNC
  if (fcntl(file, F_FULLFSYNC) == 0) return 0;  // macOS: fsync alone leaves the data in the drive's cache
#endif
  return retry([&] { return fsync(file); });
}

int sync_folder(const std::filesystem::path& folder) {
  const File opened{retry([&] { return open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC); })};
  if (opened.descriptor < 0) return -1;
  // Some file systems cannot sync folders and say EINVAL.
  return sync_to_disk(opened.descriptor) < 0 && errno != EINVAL ? -1 : 0;
}

void start_writing([[maybe_unused]] int file, [[maybe_unused]] off_t offset,
                   [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__)
  static_cast<void>(sync_file_range(file, offset, static_cast<off_t>(bytes), SYNC_FILE_RANGE_WRITE));  // advice
#endif
}

std::size_t read_fully(int file, std::span<std::byte> into, const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::size_t piece = std::min(into.size() - done, kLargestTransfer);
    const ssize_t got = retry([&] { return read(file, into.data() + done, piece); });
    if (got < 0) fail_io("read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

bool write_fully_at(int file, std::span<const std::byte> bytes, off_t offset) {
  while (!bytes.empty()) {
    const std::size_t piece = std::min(bytes.size(), kLargestTransfer);
    const ssize_t done = retry([&] { return pwrite(file, bytes.data(), piece, offset); });
    if (done < 0) return false;
    if (done == 0) {  // no file system says so; if one did, this would never end
      errno = EIO;
      return false;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    offset += static_cast<off_t>(done);
  }
  return true;
}

}  // namespace recengine
