// Flat retrieval: every live row is scored, the k best are kept while scanning. Exact.
//
// The scan goes in blocks of 64 rows, the rows of one liveness word. The word is loaded (acquire) before the rows: what
// is then read behind a set bit belongs to the item that owns the slot now, and under the caller's pin it has no other
// owner later.
//
// A filter is looked at block by block: blocks in which it admits many rows are scanned, of the others the rows that
// match are gathered, and pages in which it admits none are passed over.
//
// Thread safety: under any pin, beside learners. A row that is being learned is scored as it is met.
#pragma once

#include <cstddef>
#include <span>

#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"
#include "storage/aligned.hpp"
#include "storage/embedding_table.hpp"

namespace recengine {

// <query, q_i> + b_i over all live items, from row `first` on (a multiple of 64).
void scan_flat(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top,
               Row first = 0);

// The same for up to kBatch queries at once (stride floats each, one after another); scores and rankings are
// bit-identical. REQUIRES: all selections have the same filter.
inline constexpr std::size_t kBatch = 16;
void scan_flat_batch(const EmbeddingTable& items, const float* queries, std::size_t count, const Selection* selections,
                     TopK<float>* tops);

// The same over the given rows only (distinct; dead ones are skipped).
void scan_gather(const EmbeddingTable& items, const float* query, std::span<const Row> rows, const Selection& selection,
                 TopK<float>& top);

// Makes a vector's length one, if it is not zero.
void normalise(AlignedFloats& vector);

// Cosine between the query (of unit length) and every live row; rows of length zero score zero.
void scan_cosine(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top);

// The same over the given rows only.
void scan_gather_cosine(const EmbeddingTable& items, const float* query, std::span<const Row> rows,
                        const Selection& selection, TopK<float>& top);

// Any other score of live items, those of a word of rows at a time: score(rows, least, out), where there is room for
// 64. Of scores below `least` only that they are so is asked.
template <class Score, class Function>
void scan_scores(const EmbeddingTable& items, Function score, const Selection& selection, TopK<Score>& top) {
  const Selection rest = selection.without_filter();
  std::array<Row, 64> rows;
  alignas(64) std::array<Score, 64> scores;
  const auto word = [&](std::size_t number, std::uint64_t live) {
    std::size_t count = 0;
    for (; live != 0; live &= live - 1) {
      rows[count++] = static_cast<Row>(number * 64 + static_cast<std::size_t>(std::countr_zero(live)));
    }
    if (count > 0) score(std::span<const Row>(rows.data(), count), top.threshold(), scores.data());
    for (std::size_t j = 0; j < count; ++j) {
      if (scores[j] >= top.threshold() && rest.admits(rows[j])) top.push(scores[j], rows[j]);
    }
  };
  if (selection.filter != nullptr) return selection.filter->for_each_word(items, word);
  const std::size_t words = (std::size_t{items.count()} + 63) / 64;
  for (std::size_t number = 0; number < words; ++number) word(number, items.live_word(number));
}

}  // namespace recengine
