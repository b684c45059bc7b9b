// Random: numbers drawn from a seed and a position, and from nothing else, so that a run is reproducible without any
// generator state to share between threads or to save: event number n draws the same numbers on whatever thread it
// runs.
//
// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#pragma once

#include <cstdint>

namespace recengine {

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t position) : state_(mix(seed + kGamma) ^ mix(position * kGamma + 1)) {}

  std::uint64_t next() { return mix(state_ += kGamma); }
  // Uniform in [0, 1), a multiple of 2^-24.
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-24f; }
  // Uniform in [0, bound), by multiplication (Lemire 2019; its bias is below bound / 2^32).
  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>((next() >> 32) * bound >> 32); }

 private:
  static constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15u;

  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

}  // namespace recengine
