#include "learner/neighbor_scores.hpp"

#include <bit>
#include <cmath>

namespace recengine {

std::uint32_t NeighborScores::place_of(Row row) const {
  const auto mask = static_cast<std::uint32_t>(table_.size() - 1);
  std::uint32_t place = (row * 0x9E3779B1u >> 7) & mask;
  while (table_[place].key != 0 && table_[place].key != row + 1) place = (place + 1) & mask;
  return place;
}

void NeighborScores::clear(std::size_t most) {
  if (table_.size() < 2 * most) {
    table_.assign(std::bit_ceil(2 * most), {});
  } else {
    for (const std::uint32_t place : used_) table_[place] = {};
  }
  used_.clear();
}

float NeighborScores::of(Row row) const {
  const Entry& entry = table_[place_of(row)];
  return entry.key == 0 ? 0.0f : entry.score;
}

void NeighborScores::gather(const Cooccurrence& lists, std::span<const Row> items, std::span<const float> weights,
                            DirectionWeights directions, double now) {
  clear(items.size() * lists.slots());
  neighbors_.resize(lists.slots());
  for (std::size_t t = 0; t < items.size(); ++t) {
    const float weight = weights[t] / std::sqrt(static_cast<float>(lists.count(items[t], now)) + 1);
    const std::uint32_t count = lists.neighbors(items[t], now, neighbors_.data());
    for (const Neighbor& neighbor : std::span(neighbors_).first(count)) {
      const std::uint32_t place = place_of(neighbor.row);
      Entry& entry = table_[place];
      if (entry.key == 0) {
        entry.key = neighbor.row + 1;
        used_.push_back(place);
      }
      entry.score += weight * (directions.after * neighbor.after + directions.before * neighbor.before);
    }
  }
  for (const std::uint32_t place : used_) {
    const auto events = static_cast<float>(lists.count(table_[place].key - 1, now));
    table_[place].score /= std::sqrt(std::sqrt(events + 1));
  }
}

}  // namespace recengine
