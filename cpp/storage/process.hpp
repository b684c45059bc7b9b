// What a forked child must know: that it is one, and what it finds whole.
//
// Of a process with threads only the thread that forks goes on in the child: locks that others held stay locked,
// background threads are gone. A child may therefore ask an engine of its parent, but change nothing of it; and what it
// asks for is read without locks, or under a ForkMutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace recengine {

// How often this process has been forked from one that had loaded this library: compare with what it was.
// Relaxed: changed by fork alone, before the child's first instruction.
std::uint64_t fork_generation();

// While one lives, no fork of this process happens: who forks waits. They nest.
//
// REQUIRES: it lives for moments, and nothing that waits for the forking thread (Python's lock) happens meanwhile.
class NoFork {
 public:
  NoFork() noexcept;
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

// A mutex that a child finds free, and what it guards whole. REQUIRES: it is held as NoFork lives.
class ForkMutex {
 public:
  void lock() {
    enter();
    mutex_.lock();
  }
  void unlock() {
    mutex_.unlock();
    leave();
  }

 private:
  friend class NoFork;
  static void enter() noexcept;
  static void leave() noexcept;

  std::mutex mutex_;
};

inline NoFork::NoFork() noexcept { ForkMutex::enter(); }
inline NoFork::~NoFork() { ForkMutex::leave(); }

// Descriptors that a child closes at once: a lock on a file (flock) would otherwise live as long as the child.
// At most 256 at a time; throws std::runtime_error for more.
void close_in_children(int descriptor);
void keep_in_children(int descriptor) noexcept;  // REQUIRES: before it is closed

}  // namespace recengine
