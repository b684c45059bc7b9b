// Model: everything learned. Users and items as embeddings with biases, what each user did last, what is popular.
//
// The score of an item for a user is <x_u, q_i> + b_i + r_ui. The user's vector x_u is composed when it is asked for:
//   x_u = p_u + sum_t a_t q_{h_t}
// the learned row plus the weighted rows of the last items h_0 (newest), h_1, ... over the same item table that is
// ranked (a linear form of the item-to-item models FISM, Kabbur et al. 2013, and SASRec's shared embedding, Kang and
// McAuley 2018). The weights a_t are learned too (context_weights.hpp), as is the offset r_ui, which only items of the
// user's history have, and only with the softmax. Items disliked enter with the start weight of their place, negative;
// an entry counts nothing where the user has said the opposite of its item since.
#pragma once

#include <algorithm>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "learner/context_weights.hpp"
#include "learner/cooccurrence.hpp"
#include "learner/demand.hpp"
#include "learner/fold_in.hpp"
#include "learner/popularity.hpp"
#include "learner/recent_items.hpp"
#include "learner/settings.hpp"
#include "learner/user_state.hpp"
#include "storage/aligned.hpp"
#include "storage/embedding_table.hpp"
#include "storage/epoch.hpp"

namespace recengine {

// A user's vector and what it was composed of. Private to one call; reused to save allocations.
struct QueryVector {
  static constexpr std::uint32_t kFixed = ~0u;

  struct Term {
    Row item;
    float weight;
    std::uint32_t scalar;  // the weight's number in ContextWeights; kFixed: it is not learned
  };
  struct Repeat {
    float offset;
    std::uint32_t scalar;
  };

  AlignedFloats x;              // (stride)
  std::vector<Term> history;    // rows that went in, newest first
  std::vector<Row> repeated;    // the items of the history that have an offset, each once
  std::vector<Repeat> repeats;  // theirs
  std::vector<HistoryEntry> entries;
  std::vector<std::uint32_t> times;  // how often each came before this session

  std::bitset<1024> marks;  // of `repeated`, by the lowest bits: most items that are not there are told at once

  void clear_history() {
    history.clear();
    repeated.clear();
    repeats.clear();
    times.clear();
    marks.reset();
  }

  // Where in `repeated` an item is, or its size.
  std::size_t find(Row item) const {
    if (!marks[item % marks.size()]) return repeated.size();
    return static_cast<std::size_t>(std::find(repeated.begin(), repeated.end(), item) - repeated.begin());
  }
  float offset(Row item) const {
    const std::size_t at = find(item);
    return at < repeats.size() ? repeats[at].offset : 0.0f;
  }
};

class Model {
 public:
  Model(EpochDomain& domain, const Settings& settings);

  // x_u and the offsets of a user (kNoRow: nobody) at time `now`, with the user's own history, or with the one given,
  // a session that goes on, newest last as a caller lists it.
  //
  // With user_model kAls x_u is solved instead, from all items the user has seen, each as often as it is in the
  // history, at least once, but for those that it disliked last; no row but those of items goes in, and there are no
  // offsets. query.history then says only which these are.
  void compose(Row user, double now, QueryVector& query);
  void compose(Row user, std::span<const Row> session, QueryVector& query);

  EmbeddingTable users;
  EmbeddingTable items;
  UserState user_state;
  Popularity popularity;
  std::optional<Demand> demand;  // if settings.ranks()
  RecentItems recent;
  Cooccurrence cooccurrence;
  ContextWeights context;
  std::optional<FoldIn> fold_in;  // of user_model kAls
  // b of the logistic model, the mean of the squared one. Learned without locks, through relaxed accesses.
  float global_bias = 0;
  float global_accumulator = 0;  // Adagrad's sum for it; for the squared model the total weight of the ratings

 private:
  void start_from(Row user, QueryVector& query) const;  // the learned row, or zero
  void add_history(QueryVector& query) const;           // as `entries` say
  static bool is_taken_back(const HistoryEntry& entry, const QueryVector& query);
  void add_repeat(const HistoryEntry& entry, std::uint32_t place, QueryVector& query) const;
  void fold(std::vector<Row>& chosen, QueryVector& query);  // sorts `chosen`

  const bool has_repeats_;
  std::vector<float> decay_;  // decay^t
};

}  // namespace recengine
