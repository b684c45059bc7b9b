// Memory: zero-filled, aligned blocks for the tables, on huge pages where the system has them.
#pragma once

#include <cstddef>

#include "storage/pages.hpp"

namespace recengine {

// Owns one zero-filled block, aligned to a cache line, or to a huge page where it is larger than what arenas cut up.
// Pages of large blocks that nobody has touched yet cost nothing.
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
  std::size_t bytes_ = 0;
};

}  // namespace recengine
