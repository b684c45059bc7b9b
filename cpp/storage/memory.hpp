// Memory: zero-filled, aligned blocks for the tables, on huge pages where they are large and the system has them.
#pragma once

#include <cstddef>
#include <string>

namespace recengine {

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Owns one zero-filled block, aligned to a cache line, or to a huge page from 2 MiB on. Large blocks come from mmap, so
// that pages nobody has touched yet cost nothing.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes);  // throws std::bad_alloc
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;  // what is held, rounded up to whole pages for large blocks
};

// How the system grants transparent huge pages: "always", "madvise" (both give them to large blocks), "never", or
// "unavailable" where there is no such setting.
std::string huge_pages_mode();

}  // namespace recengine
