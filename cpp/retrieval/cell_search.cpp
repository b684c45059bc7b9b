// The query side of CellIndex.
#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <utility>

#include "kernels/relaxed.hpp"
#include "retrieval/cell_index.hpp"
#include "retrieval/coded_query.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr std::size_t kPromising = 12;      // clusters visited by promise before the others are looked through
constexpr std::size_t kPromisingAlone = 4;  // the same of each of several queries
constexpr std::size_t kAhead = 2;           // cells between fetching and visiting one

}  // namespace

// One query on its way through a directory. It takes scratch memory of the thread's and gives it back at the end: a
// signal handler that asks for a ranking in the middle of another finds none, or some that nobody uses.
struct CellIndex::Search {
  struct Scratch {
    AlignedFloats dots, bounds, promises;
    CodedQuery coded;
    std::vector<Row> pending;
    std::vector<Row> order;  // cells
    std::vector<Row> hits;   // rows that may enter the ranking, and were asked for
  };
  static std::vector<Scratch>& pool() {
    thread_local std::vector<Scratch> unused;
    return unused;
  }
  static Scratch take_scratch() {
    pool().reserve(kTogether);
    if (pool().empty()) return {};
    Scratch memory = std::move(pool().back());
    pool().pop_back();
    return memory;
  }

  const CellIndex& index;
  Scratch memory = take_scratch();
  const Directory& directory;
  const float* query;
  const Selection& selection;
  const Selection rest = selection.without_filter();
  TopK<float>& top;
  SearchReport report{};

  Search(const CellIndex& its_index, const float* its_query, const Selection& its_selection, TopK<float>& its_top)
      : index(its_index), directory(take_pending()), query(its_query), selection(its_selection), top(its_top) {
    memory.coded.encode(query, index.items_.stride());
  }
  // A query that goes along with another.
  Search(const Search& first, const float* its_query, const Selection& its_selection, TopK<float>& its_top)
      : index(first.index), directory(first.directory), query(its_query), selection(its_selection), top(its_top) {
    memory.pending = first.memory.pending;
    memory.coded.encode(query, index.items_.stride());
  }
  ~Search() {
    if (pool().size() < pool().capacity()) pool().push_back(std::move(memory));
  }
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // The rows that are pending, and only then the directory (invariant 3).
  const Directory& take_pending() {
    index.take_pending(memory.pending);
    return *index.directory();
  }

