// NeighborScores: what a user's last items say together about their neighbours.
//
//   s(j) = sum_t w_t (w_after A_tj + w_before B_tj) / ((n_t + 1)^0.5 (n_j + 1)^0.25)
//
// where A_tj and B_tj are the decayed counts of j after and before the t-th item, and n the decayed numbers of events.
// Dividing by both items' frequencies makes it a kind of cosine (Linden et al. 2003; Deshpande and Karypis 2004, who
// weaken the neighbour's exponent as here: fully normalised, rare neighbours crowd out what is chosen often).
//
// Thread safety: an object is one thread's, its memory is kept from call to call. `gather` under any pin.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "learner/cooccurrence.hpp"
#include "storage/id_map.hpp"

namespace recengine {

// How much it counts that the neighbour came after the item, and that it came before.
struct DirectionWeights {
  float after = 1;
  float before = 1;
};

class NeighborScores {
 public:
  // The neighbours of `items`, weighted by `weights` (one each), at time `now`; what was there before is dropped.
  // Neighbours may be removed items: the caller asks the item table. REQUIRES: lists.on(), live items.
  void gather(const Cooccurrence& lists, std::span<const Row> items, std::span<const float> weights,
              DirectionWeights directions, double now);

  // The score of any item: 0 unless it is a neighbour.
  float of(Row row) const;

  std::size_t size() const { return used_.size(); }
  // Calls visit(row, score) for each neighbour, in the order in which they were met.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const std::uint32_t place : used_) visit(table_[place].key - 1, table_[place].score);
  }

 private:
  struct Entry {
    Row key;  // row + 1; 0: free
    float score;
  };

  void clear(std::size_t most);
  std::uint32_t place_of(Row row) const;

  std::vector<Entry> table_{2};  // open addressing; a power of two, at most half full
  std::vector<std::uint32_t> used_;
  std::vector<Neighbor> neighbors_;
};

}  // namespace recengine
