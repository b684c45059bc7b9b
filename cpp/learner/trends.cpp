#include "learner/trends.hpp"

#include <algorithm>

#include "kernels/kernels.hpp"
#include "learner/popularity.hpp"

namespace recengine {

namespace {

constexpr float kLn2 = 0.693147181f;

}  // namespace

Trends::Levels Trends::read(const Stored& stored) {
  Levels levels;
  // Relaxed, here and below: a level stands for itself.
  for (std::size_t h = 0; h < kCount; ++h) levels[h] = decode_level(stored.level[h].load(std::memory_order_relaxed));
  return levels;
}

void Trends::write(Stored& stored, const Levels& levels) {
  for (std::size_t h = 0; h < kCount; ++h) stored.level[h].store(encode_level(levels[h]), std::memory_order_relaxed);
}

void Trends::raise(Row item, const Levels& levels) {
  Stored& block = blocks_[item / kBlock];
  for (std::size_t h = 0; h < kCount; ++h) {
    const double level = encode_level(levels[h]);
    double old = block.level[h].load(std::memory_order_relaxed);
    // A zero is none: below any level, where that is negative too.
    while ((old == 0 || old < level) && level != 0 &&
           !block.level[h].compare_exchange_weak(old, level, std::memory_order_relaxed)) {
    }
  }
}

Trends::Shares Trends::add(Row item, double timestamp) {
  std::array<double, 2 * kCount> olds, nows, fresh;  // the item's, then the sums
  const Levels before = read(levels_[item]), sums = read(totals_);
  std::copy(before.begin(), before.end(), olds.begin());
  std::copy(sums.begin(), sums.end(), olds.begin() + kCount);
  for (std::size_t h = 0; h < kCount; ++h) nows[h] = nows[kCount + h] = timestamp / kHalfLives[h];
  active_kernels().log2_add(olds.data(), nows.data(), olds.size(), fresh.data());
  for (std::size_t h = 0; h < kCount; ++h) {
    std::atomic<double>& level = levels_[item].level[h];
    double old = encode_level(olds[h]);
    while (!level.compare_exchange_strong(old, encode_level(fresh[h]), std::memory_order_relaxed)) {
      olds[h] = decode_level(old);  // another thread came first
      active_kernels().log2_add(&olds[h], &nows[h], 1, &fresh[h]);
    }
    totals_.level[h].store(encode_level(fresh[kCount + h]), std::memory_order_relaxed);
  }
  Levels after;
  std::copy_n(fresh.begin(), kCount, after.begin());
  raise(item, after);
  alignas(64) std::array<float, kRowPadding> shares{};
  static_assert(kCount <= kRowPadding);
  for (std::size_t h = 0; h < kCount; ++h) shares[h] = static_cast<float>(before[h] - sums[h]);
  active_kernels().exponentials(shares.data(), kLn2, 0, kRowPadding);
  Shares result;
  // Before the first choice there is nothing to have a share of.
  for (std::size_t h = 0; h < kCount; ++h) result[h] = std::isinf(before[h]) ? 0 : std::min(shares[h], 1.0f);
  return result;
}

void Trends::log_counts(std::span<const Row> rows, double now, std::size_t half_life, float* out) const {
  const std::size_t stride = padded(rows.size());
  const double origin = now / kHalfLives[half_life];
  for (std::size_t j = 0; j < rows.size(); ++j) {
    const double level = levels_[rows[j]].level[half_life].load(std::memory_order_relaxed);
    out[j] = static_cast<float>(decode_level(level) - origin);
  }
  std::fill(out + rows.size(), out + stride, 0.0f);
  active_kernels().exponentials(out, kLn2, 0, stride);
  active_kernels().log1p_scaled(out, 1, stride);
}

void Trends::shares(std::span<const Row> rows, float* out, std::size_t stride) const {
  const Levels sums = totals();
  std::fill_n(out, kCount * stride, -INFINITY);
  for (std::size_t j = 0; j < rows.size(); ++j) {
    const Levels levels = read(levels_[rows[j]]);
    for (std::size_t h = 0; h < kCount; ++h) {
      // Of a sum that is none: none of it.
      if (!std::isinf(sums[h])) out[h * stride + j] = static_cast<float>(levels[h] - sums[h]);
    }
  }
  active_kernels().exponentials(out, kLn2, 0, kCount * stride);
}

}  // namespace recengine