  // Scores the rows that were hit, several at a time.
  void score_hits() {
    const EmbeddingTable& items = index.items_;
    std::array<float, kScoredTogether> scores;
    report.scored += memory.hits.size();
    for (std::size_t first = 0; first < memory.hits.size(); first += kScoredTogether) {
      const auto rows =
          std::span<const Row>(memory.hits).subspan(first, std::min(kScoredTogether, memory.hits.size() - first));
      items.rows.gather_dot(query, rows, scores.data());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const float value = scores[i] + load_relaxed(&items.bias[rows[i]]);
        if (value >= top.threshold() && rest.admits(rows[i])) top.push(value, rows[i]);
      }
    }
    memory.hits.clear();
  }

  // A row to score, soon. The filter is cheaper than the row.
  void hit(Row row) {
    const EmbeddingTable& items = index.items_;
    if (!items.is_live(row) || (selection.filter != nullptr && !selection.filter->admits(row))) return;
    items.rows.prefetch(row);
    __builtin_prefetch(&items.bias[row]);
    memory.hits.push_back(row);
  }

  void score_pending() {
    report.pending = memory.pending.size();
    for (const Row row : memory.pending) {
      hit(row);
      if (memory.hits.size() == kScoredTogether) score_hits();
    }
    score_hits();
  }

  bool is_pending(Row row) const {
    return !memory.pending.empty() && std::binary_search(memory.pending.begin(), memory.pending.end(), row);
  }

  // How many blocks from this one on to screen with one threshold: few until it has risen; and of a cell, only what it
  // leaves. Rows behind those are no longer than they.
  std::size_t blocks_from(const Cell& cell, std::size_t first, std::size_t blocks, float most_bias) const {
    const float reach = memory.coded.reach();
    const std::size_t most =
        std::min(report.screened < kEarlyRows ? kScreenedBlocks / 4 : kScreenedBlocks, blocks - first);
    const float threshold = top.threshold();
    const auto falls_short = [&](std::size_t b) {
      return cell.block_norm(b) * reach + most_bias + CodedQuery::kSlack < threshold;  // not for a NaN
    };
    if (!falls_short(first + most - 1)) return most;
    std::size_t count = 0;
    while (count < most && !falls_short(first + count)) ++count;
    return count;
  }

  // REQUIRES: within a read of the cell.
  Screening screening(const Cell& cell, std::size_t first) const {
    return memory.coded.screening(cell.length(), cell.error(), cell.block_norm(first), top.threshold());
  }

  void visit(const Cell& cell, float most_bias) {
    const std::size_t blocks = cell.blocks();
    for (std::size_t first = 0, count = 0; first < blocks; first += count) {
      count = blocks_from(cell, first, blocks, most_bias);
      if (count == 0) return;
      const std::uint32_t start = cell.lock().begin_read();
      std::array<unsigned short, kScreenedBlocks> hits;
      bool any =
          active_kernels().screen(cell.block(first), count, index.items_.stride(), screening(cell, first), hits.data());
      if (!cell.lock().unchanged(start)) {  // written while we looked: none of it counts
        hits.fill(0xFFFF);
        any = true;
      }
      report.screened += count * kBlockRows;
      if (any) take_hits(cell, first, {hits.data(), count});
    }
  }

  void take_hits(const Cell& cell, std::size_t first, std::span<const unsigned short> hits) {
    for (std::size_t b = 0; b < hits.size(); ++b) {
      if (hits[b] != 0) cell.prefetch_rows(first + b);
    }
    for (std::size_t b = 0; b < hits.size(); ++b) {
      for (unsigned left = hits[b]; left != 0; left &= left - 1) {
        const Row row = cell.row((first + b) * kBlockRows + static_cast<std::size_t>(std::countr_zero(left)));
        if (row != kNoRow && !is_pending(row)) hit(row);
      }
    }
    // At once while the threshold rises fast; later they may wait for what was asked for to arrive.
    if (report.screened < kEarlyRows || memory.hits.size() >= kScoredTogether) score_hits();
  }

  static constexpr float kDone = -INFINITY;  // the bound of a cell that was visited, or is empty

  // Negated, so that a NaN is looked at.
  bool reaches(std::size_t j) const {
    return memory.bounds[j] != kDone && !(memory.bounds[j] + CodedQuery::kSlack < top.threshold());
  }

  // A cell's memory lies two dependent loads away.
  void prefetch_cells(std::size_t i) const {
    const auto cell = [this](std::size_t at) { return directory.cell(memory.order[at]); };
    if (i + 2 * kAhead < memory.order.size()) __builtin_prefetch(cell(i + 2 * kAhead));
    if (i + kAhead < memory.order.size()) cell(i + kAhead)->prefetch();
  }

  void visit_cell(std::size_t j) {
    visit(*directory.cell(j), directory.bounds(j).bias);
    memory.bounds[j] = kDone;
    ++report.visited;
    if (report.visited % kCellsPerCheck == 0) check_interrupt();
  }

  // Clusters that may hold the threshold's rows: the most promising, in order. (Sorting them all takes longer than
  // visiting some in vain.)
  void visit_promising(std::size_t most) {
    const std::size_t clusters = directory.num_centres();
    TopK<float> promising(std::min(most, clusters));
    for (std::size_t j = 0; j < clusters; ++j) {
      if (memory.promises[j] >= promising.threshold()) promising.push(memory.promises[j], static_cast<Row>(j));
    }
    memory.order.clear();
    for (const auto& [promise, j] : promising.take_sorted()) memory.order.push_back(j);
    visit_in_order();
    score_hits();
  }

  // Then all that promise to reach the threshold; then all that can. With `may_visit` unset it only says whether any
  // can.
  void visit_others(bool may_visit) {
    const std::size_t clusters = directory.num_centres();
    const float threshold = top.threshold();
    memory.order.resize(clusters);
    std::size_t size = 0;
    for (std::size_t j = 0; j < clusters; ++j) {
      memory.order[size] = static_cast<Row>(j);  // kept or written over: there are thousands, and most are not reached
      size += reaches(j) ? 1 : 0;
    }
    memory.order.resize(size);
    if (!may_visit && size > 0) {
      report.certified = false;
      return;
    }
    std::partition(memory.order.begin(), memory.order.end(), [&](Row j) { return memory.promises[j] >= threshold; });
    visit_in_order();
  }

  void visit_in_order() {
    for (std::size_t i = 0; i < memory.order.size(); ++i) {
      prefetch_cells(i);
      if (reaches(memory.order[i])) visit_cell(memory.order[i]);
    }
  }

  // Every cell, whatever its bound.
  void run_flat() {
    score_pending();
    for (std::size_t j = 0; j < directory.num_cells(); ++j) {
      visit(*directory.cell(j), directory.bounds(j).bias);
      if (j % kCellsPerCheck == 0) check_interrupt();
    }
    score_hits();
  }

  void begin(const float* dots) {
    score_pending();
    report.cells = directory.num_centres();
    const std::size_t room = Directory::padded(directory.num_cells());
    memory.bounds.resize(room);
    memory.promises.resize(room);
    directory.bound(dots, memory.coded.code.norm, memory.bounds.data(), memory.promises.data());
  }

  void run(std::size_t most) {
    memory.dots.resize(Directory::padded(directory.num_cells()));
    directory.multiply(query, 1, memory.dots.data());
    begin(memory.dots.data());
    visit_promising(most == kAllCells ? kPromising : most);
    visit_others(most == kAllCells);
    for (std::size_t j = directory.num_centres(); j < directory.num_cells(); ++j) {
      if (reaches(j)) visit(*directory.cell(j), directory.bounds(j).bias);
      if (j % kCellsPerCheck == 0) check_interrupt();
    }
    score_hits();
  }
};

