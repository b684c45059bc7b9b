// The search of one level (Malkov and Yashunin 2018, Algorithm 2), for any score, higher being better: from the best
// row met so far to its links, until nothing met can better the `ef` best.
//
// Thread safety: a GraphScratch belongs to one call. Links are read beside their writers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "retrieval/graph_links.hpp"
#include "retrieval/top_k.hpp"
#include "storage/embedding_table.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

// The rows met by one search: a bit each, and which bits to clear again. Costs an eighth of a byte a row and thread.
class VisitedRows {
 public:
  // Rows from `limit` on count as visited: they came after the search began.
  void begin(std::size_t limit) {
    limit_ = limit;
    if (words_.size() * 64 < limit) words_.resize((limit + 63) / 64);
  }
  std::size_t size() const { return rows_.size(); }
  void clear() {
    for (const Row row : rows_) words_[row / 64] = 0;
    rows_.clear();
  }
  // False if it was visited before.
  bool visit(Row row) {
    const std::uint64_t bit = std::uint64_t{1} << (row % 64);
    if (row >= limit_ || (words_[row / 64] & bit) != 0) return false;
    rows_.push_back(row);  // first: it may throw
    words_[row / 64] |= bit;
    return true;
  }

 private:
  std::size_t limit_ = 0;
  std::vector<std::uint64_t> words_;  // all zero between searches
  std::vector<Row> rows_;
};

struct GraphBuffers {
  VisitedRows visited;
  std::vector<Scored<float>> candidates;  // a heap, the best in front
  std::vector<Scored<float>> results;     // a heap, the worst in front
};

// The calling thread's buffers, for as long as this lives. A search inside another (a signal handler that an interrupt
// runs) finds them gone and makes its own.
class GraphScratch {
 public:
  GraphScratch() : buffers_(std::move(spare_)) {
    if (!buffers_) buffers_ = std::make_unique<GraphBuffers>();
  }
  ~GraphScratch() {
    buffers_->visited.clear();
    spare_ = std::move(buffers_);
  }
  GraphScratch(const GraphScratch&) = delete;
  GraphScratch& operator=(const GraphScratch&) = delete;

  GraphBuffers* operator->() const { return buffers_.get(); }

 private:
  static inline thread_local std::unique_ptr<GraphBuffers> spare_;
  std::unique_ptr<GraphBuffers> buffers_;
};

inline constexpr std::size_t kMaxLinks = 128;  // of one list

// score(rows, out) scores a batch of at most kMaxLinks; links(row) is a row's LinkList on the level.
// Leaves the best `ef` rows that accept(row) admits in scratch->results, in no order. REQUIRES: ef > 0.
template <class Score, class Links, class Accept>
void search_level(const Score& score, const Links& links, const Accept& accept, std::span<const Row> starts,
                  std::size_t ef, std::size_t limit, const GraphScratch& scratch) {
  constexpr std::size_t kExpansionsPerCheck = 4096;  // between two looks at the interrupt: some milliseconds
  VisitedRows& visited = scratch->visited;
  std::vector<Scored<float>>& candidates = scratch->candidates;
  std::vector<Scored<float>>& results = scratch->results;
  const auto nearer_last = [](const Scored<float>& a, const Scored<float>& b) { return b < a; };
  visited.clear();
  visited.begin(limit);
  candidates.clear();
  results.clear();
  std::array<Row, kMaxLinks> rows;
  std::array<float, kMaxLinks> scores;
  std::size_t count = 0;
  const auto offer = [&] {
    score(std::span<const Row>(rows.data(), count), scores.data());
    for (std::size_t i = 0; i < count; ++i) {
      const Scored<float> met{scores[i], rows[i]};
      if (results.size() == ef && !(met < results.front())) continue;
      candidates.push_back(met);
      std::push_heap(candidates.begin(), candidates.end(), nearer_last);
      if (!accept(met.row)) continue;
      if (results.size() == ef) {
        std::pop_heap(results.begin(), results.end());
        results.back() = met;
      } else {
        results.push_back(met);
      }
      std::push_heap(results.begin(), results.end());
    }
    count = 0;
  };
  for (const Row row : starts) {
    if (visited.visit(row)) rows[count++] = row;
    if (count == kMaxLinks) offer();
  }
  offer();
  for (std::size_t expansions = 1; !candidates.empty(); ++expansions) {
    const Scored<float> best = candidates.front();
    if (results.size() == ef && !(best < results.front())) break;
    std::pop_heap(candidates.begin(), candidates.end(), nearer_last);
    candidates.pop_back();
    links(best.row).for_each([&](Row row) {
      if (!visited.visit(row)) return;
      score.prefetch(row);
      rows[count++] = row;
    });
    if (!candidates.empty()) __builtin_prefetch(links(candidates.front().row).address());
    offer();
    if (expansions % kExpansionsPerCheck == 0) check_interrupt();
  }
}

// Greedily to the best row of a level: search_level for ef = 1, without its heaps.
template <class Score, class Links>
Row descend(const Score& score, const Links& links, Row row, std::size_t limit) {
  std::array<Row, kMaxLinks> rows{row};
  std::array<float, kMaxLinks> scores;
  score(std::span<const Row>(rows.data(), 1), scores.data());
  Scored<float> best{scores[0], row};
  for (bool moved = true; moved;) {
    moved = false;
    std::size_t count = 0;
    links(best.row).for_each([&](Row link) {
      if (link < limit) rows[count++] = link;
    });
    score(std::span<const Row>(rows.data(), count), scores.data());
    for (std::size_t i = 0; i < count; ++i) {
      if (!(Scored<float>{scores[i], rows[i]} < best)) continue;
      best = {scores[i], rows[i]};
      moved = true;
    }
  }
  return best.row;
}

// <query, q_i> + b_i
class InnerProduct {
 public:
  InnerProduct(const EmbeddingTable& items, const float* query) : items_(items), query_(query) {}

  void prefetch(Row row) const { items_.rows.prefetch(row); }

  void operator()(std::span<const Row> rows, float* out) const {
    if (rows.empty()) return;
    items_.rows.gather_dot(query_, rows, out);
    for (std::size_t i = 0; i < rows.size(); ++i) out[i] += load_relaxed(&items_.bias[rows[i]]);
  }

 private:
  const EmbeddingTable& items_;
  const float* const query_;
};

}  // namespace recengine
