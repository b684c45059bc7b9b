// CodedQuery: a query's codes, and what its screening (kernels/table.hpp) must leave room for so that no row is missed
// whose fp32 score reaches the threshold.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/kernels.hpp"

namespace recengine {

inline constexpr std::size_t kScreenedBlocks = 16;  // with one threshold
inline constexpr std::size_t kScoredTogether = 16;  // rows that were hit
inline constexpr std::size_t kEarlyRows = 1024;     // screened while the threshold still rises fast

struct CodedQuery {
  static constexpr float kLargest = 1e38f;  // scores below it, and what they are sums of, are finite

  std::vector<signed char> codes;
  VectorCode code{};
  int correction = 0;
  float rounding = 0;  // times |q| |x|: what may be added by it

  void encode(const float* query, std::size_t n) {
    codes.resize(n);
    correction = active_kernels().encode_query(query, n, codes.data(), &code);
    // Of the fp32 score, n terms, and of the screened one, a few: n 2^-24 at most.
    rounding = static_cast<float>(n + 32) * 0x1p-23f;
  }

  // At least the score, without biases, of a row of length 1.
  float reach() const { return code.norm * (1 + 2.1f * rounding); }

  // A row's bias as it is coded: larger by what it may add to rounding.
  static float coded_bias(float bias) { return bias + std::abs(bias) * 0x1p-19f; }
  // What thresholds are lowered by: products that underflow.
  static constexpr float kSlack = 0x1p-90f;

  // Of rows whose codes have at most this length and error (in their scales) and this norm, those that may reach a
  // threshold. With q = s (c + r) for the query's scale and codes and x = t (d + e) for a row's, <q, x>
  // = s t (<c, d> + <q / s, e> + <r, d>): the offset is at least what the latter two can be.
  Screening screening(float length, float error, float norm, float threshold) const {
    const float beyond = error * code.length + (length + error) * (code.error + rounding * code.length);
    const bool finite = code.norm * norm < kLargest;  // not for a NaN
    return {codes.data(), code.scale, static_cast<int>(beyond * (1 + 0x1p-20f)) + 1 - correction,
            finite ? threshold - kSlack : -INFINITY};
  }
};

}  // namespace recengine
