// Hold: the lock of one node, for as long as it lives. A byte a node, held for microseconds, so that a wait spins.
#pragma once

#include <atomic>
#include <thread>

namespace recengine {

class Hold {
 public:
  explicit Hold(std::atomic<bool>& lock) : lock_(lock) {
    // Acquire: sees what the last holder did.
    while (lock_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  ~Hold() { lock_.store(false, std::memory_order_release); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  std::atomic<bool>& lock_;
};

}  // namespace recengine
