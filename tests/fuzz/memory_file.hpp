// A file that lies in memory alone, with a path under which readers open it (Linux).
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <span>
#include <string>

#include "fuzz.hpp"

namespace recengine::fuzz {

class MemoryFile {
 public:
  MemoryFile() : file_(memfd_create("recengine-fuzz", MFD_CLOEXEC)) { expect(file_ >= 0); }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void set(std::span<const std::byte> bytes) {
    expect(ftruncate(file_, 0) == 0);
    expect(pwrite(file_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  }
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  const int file_;
};

}  // namespace recengine::fuzz
