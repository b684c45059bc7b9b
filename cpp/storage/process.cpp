#include "storage/process.hpp"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace recengine {

namespace {

std::atomic<std::uint64_t> generation{0};
std::array<std::atomic<int>, 256> closing{};  // descriptor + 1; 0: free

// Runs in the child before fork returns there: nothing but what is safe in a signal handler.
void in_child() {
  generation.fetch_add(1, std::memory_order_relaxed);
  for (std::atomic<int>& slot : closing) {
    const int descriptor = slot.exchange(0, std::memory_order_relaxed) - 1;
    if (descriptor >= 0) close(descriptor);
  }
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, &in_child);

}  // namespace

std::uint64_t fork_generation() { return generation.load(std::memory_order_relaxed); }

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
