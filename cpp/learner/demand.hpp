// Demand: how likely an item is to be chosen next, by nothing but how often it was chosen lately.
//
//   D(i) = sum_h w_h n_ih / N_h + kEvenly / (number of items)
// n_ih are the decayed counts of Trends, N_h their sums. No half-life has to be chosen: the weights are learned
// (mixture.hpp), each choice of an item that was chosen before being predicted before it is counted. There are two
// sets: of all choices, and of the first choices of users, of whom nothing was known.
//
// Thread safety: all methods but restore, from any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

#include "kernels/kernels.hpp"
#include "learner/mixture.hpp"
#include "learner/popular_items.hpp"
#include "learner/trends.hpp"

namespace recengine {

class Demand {
 public:
  using Weights = Mixture<Trends::kCount>;
  // Before anything is learned: some days' worth.
  static constexpr Weights::Weights kStart{.02f, .03f, .05f, .15f, .2f, .25f, .2f, .1f};
  static constexpr float kEvenly = 0.01f;  // what is new is not impossible

  // `items`: how many there are. `is_offered`: whether it may become one of the popular.
  void count(Row item, double timestamp, bool is_first, bool is_offered, std::size_t items) {
    const Trends::Shares before = trends.add(item, timestamp);
    of_all.learn(before);
    if (is_first) of_first.learn(before);
    if (!is_offered) return;
    popular.offer(item, [&](std::span<const Row> rows, float* out) { predict(of_all, rows, items, out); });
  }

  // out[j] = D of row j, for at most kBlock rows; there is room up to a multiple of kRowPadding, 64-byte aligned.
  static constexpr std::size_t kBlock = Trends::kBlock;
  void predict(const Weights& weights, std::span<const Row> rows, std::size_t items, float* out) const {
    alignas(64) std::array<float, Trends::kCount * kBlock> shares;
    const std::size_t stride = padded(rows.size());
    trends.shares(rows, shares.data(), stride);
    const Weights::Weights parts = weights.weights();
    std::fill_n(out, stride, kEvenly / static_cast<float>(std::max<std::size_t>(items, 1)));
    active_kernels().multiply(parts.data(), Trends::kCount, 1, shares.data(), Trends::kCount, out, 1, stride);
  }

  // out[j] = D of row j where it may be `least` or more, else a negative number; for rows of one block of Trends.
  class Scan {
   public:
    Scan(const Demand& demand, const Weights& weights, std::size_t items)
        : demand_(demand), weights_(weights), items_(items) {
      const Trends::Levels totals = demand.trends.totals();
      const Weights::Weights parts = weights.weights();
      for (std::size_t h = 0; h < Trends::kCount; ++h) {
        shifts_[h] = std::isinf(totals[h]) ? -1e300 : std::log2(double{parts[h]}) - totals[h];
      }
    }
    void operator()(std::span<const Row> rows, float least, float* out) const {
      // The sum over the half-lives is at most kCount times the largest.
      const double most = (double{least} - kEvenly / static_cast<double>(items_)) / (Trends::kCount * 1.001);
      const double level = most > 0 ? std::log2(most) : -std::numeric_limits<double>::infinity();
      std::fill_n(out, rows.size(), -1.0f);
      if (demand_.trends.highest_of_block(rows.front() / Trends::kBlock, shifts_) < level) return;
      std::array<Row, kBlock> close;
      std::array<std::size_t, kBlock> places;
      std::size_t size = 0;
      for (std::size_t j = 0; j < rows.size(); ++j) {
        close[size] = rows[j];
        places[size] = j;
        size += demand_.trends.highest(rows[j], shifts_) >= level ? 1 : 0;
      }
      if (size == 0) return;
      alignas(64) std::array<float, kBlock> shares;
      demand_.predict(weights_, std::span<const Row>(close.data(), size), items_, shares.data());
      for (std::size_t j = 0; j < size; ++j) out[places[j]] = shares[j];
    }

   private:
    const Demand& demand_;
    const Weights& weights_;
    const std::size_t items_;
    Trends::Levels shifts_;
  };

  Trends trends;
  Weights of_all{kStart}, of_first{kStart};
  PopularItems popular;
};

}  // namespace recengine
