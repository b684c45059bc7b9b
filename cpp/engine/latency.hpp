// LatencyHistogram: durations in logarithmic buckets, eight a doubling: percentiles within 9 %, in constant memory.
//
// Thread safety: all methods, from any thread. Counters are relaxed: a snapshot taken beside recorders may miss the
// last ones.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace recengine {

class LatencyHistogram {
 public:
  using Clock = std::chrono::steady_clock;

  void record(std::chrono::nanoseconds duration) {
    const auto ns = static_cast<std::uint64_t>(duration.count() > 0 ? duration.count() : 0);
    buckets_[bucket(ns)].fetch_add(1, std::memory_order_relaxed);
  }

  std::uint64_t count() const {
    std::uint64_t total = 0;
    for (const auto& bucket : buckets_) total += bucket.load(std::memory_order_relaxed);
    return total;
  }

  // The upper end, in microseconds, of the bucket that holds the given share of the durations; 0 if there are none.
  double percentile(double share) const {
    const auto wanted = static_cast<double>(count()) * share;
    double passed = 0;
    for (std::size_t b = 0; b < kBuckets; ++b) {
      passed += static_cast<double>(buckets_[b].load(std::memory_order_relaxed));
      if (passed > 0 && passed >= wanted) return upper_end(b) * 1e-3;
    }
    return 0;
  }

 private:
  static constexpr std::size_t kBuckets = 62 * 8;

  // Below 8 ns a bucket is a nanosecond; above, the leading bit and the three bits after it.
  static std::size_t bucket(std::uint64_t ns) {
    if (ns < 8) return ns;
    const auto exponent = static_cast<std::size_t>(std::bit_width(ns)) - 4;
    return exponent * 8 + (ns >> exponent);
  }
  static double upper_end(std::size_t b) {
    if (b < 8) return static_cast<double>(b + 1);
    const std::size_t exponent = b / 8 - 1;
    return static_cast<double>(b % 8 + 9) * static_cast<double>(std::uint64_t{1} << exponent);
  }

  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_{};
};

}  // namespace recengine
