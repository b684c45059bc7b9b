// Scalar floats that threads share without a lock (biases, side values, optimiser sums): relaxed atomic accesses to
// plain floats. A reader sees some value that was stored, never a torn one; nothing else is ordered by it. On x86-64
// and aarch64 each is one plain move. std::atomic_ref would do, but no standard library that clang 14 ships with has
// it.
#pragma once

namespace recengine {

inline float load_relaxed(const float* value) {
  float result;
  __atomic_load(value, &result, __ATOMIC_RELAXED);
  return result;
}

inline void store_relaxed(float* target, float value) { __atomic_store(target, &value, __ATOMIC_RELAXED); }

}  // namespace recengine
