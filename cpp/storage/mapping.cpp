#include "storage/mapping.hpp"

#include <sys/mman.h>

#include <utility>

namespace recengine {

FileMapping::FileMapping(int file, std::size_t bytes) {
  void* const start = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, 0);
  if (start == MAP_FAILED) return;
  data_ = static_cast<const std::byte*>(start);
  size_ = bytes;
}

FileMapping::~FileMapping() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void FileMapping::read_ahead() const {
  // Advice: where it is refused, pages are read when they are touched.
  static_cast<void>(madvise(const_cast<std::byte*>(data_), size_, MADV_WILLNEED));
}

}  // namespace recengine
