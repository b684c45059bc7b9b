#include "retrieval/flat.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr Row kBlock = 64;
constexpr Row kBlocksPerCheck = 1024;  // between two looks at the interrupt: below a millisecond of scanning

// Rows come in ascending order, so that an equal score never displaces: only higher ones need a look.
void offer(const float* scores, Row first, std::uint64_t live, const Selection& selection, TopK<float>& top) {
  for (; live != 0; live &= live - 1) {
    const auto lane = static_cast<Row>(std::countr_zero(live));
    if (scores[lane] > top.threshold() && selection.admits(first + lane)) top.push(scores[lane], first + lane);
  }
}

// visit(first, count, live) for the blocks that hold a live row.
template <class Visit>
void for_each_block(const EmbeddingTable& items, Visit visit) {
  const Row count = items.count();
  for (Row first = 0, blocks = 1; first < count; first += kBlock, ++blocks) {
    std::uint64_t live = items.live_word(first / kBlock);
    // Rows that came after the count was read are live and have no score.
    if (count - first < kBlock) live &= (std::uint64_t{1} << (count - first)) - 1;
    if (live != 0) visit(first, std::min(kBlock, count - first), live);
    if (blocks % kBlocksPerCheck == 0) check_interrupt();
  }
}

float cosine(float dot, float square_norm) { return square_norm > 0 ? dot / std::sqrt(square_norm) : 0.0f; }

}  // namespace

void scan_flat(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top) {
  const Kernels& kernels = active_kernels();
  std::array<float, kBlock> scores;
  for_each_block(items, [&](Row first, Row count, std::uint64_t live) {
    const float highest =
        kernels.scan(query, items.rows.row(first), &items.bias[first], count, items.stride(), scores.data());
    if (highest > top.threshold()) offer(scores.data(), first, live, selection, top);
  });
}

void scan_flat_batch(const EmbeddingTable& items, const float* queries, std::size_t count, const Selection* selections,
                     TopK<float>* tops) {
  const Kernels& kernels = active_kernels();
  std::array<float, kBatch * kBlock> scores;
  for_each_block(items, [&](Row first, Row rows, std::uint64_t live) {
    kernels.scan_many(queries, count, items.rows.row(first), &items.bias[first], rows, items.stride(), scores.data(),
                      kBlock);
    for (std::size_t q = 0; q < count; ++q) {
      const float* const mine = scores.data() + q * kBlock;
      const float threshold = tops[q].threshold();
      int higher = 0;
      for (Row r = 0; r < rows; ++r) higher |= mine[r] > threshold;  // vectorised
      if (higher != 0) offer(mine, first, live, selections[q], tops[q]);
    }
  });
}

void scan_gather(const EmbeddingTable& items, const float* query, std::span<const Row> rows, const Selection& selection,
                 TopK<float>& top) {
  const Kernels& kernels = active_kernels();
  for (const Row row : rows) {
    if (!items.is_live(row) || !selection.admits(row)) continue;
    top.push(kernels.dot(query, items.rows.row(row), items.stride()) + load_relaxed(&items.bias[row]), row);
  }
}

void scan_cosine(const EmbeddingTable& items, const float* query, const Selection& selection, TopK<float>& top) {
  const Kernels& kernels = active_kernels();
  std::array<float, kBlock> scores;
  std::array<float, kBlock> norms;
  for_each_block(items, [&](Row first, Row count, std::uint64_t live) {
    kernels.scan(query, items.rows.row(first), nullptr, count, items.stride(), scores.data());
    kernels.square_norms(items.rows.row(first), count, items.stride(), norms.data());
    for (Row r = 0; r < count; ++r) scores[r] = cosine(scores[r], norms[r]);
    offer(scores.data(), first, live, selection, top);
  });
}

void scan_gather_cosine(const EmbeddingTable& items, const float* query, std::span<const Row> rows,
                        const Selection& selection, TopK<float>& top) {
  const Kernels& kernels = active_kernels();
  for (const Row row : rows) {
    if (!items.is_live(row) || !selection.admits(row)) continue;
    float square_norm;
    kernels.square_norms(items.rows.row(row), 1, items.stride(), &square_norm);
    top.push(cosine(kernels.dot(query, items.rows.row(row), items.stride()), square_norm), row);
  }
}

}  // namespace recengine
