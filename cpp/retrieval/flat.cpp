#include "retrieval/flat.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "kernels/relaxed.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr Row kBlock = 64;
constexpr Row kBlocksPerCheck = 1024;  // between two looks at the interrupt: below a millisecond of scanning
constexpr std::size_t kGathered = 64;  // matching rows that are scored together
constexpr int kFull = 16;              // matching rows of a block from which on scanning it whole is faster (measured)

// Rows come in ascending order, so that an equal score never displaces: only higher ones need a look.
void offer(const float* scores, Row first, std::uint64_t live, const Selection& selection, TopK<float>& top) {
  for (; live != 0; live &= live - 1) {
    const auto lane = static_cast<Row>(std::countr_zero(live));
    if (scores[lane] > top.threshold() && selection.admits(first + lane)) top.push(scores[lane], first + lane);
  }
}

// visit(first, count, live) for the blocks that hold a live row, from this row on.
template <class Visit>
void for_each_block(const EmbeddingTable& items, Visit visit, Row begin = 0) {
  const Row count = items.count();
  for (Row first = begin, blocks = 1; first < count; first += kBlock, ++blocks) {
    std::uint64_t live = items.live_word(first / kBlock);
    // Rows that came after the count was read are live and have no score.
    if (count - first < kBlock) live &= (std::uint64_t{1} << (count - first)) - 1;
    if (live != 0) visit(first, std::min(kBlock, count - first), live);
    if (blocks % kBlocksPerCheck == 0) check_interrupt();
  }
}

// With a filter: few(rows) for matching rows that lie apart, many at a time, and block(first, count, bits) for blocks
// that are full enough to be scanned as a whole.
template <class Few, class Block>
void for_each_matching(const EmbeddingTable& items, const Filter& filter, Few few, Block block, Row begin = 0) {
  std::array<Row, kGathered + kBlock> rows;
  std::size_t size = 0;
  const auto flush = [&] {
    if (size > 0) few(std::span<const Row>(rows.data(), size));
    size = 0;
  };
  const Row count = items.count();
  filter.for_each_word(items, [&](std::size_t word, std::uint64_t bits) {
    const auto first = static_cast<Row>(word * kBlock);
    if (first < begin) return;
    if (std::popcount(bits) >= kFull) {
      flush();  // rows come in ascending order
      block(first, std::min(kBlock, count - first), bits);
      return;
    }
    for (; bits != 0; bits &= bits - 1) rows[size++] = first + static_cast<Row>(std::countr_zero(bits));
    if (size >= kGathered) flush();
  });
  flush();
}

// Below it the squares of coordinates lose digits: vectors that short are made longer first.
constexpr float kShortSquare = 1e-28f;

// So that the largest coordinate is one. False for a vector of zeros.
bool lengthen(AlignedFloats& vector) {
  float largest = 0;
  for (const float value : vector) largest = std::max(largest, std::abs(value));
  if (largest == 0) return false;
  for (float& value : vector) value /= largest;
  return true;
}

float cosine_of_short(const EmbeddingTable& items, const float* query, Row row) {
  AlignedFloats longer(items.stride());
  items.rows.load(row, longer.data());
  if (!lengthen(longer)) return 0;
  const Kernels& kernels = active_kernels();
  return kernels.dot(query, longer.data(), longer.size()) /
         std::sqrt(kernels.square_norm(longer.data(), longer.size()));
}

// By the inner product and the square of the row's length.
float cosine(const EmbeddingTable& items, const float* query, Row row, float dot, float square) {
  return square >= kShortSquare ? dot / std::sqrt(square) : cosine_of_short(items, query, row);
}

