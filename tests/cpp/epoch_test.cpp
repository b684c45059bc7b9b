// EpochDomain: what is retired is freed once, and only when nobody can hold it; paused writers are really outside.
#include "storage/epoch.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"

namespace recengine {
namespace {

void tickets_wait_for_older_pins() {
  EpochDomain domain;
  CHECK(domain.passed(domain.ticket()));

  std::optional<EpochDomain::Pin> pin(domain.pin_reader());
  const std::uint64_t ticket = domain.ticket();
  CHECK(!domain.passed(ticket));
  {
    const EpochDomain::Pin younger = domain.pin_writer();
    pin.reset();
    CHECK(domain.passed(ticket));  // the younger pin cannot have seen what was unlinked before it
    CHECK(!domain.passed(domain.ticket()));
  }
  CHECK(domain.passed(domain.ticket()));

  pin.emplace(domain.pin_reader());
  {
    const EpochDomain::Pin moved(std::move(*pin));
    pin.reset();
    CHECK(!domain.passed(domain.ticket()));  // the pin lives on in `moved`
  }
  CHECK(domain.passed(domain.ticket()));
}

void retired_functions_run_once_and_late() {
  int freed = 0;
  {
    EpochDomain domain;
    {
      const EpochDomain::Pin pin = domain.pin_reader();
      for (int i = 0; i < 1000; ++i) domain.retire([&freed] { ++freed; });
      domain.collect();
      CHECK(freed == 0);
    }
    domain.collect();
    CHECK(freed == 1000);
    domain.collect();
    CHECK(freed == 1000);

    domain.retire([&] { domain.retire([&freed] { ++freed; }); });  // retiring while freeing
    domain.collect();
    domain.collect();
    CHECK(freed == 1001);

    domain.retire([&freed] { ++freed; });
  }
  CHECK(freed == 1002);  // by the destructor
}

void more_pins_than_slots_wait_for_one() {
  EpochDomain domain;
  std::vector<EpochDomain::Pin> pins;
  for (int i = 0; i < 256; ++i) pins.push_back(domain.pin_reader());
  std::atomic<bool> pinned{false};
  std::thread late([&] {
    const EpochDomain::Pin pin = domain.pin_reader();
    pinned = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(!pinned);
  pins.pop_back();
  late.join();
  CHECK(pinned);
}

// Readers follow a pointer that writers keep replacing. A node freed too early is a use after free (Address-
// Sanitizer), a race (ThreadSanitizer), and shows the wrong mark.
void stress_replaced_nodes() {
  constexpr std::uint64_t kAlive = 0xA11FE;
  struct Node {
    std::uint64_t mark = kAlive;
  };
  constexpr int kReplacements = 30000;
  std::atomic<int> freed{0};
  std::atomic<Node*> shared{new Node};
  std::atomic<int> running{2};
  {
    EpochDomain domain;
    const auto write = [&] {
      for (int i = 0; i < kReplacements; ++i) {
        const EpochDomain::Pin pin = domain.pin_writer();
        Node* old = shared.exchange(new Node, std::memory_order_acq_rel);
        domain.retire([old, &freed] {
          old->mark = 0;
          delete old;
          freed.fetch_add(1);
        });
      }
      running.fetch_sub(1);
    };
    const auto read = [&] {
      while (running.load() != 0) {
        const EpochDomain::Pin pin = domain.pin_reader();
        for (int i = 0; i < 10; ++i) CHECK(shared.load(std::memory_order_acquire)->mark == kAlive);
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) threads.emplace_back(write);
    for (int i = 0; i < 2; ++i) threads.emplace_back(read);
    for (std::thread& thread : threads) thread.join();
    domain.collect();
    CHECK(freed == 2 * kReplacements);
  }
  delete shared.load();
}

// Slots reused through tickets: a pinned reader that found a slot never sees it change its owner.
void stress_reused_slots() {
  struct Slot {
    std::uint64_t owner = 0;  // plain on purpose: only the epoch keeps readers and the next owner apart
  };
  std::array<Slot, 64> slots;
  std::atomic<std::uint64_t> shared{0};  // owner << 8 | slot
  std::atomic<bool> done{false};
  EpochDomain domain;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!done.load()) {
        const EpochDomain::Pin pin = domain.pin_reader();
        const std::uint64_t link = shared.load(std::memory_order_acquire);
        for (int look = 0; look < 3; ++look) CHECK(slots[link & 0xFF].owner == link >> 8);
      }
    });
  }
  std::deque<std::pair<std::uint64_t, std::uint64_t>> limbo;  // ticket, slot
  std::uint64_t slot = 0;
  for (std::uint64_t s = 1; s < slots.size(); ++s) limbo.emplace_back(0, s);
  int reused = 0;
  for (std::uint64_t owner = 1; owner <= 50000; ++owner) {
    while (!domain.passed(limbo.front().first)) std::this_thread::yield();
    const std::uint64_t next = limbo.front().second;
    limbo.pop_front();
    slots[next].owner = owner;
    shared.store(owner << 8 | next, std::memory_order_release);
    limbo.emplace_back(domain.ticket(), slot);
    slot = next;
    ++reused;
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(reused == 50000);
}

// Writers change plain counters of their own; whoever pauses them reads and changes all. Every thread has a fixed
// number of rounds, so that the test ends only if neither side starves the other.
void stress_pauses() {
  constexpr int kWriters = 3;
  constexpr int kRounds = 10000;
  constexpr int kPauses = 300;
  EpochDomain domain;
  std::array<int, kWriters> counters{};
  std::atomic<int> inside{0};
  std::atomic<int> pausing{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (std::size_t w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      for (int i = 0; i < kRounds; ++i) {
        const EpochDomain::Pin pin = domain.pin_writer();
        inside.fetch_add(1);
        CHECK(pausing.load() == 0);
        counters[w] += 1;
        inside.fetch_sub(1);
      }
    });
  }
  for (int p = 0; p < 2; ++p) {
    threads.emplace_back([&] {
      for (int i = 0; i < kPauses; ++i) {
        const EpochDomain::Pause pause = domain.pause_writers();
        CHECK(pausing.fetch_add(1) == 0);  // one holder at a time
        CHECK(inside.load() == 0);
        const EpochDomain::Pin reader = domain.pin_reader();  // readers are welcome
        for (int& counter : counters) counter += 1;
        pausing.fetch_sub(1);
      }
    });
  }
  std::thread reader([&] {
    while (!done.load()) const EpochDomain::Pin pin = domain.pin_reader();
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  reader.join();
  for (const int counter : counters) CHECK(counter == kRounds + 2 * kPauses);
}

void a_pause_moves_and_ends_once() {
  EpochDomain domain;
  std::optional<EpochDomain::Pause> first(domain.pause_writers());
  std::optional<EpochDomain::Pause> second(std::move(*first));
  first.reset();
  std::atomic<bool> wrote{false};
  std::thread writer([&] {
    const EpochDomain::Pin pin = domain.pin_writer();
    wrote = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(!wrote);
  second.reset();
  writer.join();
  CHECK(wrote);
  const EpochDomain::Pin pin = domain.pin_writer();
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::tickets_wait_for_older_pins();
  recengine::retired_functions_run_once_and_late();
  recengine::more_pins_than_slots_wait_for_one();
  recengine::a_pause_moves_and_ends_once();
  recengine::stress_replaced_nodes();
  recengine::stress_reused_slots();
  recengine::stress_pauses();
}
