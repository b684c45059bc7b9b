// FitTables: the rows of the users and items of some pairs, taken out of an engine for offline training, in an order of
// their own. Training works on these copies, so that queries see rows of one model throughout; the engine takes them
// back between epochs.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/ids.hpp"
#include "learner/interactions.hpp"
#include "storage/aligned.hpp"

namespace recengine {

struct FitTables {
  IdArray user_ids, item_ids;
  Interactions pairs;              // users' numbers against items' numbers
  AlignedFloats users, items;      // (count, stride): what a query multiplies, the history included
  std::vector<float> item_biases;  // (items), or empty: zeros
  std::size_t dim = 0, stride = 0;
};

}  // namespace recengine
