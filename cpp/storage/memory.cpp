#include "storage/memory.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <utility>

namespace recengine {
namespace {

// Maps one huge page more than asked for and gives back what lies outside the aligned part.
std::byte* map_aligned(std::size_t bytes) {
  const std::size_t mapped = bytes + kHugePage;
  void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(start);
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before != 0) munmap(begin, before);
  munmap(begin + before + bytes, kHugePage - before);
#ifdef MADV_HUGEPAGE
  madvise(begin + before, bytes, MADV_HUGEPAGE);  // advice: where it is refused, small pages serve as well
#endif
  return begin + before;
}

}  // namespace

Memory::Memory(std::size_t bytes) {
  if (bytes == 0) return;
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  if (bytes < kHugePage) {
    data_ = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kCacheLine}));
    std::memset(data_, 0, bytes);
    bytes_ = bytes;
  } else {
    const std::size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    data_ = map_aligned(rounded);
    bytes_ = rounded;
  }
}

Memory::~Memory() {
  if (bytes_ >= kHugePage) {
    munmap(data_, bytes_);
  } else {
    ::operator delete(data_, std::align_val_t{kCacheLine});
  }
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

std::string huge_pages_mode() {
  // The file lists every mode and puts the one in force in brackets: "always [madvise] never".
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string word;
  while (file >> word) {
    if (word.front() == '[' && word.back() == ']') return word.substr(1, word.size() - 2);
  }
  return "unavailable";
}

}  // namespace recengine