// Several queries that look at clusters together, each of which decides for itself which. What it decides by lies in a
// lane of its own beside that of the others, so that deciding takes the instructions of one: one by one it took as long
// as screening, where no cluster can be skipped.
struct CellIndex::SearchTile {
  using Lanes = std::array<float, kTogether>;

  std::deque<Search> searches;
  const Directory& directory;
  alignas(kCacheLine) Lanes thresholds;  // +infinity where there is no query
  alignas(kCacheLine) Lanes reaches{}, lengths{}, errors{};
  alignas(kCacheLine) std::array<int, kTogether> corrections{};
  AlignedFloats bounds;  // kTogether of each cell

  SearchTile(const CellIndex& index, const float* queries, std::span<const Selection> selections, TopK<float>* tops)
      : directory(start(index, queries, selections, tops)) {
    const std::size_t room = Directory::padded(directory.num_cells());
    AlignedFloats dots(searches.size() * room);
    directory.multiply(queries, searches.size(), dots.data());
    thresholds.fill(INFINITY);
    bounds.assign(kTogether * directory.num_cells(), Search::kDone);
    for (std::size_t q = 0; q < searches.size(); ++q) {
      Search& search = searches[q];
      search.begin(dots.data() + q * room);
      search.visit_promising(kPromisingAlone);  // by itself, while its threshold rises
      thresholds[q] = search.top.threshold();
      const CodedQuery& coded = search.memory.coded;
      reaches[q] = coded.reach();
      lengths[q] = coded.code.length;
      errors[q] = coded.code.error + coded.rounding * coded.code.length;
      corrections[q] = coded.correction;
      for (std::size_t j = 0; j < directory.num_cells(); ++j) bounds[j * kTogether + q] = search.memory.bounds[j];
    }
  }

  const Directory& start(const CellIndex& index, const float* queries, std::span<const Selection> selections,
                         TopK<float>* tops) {
    for (std::size_t q = 0; q < selections.size(); ++q) {
      const float* const query = queries + q * index.items_.stride();
      if (q == 0) {
        searches.emplace_back(index, query, selections[q], tops[q]);
      } else {
        searches.emplace_back(searches.front(), query, selections[q], tops[q]);
      }
    }
    return searches.front().directory;
  }

  // Those whose threshold values[q] reaches, a bit each; a NaN does.
  unsigned reaching(const Lanes& values) const {
    unsigned mask = 0;
    for (std::size_t q = 0; q < kTogether; ++q)
      mask |= unsigned{!(values[q] + CodedQuery::kSlack < thresholds[q])} << q;
    return mask;
  }

  unsigned reaching_cell(std::size_t j) const {
    alignas(kCacheLine) Lanes values;
    std::copy_n(&bounds[j * kTogether], kTogether, values.begin());
    unsigned undone = 0;
    for (std::size_t q = 0; q < kTogether; ++q) undone |= unsigned{values[q] != Search::kDone} << q;
    return undone & reaching(values);
  }

