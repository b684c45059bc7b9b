// Cosines by codes: every cell is screened, since what bounds inner products says nothing of angles, and what may enter
// the ranking is scored from the live rows.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "retrieval/cell_index.hpp"
#include "retrieval/coded_query.hpp"
#include "retrieval/flat.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr std::size_t kNearest = 4;     // clusters visited first
constexpr float kLeastLength = 1e-30f;  // of a centre's length, so that nothing is divided by zero
constexpr std::size_t kWaiting = 64;    // rows that wait to be scored

// What a cosine in floats may be above the exact one: the inner product by n 2^-24 of both lengths, the norm by half of
// that, the screened product by less.
float cosine_rounding(std::size_t n) { return static_cast<float>(n + 32) * 0x1p-22f; }

// All cells, those first whose centres have the largest cosines, so that the threshold rises early.
std::vector<Row> by_angle(const Directory& directory, const float* query) {
  std::vector<Row> order(directory.num_cells());
  std::iota(order.begin(), order.end(), Row{0});
  AlignedFloats dots(Directory::padded(directory.num_cells()));
  directory.multiply(query, 1, dots.data());
  const std::size_t clusters = directory.num_centres();
  for (std::size_t j = 0; j < clusters; ++j) dots[j] /= std::max(directory.centres().norms[j], kLeastLength);
  const auto first = static_cast<std::ptrdiff_t>(std::min(kNearest, clusters));
  std::partial_sort(order.begin(), order.begin() + first, order.begin() + static_cast<std::ptrdiff_t>(clusters),
                    [&dots](Row a, Row b) { return dots[a] > dots[b]; });
  return order;
}

}  // namespace

SearchReport CellIndex::scan_cosine(const float* query, const Selection& selection, TopK<float>& top) {
  follow_many();
  std::vector<Row> pending, hits;
  take_pending(pending);
  const Directory& now = *directory();
  CodedQuery coded;
  coded.encode(query, items_.stride());

  SearchReport report;
  report.pending = pending.size();
  const auto score = [&](std::span<const Row> rows) {
    scan_gather_cosine(items_, query, rows, selection, top);
    report.scored += rows.size();
  };
  score(pending);
  const auto screen = [&](const Cell& cell, std::size_t first, std::size_t count) {
    std::array<unsigned short, kScreenedBlocks> found;
    const float cosine = top.threshold() - cosine_rounding(items_.stride());
    const std::uint32_t start = cell.lock().begin_read();
    Screening screening = coded.screening(cell.length(), cell.error(), cell.block_norm(first), 0.0f);
    if (!(cosine > 0)) screening.limit = -INFINITY;  // norms are bounded from below only
    bool any = active_kernels().screen_cosine(cell.block(first), count, items_.stride(), screening,
                                              cell.least_norms(first), std::max(cosine, 0.0f), found.data());
    if (!cell.lock().unchanged(start)) {  // written while we looked: none of it counts
      found.fill(0xFFFF);
      any = true;
    }
    report.screened += count * kBlockRows;
    if (!any) return;
    for (std::size_t b = 0; b < count; ++b) {
      for (unsigned left = found[b]; left != 0; left &= left - 1) {
        const Row row = cell.row((first + b) * kBlockRows + static_cast<std::size_t>(std::countr_zero(left)));
        if (row != kNoRow && !std::binary_search(pending.begin(), pending.end(), row)) hits.push_back(row);
      }
    }
    // At once until there is a threshold.
    if (hits.size() < kWaiting && top.threshold() > -INFINITY) return;
    score(hits);
    hits.clear();
  };
  const std::vector<Row> order = by_angle(now, query);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Cell& cell = *now.cell(order[i]);
    if (i + 1 < order.size()) now.cell(order[i + 1])->prefetch();
    const std::size_t blocks = cell.blocks();
    for (std::size_t first = 0; first < blocks; first += kScreenedBlocks)
      screen(cell, first, std::min(kScreenedBlocks, blocks - first));
    if (i % kCellsPerCheck == 0) check_interrupt();
  }
  score(hits);
  return report;
}

}  // namespace recengine
