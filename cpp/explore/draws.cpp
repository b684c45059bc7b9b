#include "explore/draws.hpp"

namespace recengine {

namespace {

// The normal quantile of a share below a half, by bisection of the error function.
double quantile(double share) {
  double low = -10, high = 0;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < share ? low : high) = middle;
  }
  return low;
}

}  // namespace

const std::array<float, Draws::kQuantiles>& Draws::quantiles() {
  static const std::array<float, kQuantiles> table = [] {
    std::array<double, kQuantiles / 2> lower;
    double square = 0;
    for (std::size_t k = 0; k < lower.size(); ++k) {
      lower[k] = quantile((static_cast<double>(k) + 0.5) / kQuantiles);
      square += 2 * lower[k] * lower[k];
    }
    const double scale = std::sqrt(kQuantiles / square);
    std::array<float, kQuantiles> values;
    for (std::size_t k = 0; k < lower.size(); ++k) {
      values[k] = static_cast<float>(lower[k] * scale);
      values[kQuantiles - 1 - k] = -values[k];
    }
    return values;
  }();
  return table;
}

}  // namespace recengine
