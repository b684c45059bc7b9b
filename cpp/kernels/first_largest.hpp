#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

namespace recengine {

// The lowest place of the largest value; 0 where none is above -infinity. In lanes, so that compilers compare several
// at once.
inline std::uint32_t first_largest(std::span<const float> values) {
  constexpr std::size_t kLanes = 16;
  float lanes[kLanes];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = lanes[lane] < values[i + lane] ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = lanes[0] < values[i] ? values[i] : lanes[0];
  const float largest = *std::max_element(lanes, lanes + kLanes);
  const auto found = std::find(values.begin(), values.end(), largest);
  return found == values.end() ? 0 : static_cast<std::uint32_t>(found - values.begin());
}

}  // namespace recengine
