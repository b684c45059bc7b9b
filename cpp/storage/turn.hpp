// Turn: one writer at a time, for what is written in well under a microsecond and has no room for a mutex.
//
// Thread safety: a value of the thread that constructed it. REQUIRES: a thread that holds a turn waits for no other
// one.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace recengine {

class Turn {
 public:
  // `writing` is 1 while somebody has the turn. Acquire and release: each sees what the one before it wrote.
  explicit Turn(std::atomic<std::uint32_t>& writing) : writing_(writing) {
    while (writing_.exchange(1, std::memory_order_acquire) != 0) std::this_thread::yield();
  }
  ~Turn() { writing_.store(0, std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic<std::uint32_t>& writing_;
};

}  // namespace recengine
