// Flat retrieval: every live row is scored, the k best are kept while scanning. Exact.
//
// The scan goes in blocks of 64 rows, the rows of one liveness word. The word is loaded (acquire) before the rows: what
// is then read behind a set bit belongs to the item that owns the slot now, and under the caller's pin it has no other
// owner later.
//
// Thread safety: under any pin, beside learners. A row that is being learned is scored as it is met.
#pragma once

#include <cstddef>
#include <span>

#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"
#include "storage/embedding_table.hpp"

namespace recengine {

// <query, q_i> + b_i over all live items.
void scan_flat(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top);

// The same for up to kBatch queries at once (stride floats each, one after another); scores and rankings are
// bit-identical.
inline constexpr std::size_t kBatch = 16;
void scan_flat_batch(const EmbeddingTable& items, const float* queries, std::size_t count, const Selection* selections,
                     TopK<float>* tops);

// The same over the given rows only (distinct; dead ones are skipped).
void scan_gather(const EmbeddingTable& items, const float* query, std::span<const Row> rows, const Selection& selection,
                 TopK<float>& top);

// Cosine between the query (of unit length) and every live row; rows of length zero score zero.
void scan_cosine(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top);

// The same over the given rows only.
void scan_gather_cosine(const EmbeddingTable& items, const float* query, std::span<const Row> rows,
                        const Selection& selection, TopK<float>& top);

// Any other score of live items: score(row).
template <class Score, class Function>
void scan_scores(const EmbeddingTable& items, Function score, const Selection& selection, TopK<Score>& top) {
  const Row count = items.count();
  for (Row first = 0; first < count; first += 64) {
    std::uint64_t live = items.live_word(first / 64);
    for (; live != 0; live &= live - 1) {
      const Row row = first + static_cast<Row>(std::countr_zero(live));
      const Score value = score(row);
      if (value >= top.threshold() && selection.admits(row)) top.push(value, row);
    }
  }
}

}  // namespace recengine
