// RowSet against std::set, and beside readers.
#include "storage/row_set.hpp"

#include <atomic>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "check.hpp"
#include "storage/chunked.hpp"

namespace recengine {
namespace {

void agree(const RowSet& set, const std::set<std::uint32_t>& model) {
  CHECK(set.size() == model.size());
  std::set<std::uint32_t> visited;
  set.for_each([&](std::uint32_t row) { CHECK(visited.insert(row).second); });
  CHECK(visited == model);
}

void random_operations_match_a_model() {
  static_assert(sizeof(RowSet) == sizeof(void*));
  std::mt19937 random(1);
  for (const std::uint32_t universe : {10u, 1000u, 0xFFFFFFFEu}) {
    EpochDomain domain;
    const EpochDomain::Pin pin = domain.pin_writer();
    RowSet set;
    std::set<std::uint32_t> model;
    CHECK(set.size() == 0 && set.memory_bytes() == 0 && !set.contains(0));
    for (int step = 0; step < 6000; ++step) {
      const auto row = static_cast<std::uint32_t>(random() % universe);
      if (random() % 200 == 0) {
        const auto divisor = static_cast<std::uint32_t>(1 + random() % 3);
        const auto chosen = [divisor](std::uint32_t r) { return r % divisor == 0; };
        CHECK(set.erase_if(chosen, domain) == std::erase_if(model, chosen));
      } else {
        CHECK(set.insert(row, domain) == model.insert(row).second);
      }
      const auto other = static_cast<std::uint32_t>(random() % universe);
      CHECK(set.contains(other) == model.contains(other));
      CHECK(set.size() == model.size());
      if (step % 500 == 0) agree(set, model);
    }
    agree(set, model);
    CHECK(set.erase_if([](std::uint32_t) { return true; }, domain) == model.size());
    CHECK(set.size() == 0 && set.memory_bytes() == 0);
    CHECK(set.erase_if([](std::uint32_t) { return true; }, domain) == 0);
  }
}

void memory_follows_the_size() {
  EpochDomain domain;
  Column<RowSet> sets;
  sets.reserve(100);
  const EpochDomain::Pin pin = domain.pin_writer();
  CHECK(sets[99].insert(4, domain));
  CHECK(sets[99].contains(4) && !sets[98].contains(4));
  CHECK(sets[99].memory_bytes() <= 48);
  for (std::uint32_t row = 0; row < 10000; ++row) sets[7].insert(row, domain);
  CHECK(sets[7].memory_bytes() <= 10000 * 16);
  sets[7].erase_if([](std::uint32_t row) { return row != 9; }, domain);
  CHECK(sets[7].size() == 1 && sets[7].contains(9) && sets[7].memory_bytes() <= 48);
}

// A row stays found from the moment its insertion is announced, through growth and removal of others; a row that is
// never inserted is never found.
void stress_readers_beside_a_writer() {
  constexpr std::uint32_t kRows = 30000;
  EpochDomain domain;
  RowSet set;
  std::atomic<std::uint32_t> announced{0};  // all even rows below are in the set, odd ones may come and go
  std::vector<std::thread> readers;
  for (unsigned seed = 0; seed < 2; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (std::uint32_t limit = 0; limit < kRows;) {
        const EpochDomain::Pin pin = domain.pin_reader();
        limit = announced.load(std::memory_order_acquire);
        for (int look = 0; look < 8 && limit != 0; ++look) {
          CHECK(set.contains(static_cast<std::uint32_t>(random() % limit) & ~1u));
          CHECK(!set.contains(kRows + static_cast<std::uint32_t>(random() % 1000)));
        }
        if (random() % 64 == 0) set.for_each([&](std::uint32_t row) { CHECK(row < kRows); });
      }
    });
  }
  for (std::uint32_t row = 0; row < kRows; ++row) {
    const EpochDomain::Pin pin = domain.pin_writer();
    set.insert(row, domain);
    if (row % 500 == 499) set.erase_if([](std::uint32_t r) { return r % 2 == 1; }, domain);
    announced.store(row + 1, std::memory_order_release);
  }
  for (std::thread& reader : readers) reader.join();
  CHECK(set.size() == kRows / 2);
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::random_operations_match_a_model();
  recengine::memory_follows_the_size();
  recengine::stress_readers_beside_a_writer();
}
