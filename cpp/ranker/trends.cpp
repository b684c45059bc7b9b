#include "ranker/trends.hpp"

#include <algorithm>

#include "kernels/kernels.hpp"
#include "learner/popularity.hpp"

namespace recengine {

namespace {

constexpr std::size_t kRegister = 8;  // doubles of the widest

}  // namespace

void Trends::add(const Row* items, const double* timestamps, std::size_t count) {
  std::array<double, kBatch * kCount> olds, nows, fresh;
  for (std::size_t e = 0; e < count; ++e) {
    const Stored& stored = levels_[items[e]];
    for (std::size_t h = 0; h < kCount; ++h) {
      olds[e * kCount + h] = decode_level(stored.level[h].load(std::memory_order_relaxed));
      nows[e * kCount + h] = timestamps[e] / kHalfLives[h];
    }
  }
  // Whole registers: what is left over would be added one by one.
  const std::size_t size = count * kCount, padded = (size + kRegister - 1) / kRegister * kRegister;
  std::fill(olds.begin() + size, olds.begin() + padded, 0.0);
  std::fill(nows.begin() + size, nows.begin() + padded, 0.0);
  active_kernels().log2_add(olds.data(), nows.data(), padded, fresh.data());
  for (std::size_t k = 0; k < size; ++k) {
    // Where another event came first, of the batch or of another thread, again. Relaxed: the value stands for itself.
    std::atomic<double>& level = levels_[items[k / kCount]].level[k % kCount];
    double old = encode_level(olds[k]);
    while (!level.compare_exchange_strong(old, encode_level(fresh[k]), std::memory_order_relaxed)) {
      olds[k] = decode_level(old);
      active_kernels().log2_add(&olds[k], &nows[k], 1, &fresh[k]);
    }
  }
}

void Trends::log_counts(std::span<const Row> rows, double now, const std::array<float*, kCount>& out) const {
  const std::size_t padded = (rows.size() + kRowPadding - 1) / kRowPadding * kRowPadding;
  Levels nows;
  for (std::size_t h = 0; h < kCount; ++h) nows[h] = now / kHalfLives[h];
  for (std::size_t j = 0; j < rows.size(); ++j) {
    const Stored& stored = levels_[rows[j]];
    for (std::size_t h = 0; h < kCount; ++h) {
      out[h][j] = static_cast<float>(decode_level(stored.level[h].load(std::memory_order_relaxed)) - nows[h]);
    }
  }
  constexpr float kLn2 = 0.693147181f;
  for (float* const values : out) {
    std::fill(values + rows.size(), values + padded, 0.0f);
    active_kernels().exponentials(values, kLn2, 0, padded);
    active_kernels().log1p_scaled(values, 1, padded);
  }
}

Trends::Levels Trends::levels(Row item) const {
  Levels levels;
  for (std::size_t h = 0; h < kCount; ++h) {
    levels[h] = decode_level(levels_[item].level[h].load(std::memory_order_relaxed));
  }
  return levels;
}

void Trends::restore(Row item, const Levels& levels) {
  for (std::size_t h = 0; h < kCount; ++h) {
    levels_[item].level[h].store(encode_level(levels[h]), std::memory_order_relaxed);
  }
}

}  // namespace recengine
