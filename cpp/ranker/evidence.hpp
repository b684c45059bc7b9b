// Evidence: what a user's last items say of the items of the catalogue, before any of them is scored: which of them are
// the user's own, and which were chosen shortly after or before the last ones by others.
//
// With the k-th last item h_k, k < kSources (of the session that goes on; of any if none does), its decayed counts
// A_kj and B_kj of j after and before it, and its decayed number of events n_k:
//   after_last(j) = A_0j / (n_0 + 5)        after_recent(j) = sum_k kSourceDecay^k A_kj / (n_k + 5)
// and the same of B for before_*. 5 events of nothing keep rare items from looking sure.
//
// Thread safety: an object is one thread's, its memory is kept from call to call. `gather` under any pin. Neighbours
// may be removed items: the caller asks the item table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
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
  static constexpr std::size_t kNeighbors = 128;  // that become candidates

  // What there was before is dropped. REQUIRES: entries of live items.
  void gather(const Cooccurrence& lists, std::span<const OwnEntry> entries, double now);

  // The item whose neighbours are those of the last item; kNoRow: there is none.
  Row last_source() const { return last_source_; }
  // Whether a session goes on.
  bool in_session() const { return in_session_; }
  // What becomes a candidate of what `admits(row)`: the own items first, then the kNeighbors neighbours with most
  // evidence, after_recent + before_recent. What was chosen before is dropped.
  template <class Admits>
  const std::vector<Row>& choose(Admits admits) {
    candidates_.clear();
    ranked_.clear();
    chosen_.assign(rows_.size(), 0);
    for (std::uint32_t index = 0; index < rows_.size(); ++index) {
      if (!admits(rows_[index])) continue;
      if (index >= own_.size()) {
        const std::array<float, kNeighborSignals>& sums = neighbors_[index];
        ranked_.emplace_back(-(sums[kAfterRecent - kAfterLast] + sums[kBeforeRecent - kAfterLast]), index);
      } else {
        candidates_.push_back(rows_[index]);
        chosen_[index] = 1;
      }
    }
    own_candidates_ = candidates_.size();
    choose_neighbors();
    return candidates_;
  }
  std::size_t num_own_candidates() const { return own_candidates_; }
  bool is_candidate(Row row) const {
    const std::uint32_t index = find(row);
    return index != kNothing && chosen_[index] != 0;
  }

  std::size_t num_own() const { return own_.size(); }
  // Of which the user's latest word is a dislike.
  std::span<const Row> disliked() const { return disliked_; }

  // An item's place among those there is evidence of, or kNothing.
  std::uint32_t find(Row row) const {
    const Entry& entry = table_[place_of(row)];
    return entry.key == 0 ? kNothing : entry.index;
  }
  // Of a place: counts over events, in the order of the signals; and, below num_own(), the own ones.
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
  void choose_neighbors();
  void gather_neighbors(const Cooccurrence& lists, std::span<const OwnEntry> entries, double now);

  bool in_session_ = false;
  Row last_source_ = kNoRow;
  std::vector<Entry> table_{2};  // open addressing; a power of two, at most half full
  std::vector<std::uint32_t> places_;
  std::vector<Row> rows_;
  std::vector<std::array<float, kNeighborSignals>> neighbors_;
  std::vector<std::array<float, kOwnSignals>> own_;
  std::vector<Row> disliked_;
  std::vector<Neighbor> list_;
  std::vector<Row> candidates_;
  std::size_t own_candidates_ = 0;
  std::vector<unsigned char> chosen_;
  std::vector<std::pair<float, std::uint32_t>> ranked_;  // evidence, negative, and place
};

}  // namespace recengine
