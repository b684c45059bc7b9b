// Scalar floats that threads share without a lock (biases, side values, optimiser sums): relaxed atomic accesses to
// plain floats. A reader sees some value that was stored, never a torn one; nothing else is ordered by it. On x86-64
// and aarch64 each is one plain move. std::atomic_ref would do, but no standard library that clang 14 ships with has
// it.
#pragma once

#include <cstddef>
#include <cstdint>

// ThreadSanitizer takes volatile vector accesses for races: it gets relaxed atomics in their place.
#if defined(__SANITIZE_THREAD__)
#define RECENGINE_ATOMIC_ROWS
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RECENGINE_ATOMIC_ROWS
#endif
#endif

namespace recengine {

inline float load_relaxed(const float* value) {
  float result;
  __atomic_load(value, &result, __ATOMIC_RELAXED);
  return result;
}

inline void store_relaxed(float* target, float value) { __atomic_store(target, &value, __ATOMIC_RELAXED); }

// Whether `value` is among eight that others may write meanwhile. REQUIRES: 16-byte alignment.
inline bool is_any_of_eight(const std::uint32_t* values, std::uint32_t value) {
#ifdef RECENGINE_ATOMIC_ROWS
  unsigned found = 0;
  for (std::size_t i = 0; i < 8; ++i) found |= unsigned{__atomic_load_n(values + i, __ATOMIC_RELAXED) == value};
  return found != 0;
#else
  using four [[gnu::vector_size(16), gnu::may_alias]] = std::uint32_t;
  using two [[gnu::vector_size(16)]] = long long;
  const auto* halves = reinterpret_cast<const volatile four*>(values);
  const four low = halves[0], high = halves[1], wanted = value - four{};
  const two found = reinterpret_cast<two>((low == wanted) | (high == wanted));
  return (found[0] | found[1]) != 0;
#endif
}

}  // namespace recengine
