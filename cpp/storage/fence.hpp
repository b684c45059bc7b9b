// Fences between plain accesses to live rows, which are not atomics (kernels/row_access.inl), and the atomics that
// speak of them.
#pragma once

#include <atomic>
#include <cstdint>

namespace recengine {

#if defined(__SANITIZE_THREAD__)
#define RECENGINE_NO_FENCES
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RECENGINE_NO_FENCES
#endif
#endif

// Everything before comes before everything after, stores before loads included. ThreadSanitizer knows no fences: a
// locked instruction orders as much on the machines it runs on.
inline void full_fence() {
#ifdef RECENGINE_NO_FENCES
  static std::atomic<int> anything{0};
  anything.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

// Stores before come before stores after, loads before before loads after.
#ifdef RECENGINE_NO_FENCES
inline void order_stores() { full_fence(); }
inline void order_loads() { full_fence(); }
#else
inline void order_stores() { std::atomic_thread_fence(std::memory_order_release); }
inline void order_loads() { std::atomic_thread_fence(std::memory_order_acquire); }
#endif

// SequenceLock: readers that never wait learn whether a writer was at work while they read (Lameter 2005; Boehm 2012).
// Readers do not write; what they read meanwhile may be anything and must be thrown away.
//
// Thread safety: any number of readers beside one writer (the caller serialises writers).
class SequenceLock {
 public:
  void begin_write() {
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    order_stores();  // odd, then what is written
  }
  // Release: what was written, then even.
  void end_write() { sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  // Acquire: what is read comes after.
  std::uint32_t begin_read() const { return sequence_.load(std::memory_order_acquire); }
  // True if nothing was written since begin_read returned `start`.
  bool unchanged(std::uint32_t start) const {
    order_loads();  // what was read, then the number again
    return start % 2 == 0 && sequence_.load(std::memory_order_relaxed) == start;
  }

 private:
  std::atomic<std::uint32_t> sequence_{0};
};

}  // namespace recengine