  unsigned reaching_block(const Cell& cell, std::size_t b, float most_bias) const {
    alignas(kCacheLine) Lanes values;
    const float norm = cell.block_norm(b);
    for (std::size_t q = 0; q < kTogether; ++q) values[q] = norm * reaches[q] + most_bias;
    return reaching(values);
  }

  // CodedQuery::screening of all. REQUIRES: within a read of the cell.
  struct Limits {
    alignas(kCacheLine) std::array<int, kTogether> offsets;
    alignas(kCacheLine) Lanes limits;
  };
  Limits limits(const Cell& cell, std::size_t first) const {
    Limits all;
    const float length = cell.length(), error = cell.error(), norm = cell.block_norm(first);
    for (std::size_t q = 0; q < kTogether; ++q) {
      const float beyond = error * lengths[q] + (length + error) * errors[q];
      all.offsets[q] = static_cast<int>(beyond * (1 + 0x1p-20f)) + 1 - corrections[q];
      all.limits[q] = reaches[q] * norm < CodedQuery::kLargest ? thresholds[q] - CodedQuery::kSlack : -INFINITY;
    }
    return all;
  }

  void visit(std::size_t j) {
    unsigned mask = reaching_cell(j);
    if (mask == 0) return;
    const Cell& cell = *directory.cell(j);
    const float most_bias = directory.bounds(j).bias;
    const std::size_t blocks = cell.blocks();
    for (std::size_t first = 0, count = 0; first < blocks; first += count) {
      mask &= reaching_block(cell, first, most_bias);
      if (mask == 0) return;
      count = std::min(kScreenedBlocks, blocks - first);
      while (count > 1 && (mask & reaching_block(cell, first + count - 1, most_bias)) == 0) --count;
      screen(cell, first, count, mask);
    }
  }

  void screen(const Cell& cell, std::size_t first, std::size_t count, unsigned mask) {
    std::array<Screening, kTogether> screenings;
    std::array<std::size_t, kTogether> lanes;
    std::array<unsigned short, kTogether * kScreenedBlocks> hits;
    const std::uint32_t start = cell.lock().begin_read();
    const Limits all = limits(cell, first);
    std::size_t size = 0;
    for (; mask != 0; mask &= mask - 1) {
      const auto q = static_cast<std::size_t>(std::countr_zero(mask));
      const Search& search = searches[q];
      lanes[size] = q;
      const CodedQuery& coded = search.memory.coded;
      screenings[size++] = {coded.codes.data(), coded.code.scale, all.offsets[q], all.limits[q]};
    }
    unsigned any = active_kernels().screen_many(cell.block(first), count, directory.centres().stride, screenings.data(),
                                                size, hits.data());
    if (!cell.lock().unchanged(start)) {  // written while we looked: none of it counts
      std::fill_n(hits.begin(), size * count, static_cast<unsigned short>(0xFFFF));
      any = (1u << size) - 1;
    }
    for (; any != 0; any &= any - 1) {
      const auto i = static_cast<std::size_t>(std::countr_zero(any));
      Search& search = searches[lanes[i]];
      search.take_hits(cell, first, {hits.data() + i * count, count});
      thresholds[lanes[i]] = search.top.threshold();
    }
  }

  void run() {
    const std::size_t cells = directory.num_cells();
    for (std::size_t j = 0; j < cells; ++j) {
      if (j + 1 < cells) directory.cell(j + 1)->prefetch();
      visit(j);
      if (j % kCellsPerCheck == 0) check_interrupt();
    }
    for (Search& search : searches) search.score_hits();
  }
};

SearchReport CellIndex::scan(const float* query, const Selection& selection, TopK<float>& top) {
  follow_many();
  Search search(*this, query, selection, top);
  search.run_flat();
  return search.report;
}

SearchReport CellIndex::search(const float* query, const Selection& selection, std::size_t max_clusters,
                               TopK<float>& top) {
  follow_many();
  Search search(*this, query, selection, top);
  search.run(max_clusters);
  return search.report;
}

void CellIndex::search_many(const float* queries, std::span<const Selection> selections, TopK<float>* tops) {
  if (selections.empty()) return;
  follow_many();
  SearchTile(*this, queries, selections, tops).run();
}

}  // namespace recengine
