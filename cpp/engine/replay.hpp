// What recovery has read of the log and not learned yet: single events of a row of records, learned as a batch, which
// gives the same, bit for bit, and is faster.
#pragma once

#include <vector>

#include "engine/engine.hpp"

namespace recengine {

struct Engine::Replay {
  IdArray users, items;
  std::vector<float> values, weights;
  std::vector<double> timestamps;
  bool has_timestamps = false;
  double latest = 0;  // of events without a timestamp

  std::size_t size() const { return users.size(); }
  void clear();
};

}  // namespace recengine
