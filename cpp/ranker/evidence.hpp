// Evidence: what a user's last items say of the items of the catalogue, before any of them is scored: which of them are
// the user's own, and which were chosen shortly after or before the last ones by others.
//
// With the k-th last item h_k, k < kSources (of the session that goes on; of any if none does), its decayed counts
// A_kj and B_kj of j after and before it, and its decayed number of events n_k:
//   after_last(j) = A_0j / (n_0 + 5)        after_recent(j) = sum_k kSourceDecay^k A_kj / (n_k + 5)
// and the same of B for before_*. 5 events of nothing keep rare items from looking sure.
//
// Thread safety: an object is one thread's, its memory is kept from call to call. `gather` under any pin. Neighbours may
// be removed items: the caller asks the item table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "learner/cooccurrence.hpp"
#include "learner/user_state.hpp"
#include "ranker/signals.hpp"
#include "storage/id_map.hpp"

namespace recengine {

// One of a user's last items, newest first, as UserState has it.
struct OwnEntry {
  HistoryEntry entry;
  float time;
};

class Evidence {
 public:
  static constexpr std::size_t kSources = 20;
  static constexpr float kSourceDecay = 0.9f;
  static constexpr std::uint32_t kNothing = ~0u;

  // What there was before is dropped. REQUIRES: entries of live items.
  void gather(const Cooccurrence& lists, std::span<const OwnEntry> entries, double now);

  // Whether a session goes on.
  bool in_session() const { return in_session_; }
  // The items there is evidence of, own ones first.
  const std::vector<Row>& rows() const { return rows_; }
  std::size_t num_own() const { return own_.size(); }

  // An item's place in rows(), or kNothing.
  std::uint32_t find(Row row) const {
    const Entry& entry = table_[place_of(row)];
    return entry.key == 0 ? kNothing : entry.index;
  }
  // Of a place in rows(): counts over events, in the order of the signals; and, below num_own(), the own ones.
  const std::array<float, kNeighborSignals>& neighbor(std::uint32_t index) const { return neighbors_[index]; }
  const std::array<float, kOwnSignals>& own(std::uint32_t index) const { return own_[index]; }

 private:
  struct Entry {
    Row key;  // row + 1; 0: free
    std::uint32_t index;
  };

  void clear(std::size_t most);
  std::uint32_t place_of(Row row) const;
  std::uint32_t index_of(Row row);  // added if it is not there
  void gather_own(std::span<const OwnEntry> entries, double now);
  void gather_neighbors(const Cooccurrence& lists, std::span<const OwnEntry> entries, double now);

  bool in_session_ = false;
  std::vector<Entry> table_{2};  // open addressing; a power of two, at most half full
  std::vector<std::uint32_t> places_;
  std::vector<Row> rows_;
  std::vector<std::array<float, kNeighborSignals>> neighbors_;
  std::vector<std::array<float, kOwnSignals>> own_;
  std::vector<Neighbor> list_;
};

}  // namespace recengine
