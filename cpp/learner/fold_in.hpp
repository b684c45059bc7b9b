// FoldIn: a user's vector solved from the user's items, as the users' half of an epoch of alternating least squares
// would (als.hpp), whenever it is asked for (Hu, Koren and Volinsky 2008, eq. 4). So a new user, an anonymous session
// and a regular are served alike, and each event counts at once.
//
// What all users have in common, the items' Gramian, is formed by the query that finds it stale, and published for the
// others. Nobody waits: two queries at once may both form it. Fewer steps of learners than an eighth of the items do
// not make it stale.
//
// Thread safety: every method, from any thread; solve under any pin of the domain.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "learner/als.hpp"
#include "storage/embedding_table.hpp"
#include "storage/epoch.hpp"

namespace recengine {

class FoldIn {
 public:
  FoldIn(EpochDomain& domain, const EmbeddingTable& items, const AlsSettings& settings);
  ~FoldIn();  // REQUIRES: nobody uses it any more
  FoldIn(const FoldIn&) = delete;
  FoldIn& operator=(const FoldIn&) = delete;

  // x (stride) from distinct live items, each with a positive weight; zero without any. Throws Interrupted.
  void solve(std::span<const Row> items, std::span<const float> weights, float* x);

  // Learners wrote so many rows of items.
  void moved(std::size_t rows);
  // Rows were set or removed: what is solved from now on sees it. Call after the writes.
  void invalidate();

 private:
  struct Basis;

  const Basis& fresh_basis();

  EpochDomain& domain_;
  const EmbeddingTable& items_;
  const AlsSettings settings_;
  std::atomic<const Basis*> basis_{nullptr};
  std::atomic<std::uint64_t> version_{1};  // of the rows; a basis has that of when it was begun
  std::atomic<std::size_t> moved_{0};      // rows since the version rose
};

}  // namespace recengine
