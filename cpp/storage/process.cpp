#include "storage/process.hpp"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <stdexcept>
#include <thread>

#include "storage/arena.hpp"
#include "storage/memory.hpp"

namespace recengine {

namespace {

constexpr std::size_t kPlaces = 64;

std::atomic<std::uint64_t> generation{0};
std::array<std::atomic<int>, 256> closing{};  // descriptor + 1; 0: free

// Who forks and who must not be forked meanwhile find each other by Dekker's pattern: each says so, then looks for the
// other, all seq_cst. Those inside are counted in several places, so that threads do not share a line.
struct alignas(kCacheLine) Place {
  std::atomic<std::uint32_t> inside{0};
};
std::array<Place, kPlaces> places;
std::atomic<bool> forking{false};
std::atomic<std::size_t> next_place{0};

struct Here {
  std::size_t place = kPlaces;  // none yet
  std::uint32_t depth = 0;
};
constinit thread_local Here here;

// Before fork: until nobody is inside, but for what the forking thread holds itself.
void before_fork() {
  while (forking.exchange(true, std::memory_order_seq_cst)) std::this_thread::yield();  // another thread forks
  for (std::size_t p = 0; p < kPlaces; ++p) {
    const std::uint32_t own = here.depth > 0 && here.place == p ? 1 : 0;
    // seq_cst, as above; what was done inside comes before the fork.
    while (places[p].inside.load(std::memory_order_seq_cst) > own) std::this_thread::yield();
  }
}

void in_parent() { forking.store(false, std::memory_order_release); }

// Runs in the child before fork returns there: nothing but what is safe in a signal handler.
void in_child() {
  generation.fetch_add(1, std::memory_order_relaxed);
  for (std::atomic<int>& slot : closing) {
    const int descriptor = slot.exchange(0, std::memory_order_relaxed) - 1;
    if (descriptor >= 0) close(descriptor);
  }
  in_parent();
}

// After the arena's handler, so that it runs before that: whoever is inside may need the arena to come out again.
[[maybe_unused]] const int registered =
    (static_cast<void>(Arena::shared()), pthread_atfork(&before_fork, &in_parent, &in_child));

}  // namespace

std::uint64_t fork_generation() { return generation.load(std::memory_order_relaxed); }

void ForkMutex::enter() noexcept {
  if (here.depth++ > 0) return;
  if (here.place == kPlaces) here.place = next_place.fetch_add(1, std::memory_order_relaxed) % kPlaces;
  std::atomic<std::uint32_t>& inside = places[here.place].inside;
  for (;;) {
    inside.fetch_add(1, std::memory_order_seq_cst);
    if (!forking.load(std::memory_order_seq_cst)) [[likely]]
      return;
    inside.fetch_sub(1, std::memory_order_relaxed);  // nothing was done
    while (forking.load(std::memory_order_relaxed)) std::this_thread::yield();
  }
}

void ForkMutex::leave() noexcept {
  // Release: whoever forks afterwards, forks what was done.
  if (--here.depth == 0) places[here.place].inside.fetch_sub(1, std::memory_order_release);
}

void close_in_children(int descriptor) {
  for (std::atomic<int>& slot : closing) {
    int free = 0;
    // Relaxed: a number that only this process's own child reads.
    if (slot.compare_exchange_strong(free, descriptor + 1, std::memory_order_relaxed)) return;
  }
  throw std::runtime_error("too many engines are open in this process");
}

void keep_in_children(int descriptor) noexcept {
  for (std::atomic<int>& slot : closing) {
    int held = descriptor + 1;
    if (slot.compare_exchange_strong(held, 0, std::memory_order_relaxed)) return;
  }
}

}  // namespace recengine
