// Draws: what policies draw, from a seed and nothing else.
//
// Thread safety: an object is one thread's.
#pragma once

#include <cmath>
#include <cstdint>

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
  // Two independent standard normal numbers (Marsaglia's polar method, 1964).
  void normals(float* pair) {
    float x, y, square;
    do {
      const std::uint64_t bits = random_.next();
      x = static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-31f;
      y = static_cast<float>(static_cast<std::int32_t>(bits >> 32)) * 0x1p-31f;
      square = x * x + y * y;
    } while (square >= 1 || square == 0);
    const float factor = std::sqrt(-2 * std::log(square) / square);
    pair[0] = x * factor;
    pair[1] = y * factor;
  }

 private:
  Random random_;
};

}  // namespace recengine
