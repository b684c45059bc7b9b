// LimitSettings: what an engine does not take, from whom and how much of it.
#pragma once

#include <limits>

namespace recengine {

struct LimitSettings {
  // Seconds that a timestamp may be ahead of the machine's clock; infinity: no limit.
  double max_ahead = std::numeric_limits<double>::infinity();

  // Throws std::invalid_argument naming the first value that is out of range.
  void validate() const;
};

}  // namespace recengine
