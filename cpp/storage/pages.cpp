#include "storage/pages.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <fstream>
#include <limits>
#include <new>

namespace recengine {

namespace {

std::size_t whole_pages(std::size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace

// Maps as much more than asked for as the alignment is and gives back what lies outside the aligned part.
void* map_pages(std::size_t bytes, std::size_t alignment) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  bytes = whole_pages(bytes);
  void* start = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(start);
  const std::size_t before = (alignment - reinterpret_cast<std::uintptr_t>(begin) % alignment) % alignment;
  if (before != 0) munmap(begin, before);
  munmap(begin + before + bytes, alignment - before);
#ifdef MADV_HUGEPAGE
  madvise(begin + before, bytes, MADV_HUGEPAGE);  // advice: where it is refused, small pages serve as well
#endif
  return begin + before;
}

void unmap_pages(void* start, std::size_t bytes) noexcept { munmap(start, whole_pages(bytes)); }

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
