// Draws: what policies draw, from a seed and nothing else.
//
// Thread safety: an object is one thread's.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/random.hpp"

namespace recengine {

class Draws {
 public:
  explicit Draws(std::uint64_t seed) : random_(seed, 0) {}

  // Uniform in (0, 1), an odd multiple of 2^-53.
  double uniform() { return (static_cast<double>(random_.next() >> 12) + 0.5) * 0x1p-52; }
  std::uint32_t below(std::uint32_t bound) { return random_.below(bound); }
  // Standard Gumbel: the largest of scores with one of these added to each is drawn by their softmax.
  double gumbel() { return -std::log(-std::log(uniform())); }
  // Standard normal numbers, of 4,096 quantiles: five for each random number, and sums of some are as good as normal.
  void normals(std::span<float> out) {
    const std::array<float, kQuantiles>& table = quantiles();
    for (std::size_t k = 0; k < out.size(); k += 5) {
      std::uint64_t bits = random_.next();
      for (std::size_t j = k; j < std::min(k + 5, out.size()); ++j, bits >>= 12) out[j] = table[bits % kQuantiles];
    }
  }

 private:
  static constexpr std::size_t kQuantiles = 4096;

  // At the middle of each share, scaled to the variance 1.
  static const std::array<float, kQuantiles>& quantiles();

  Random random_;
};

}  // namespace recengine
