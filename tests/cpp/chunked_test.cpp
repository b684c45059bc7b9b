// Chunked columns and row tables: zeroed, aligned, never moving, readable while they grow.
#include "storage/chunked.hpp"

#include <atomic>
#include <cstdint>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"

namespace recengine {
namespace {

void rows_map_to_chunks_one_to_one() {
  std::size_t row = 0;
  for (std::uint32_t chunk = 0; chunk < 12; ++chunk) {
    CHECK(chunk_begin(chunk) == row);
    CHECK(chunk_begin(chunk) % 64 == 0);
    for (std::uint32_t offset = 0; offset < chunk_rows(chunk); ++offset, ++row) {
      const ChunkPosition at = locate(row);
      CHECK(at.chunk == chunk && at.offset == offset);
    }
  }
  const std::size_t last = 0xFFFFFFFF;
  CHECK(locate(last).chunk < kMaxChunks);
  CHECK(chunk_begin(locate(last).chunk) + locate(last).offset == last);
}

void runs_cover_every_row_in_order() {
  for (const std::size_t rows : {0u, 1u, 63u, 64u, 65u, 191u, 192u, 193u, 1000u, 100000u}) {
    std::size_t next = 0;
    for_each_run(rows, [&](std::size_t first, std::size_t count) {
      CHECK(first == next && count > 0);
      CHECK(locate(first).offset == 0);
      CHECK(locate(first).chunk == locate(first + count - 1).chunk);
      next += count;
    });
    CHECK(next == rows);
  }
}

void columns_keep_values_and_addresses() {
  Column<std::uint32_t> column;
  CHECK(column.capacity() == 0 && column.memory_bytes() == 0);
  column.reserve(1);
  CHECK(column.capacity() == kFirst);
  std::vector<std::uint32_t*> places;
  for (std::uint32_t row = 0; row < 20000; ++row) {
    if (row == column.capacity()) column.reserve(row + 1);
    CHECK(column[row] == 0);
    column[row] = row * 7;
    places.push_back(&column[row]);
  }
  for (std::uint32_t row = 0; row < 20000; ++row) CHECK(places[row] == &column[row] && *places[row] == row * 7);
  const std::size_t before = column.capacity();
  column.reserve(5);
  CHECK(column.capacity() == before);
  CHECK(column.memory_bytes() >= before * sizeof(std::uint32_t));
  CHECK_THROWS(std::bad_alloc, column.reserve(std::size_t{1} << 40));
  CHECK(column.capacity() == before && column[19999] == 19999 * 7);
}

void columns_destroy_what_they_hold() {
  static int alive = 0;
  struct Owner {
    int* value;
    ~Owner() {
      if (value != nullptr) --alive;
      delete value;
    }
  };
  {
    Column<Owner> column;
    column.reserve(500);
    for (const std::size_t row : {0u, 63u, 64u, 499u}) {
      column[row].value = new int(1);
      ++alive;
    }
  }
  CHECK(alive == 0);
}

void large_memory_is_aligned_to_huge_pages() {
  for (const std::size_t bytes : {std::size_t{1}, kHugePage - 1, kHugePage, kHugePage + 1, 5 * kHugePage}) {
    Memory memory(bytes);
    CHECK(memory.bytes() >= bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % (bytes >= kHugePage ? kHugePage : kCacheLine) == 0);
    CHECK(memory.data()[0] == std::byte{0} && memory.data()[bytes - 1] == std::byte{0});
    memory.data()[bytes - 1] = std::byte{1};
    std::byte* data = memory.data();
    Memory moved(std::move(memory));
    Memory assigned;
    assigned = std::move(moved);
    CHECK(assigned.data() == data && data[bytes - 1] == std::byte{1});
  }
  CHECK_THROWS(std::bad_alloc, Memory(~std::size_t{0}));
  CHECK_THROWS(std::bad_alloc, Memory(std::size_t{1} << 60));
  const std::string mode = huge_pages_mode();
  CHECK(mode == "always" || mode == "madvise" || mode == "never" || mode == "unavailable");
}

void stress_readers_beside_growth() {
  constexpr std::uint32_t kRows = 50000;
  Column<std::uint32_t> plain;
  Column<std::atomic<std::uint64_t>> flags;
  std::atomic<std::uint32_t> count{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      std::uint32_t rows = 0;
      while (rows < kRows) {
        rows = count.load(std::memory_order_acquire);
        CHECK(plain.capacity() >= rows);
        if (rows == 0) continue;
        for (const std::uint32_t row : {0u, rows / 2, rows - 1}) {
          CHECK(plain[row] == row + 1);
          CHECK(flags[row].load(std::memory_order_relaxed) == row);
        }
      }
    });
  }
  for (std::uint32_t row = 0; row < kRows; ++row) {
    plain.reserve(row + 1);
    flags.reserve(row + 1);
    plain[row] = row + 1;
    flags[row].store(row, std::memory_order_relaxed);
    count.store(row + 1, std::memory_order_release);
  }
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::rows_map_to_chunks_one_to_one();
  recengine::runs_cover_every_row_in_order();
  recengine::columns_keep_values_and_addresses();
  recengine::columns_destroy_what_they_hold();
  recengine::large_memory_is_aligned_to_huge_pages();
  recengine::stress_readers_beside_growth();
}
