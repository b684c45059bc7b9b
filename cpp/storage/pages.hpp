// Pages straight from the system, huge ones where it has them.
#pragma once

#include <cstddef>
#include <string>

namespace recengine {

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Zeros, rounded up to whole huge pages, at a multiple of `alignment` (of whole huge pages too); what nobody has
// touched yet costs nothing. Throws std::bad_alloc.
void* map_pages(std::size_t bytes, std::size_t alignment = kHugePage);
void unmap_pages(void* start, std::size_t bytes) noexcept;

// How the system grants transparent huge pages: "always", "madvise" (both give them to large blocks), "never", or
// "unavailable" where there is no such setting.
std::string huge_pages_mode();

}  // namespace recengine
