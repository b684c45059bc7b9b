// Centres: where clusters of rows lie, found by k-means (Lloyd 1982).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "storage/aligned.hpp"

namespace recengine {

struct Centres {
  std::size_t stride = 0;
  AlignedFloats rows;  // one after another
  std::vector<float> norms;

  std::size_t size() const { return norms.size(); }
  const float* row(std::size_t j) const { return rows.data() + j * stride; }
  void push(const float* centre);
  void replace(std::size_t j, const float* centre);
};

inline constexpr std::size_t kVectorsPerCheck = 1024;  // between two looks at `stop`

// The nearest centre, by Euclidean distance, of each of `count` vectors that lie one after another.
// REQUIRES: there is a centre.
void nearest_centres(const Centres& centres, const float* vectors, std::size_t count, std::uint32_t* nearest);

// At most `k` centres of the vectors, on so many threads. Returns early, with what it has, when `stop` is set.
Centres k_means(const AlignedFloats& vectors, std::size_t stride, std::size_t k, std::uint64_t seed,
                std::size_t threads, std::atomic<bool>& stop);

}  // namespace recengine
