#include "storage/memory.hpp"

#include <cstring>
#include <utility>

#include "storage/arena.hpp"

namespace recengine {

Memory::Memory(std::size_t bytes) {
  if (bytes == 0) return;
  data_ = static_cast<std::byte*>(Arena::shared().allocate(bytes));
  bytes_ = bytes;
  if (bytes <= Arena::kMaxPiece) std::memset(data_, 0, bytes);  // pages of its own are zeros
}

Memory::~Memory() {
  if (data_ != nullptr) Arena::shared().deallocate(data_, bytes_);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace recengine