// score(row, dot) of the live rows among these.
template <class Score>
void gather(const EmbeddingTable& items, const float* query, std::span<const Row> rows, const Selection& selection,
            TopK<float>& top, Score score) {
  constexpr std::size_t kTogether = 16;
  std::array<Row, kTogether> live;
  std::array<float, kTogether> dots;
  for (std::size_t next = 0, ahead = 0; next < rows.size();) {
    std::size_t size = 0;
    for (; next < rows.size() && size < kTogether; ++next) {
      // The rows after the next ones are asked for meanwhile.
      for (; ahead < std::min(rows.size(), next + kTogether); ++ahead) items.rows.prefetch(rows[ahead]);
      if (items.is_live(rows[next])) live[size++] = rows[next];
    }
    items.rows.gather_dot(query, std::span<const Row>(live.data(), size), dots.data());
    for (std::size_t r = 0; r < size; ++r) {
      const float value = score(live[r], dots[r]);
      if (value >= top.threshold() && selection.admits(live[r])) top.push(value, live[r]);
    }
  }
}

}  // namespace

void scan_flat(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top,
               Row begin) {
  std::array<float, kBlock> scores;
  const Selection rest = selection.without_filter();
  const auto block = [&](Row first, Row count, std::uint64_t live) {
    const float highest = items.rows.scan(query, first, count, &items.bias[first], scores.data());
    if (highest > top.threshold()) offer(scores.data(), first, live, rest, top);
  };
  if (selection.filter == nullptr) return for_each_block(items, block, begin);
  for_each_matching(
      items, *selection.filter, [&](std::span<const Row> rows) { scan_gather(items, query, rows, rest, top); }, block,
      begin);
}

void scan_flat_batch(const EmbeddingTable& items, const float* queries, std::size_t count, const Selection* selections,
                     TopK<float>* tops) {
  std::array<float, kBatch * kBlock> scores;
  const auto rest = [&](std::size_t q) { return selections[q].without_filter(); };
  const auto block = [&](Row first, Row rows, std::uint64_t live) {
    items.rows.scan_many(queries, count, first, rows, &items.bias[first], scores.data(), kBlock);
    for (std::size_t q = 0; q < count; ++q) {
      const float* const mine = scores.data() + q * kBlock;
      const float threshold = tops[q].threshold();
      int higher = 0;
      for (Row r = 0; r < rows; ++r) higher |= mine[r] > threshold;  // vectorised
      if (higher != 0) offer(mine, first, live, rest(q), tops[q]);
    }
  };
  const Filter* const filter = count > 0 ? selections[0].filter : nullptr;
  if (filter == nullptr) return for_each_block(items, block);
  const auto few = [&](std::span<const Row> rows) {
    for (std::size_t q = 0; q < count; ++q) scan_gather(items, queries + q * items.stride(), rows, rest(q), tops[q]);
  };
  for_each_matching(items, *filter, few, block);
}

void scan_gather(const EmbeddingTable& items, const float* query, std::span<const Row> rows, const Selection& selection,
                 TopK<float>& top) {
  gather(items, query, rows, selection, top,
         [&items](Row row, float dot) { return dot + load_relaxed(&items.bias[row]); });
}

void scan_cosine(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top) {
  std::array<float, kBlock> scores;
  std::array<float, kBlock> norms;
  const Selection rest = selection.without_filter();
  const auto block = [&](Row first, Row count, std::uint64_t live) {
    items.rows.scan(query, first, count, nullptr, scores.data());
    items.rows.square_norms(first, count, norms.data());
    for (Row r = 0; r < count; ++r) scores[r] = cosine(items, query, first + r, scores[r], norms[r]);
    offer(scores.data(), first, live, rest, top);
  };
  if (selection.filter == nullptr) return for_each_block(items, block);
  const auto few = [&](std::span<const Row> rows) { scan_gather_cosine(items, query, rows, rest, top); };
  for_each_matching(items, *selection.filter, few, block);
}

void scan_gather_cosine(const EmbeddingTable& items, const float* query, std::span<const Row> rows,
                        const Selection& selection, TopK<float>& top) {
  gather(items, query, rows, selection, top,
         [&items, query](Row row, float dot) { return cosine(items, query, row, dot, items.rows.square_norm(row)); });
}

void normalise(AlignedFloats& vector) {
  const auto square = [&vector] { return active_kernels().square_norm(vector.data(), vector.size()); };
  if (square() < kShortSquare && !lengthen(vector)) return;
  const float length = std::sqrt(square());
  for (float& value : vector) value /= length;
}

}  // namespace recengine
