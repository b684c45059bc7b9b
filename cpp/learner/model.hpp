// Model: everything learned. Users and items as embeddings with biases, what each user did last, what is popular.
//
// The score of an item for a user is <x_u, q_i> + b_i. The user's vector x_u is composed when it is asked for:
//   x_u = p_u + sum_t decay^t q_{h_t}
// the learned row plus the decayed sum of the rows of the last items h_0 (newest), h_1, ... over the same item table
// that is ranked (a linear form of the item-to-item models FISM, Kabbur et al. 2013, and SASRec's shared embedding,
// Kang and McAuley 2018).
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <vector>

#include "learner/cooccurrence.hpp"
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
  AlignedFloats x;             // (stride)
  std::vector<Row> history;    // rows that went in, newest first
  std::vector<float> weights;  // and their weights
};

class Model {
 public:
  Model(EpochDomain& domain, const Settings& settings);

  // x_u of a user (kNoRow: nobody) with the user's own history, or with the one given, newest last as a caller lists
  // it.
  void compose(Row user, QueryVector& query) const;
  void compose(Row user, std::span<const Row> session, QueryVector& query) const;

  EmbeddingTable users;
  EmbeddingTable items;
  UserState user_state;
  Popularity popularity;
  RecentItems recent;
  Cooccurrence cooccurrence;
  // b of the logistic model, the mean of the squared one. Learned without locks, through relaxed accesses.
  float global_bias = 0;
  float global_accumulator = 0;  // Adagrad's sum for it; for the squared model the total weight of the ratings

 private:
  void start_from(Row user, QueryVector& query) const;  // the learned row, or zero
  void add_history(QueryVector& query) const;

  std::vector<float> decay_;  // decay^t
};

}  // namespace recengine
