// The query side of CellIndex.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/relaxed.hpp"
#include "retrieval/cell_index.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr std::size_t kGroup = 16;           // blocks screened with one threshold
constexpr std::size_t kEarly = 1024;         // rows screened while the threshold still rises fast
constexpr std::size_t kPromising = 12;       // clusters visited by promise before the others are looked through
constexpr std::size_t kAhead = 2;            // cells between fetching and visiting one
constexpr std::size_t kCellsPerCheck = 256;  // between two looks at the interrupt

}  // namespace

// One query on its way through a directory. It takes the thread's scratch memory and gives it back at the end: a signal
// handler that asks for a ranking in the middle of another finds none, and makes its own.
struct CellIndex::Search {
  struct Scratch {
    AlignedFloats dots, bounds, promises;
    std::vector<signed char> codes;
    std::vector<Row> pending;
    std::vector<Row> order;  // cells
  };
  static Scratch& scratch() {
    thread_local Scratch memory;
    return memory;
  }

  const CellIndex& index;
  Scratch memory = std::move(scratch());
  const Directory& directory;
  const float* query;
  const Selection& selection;
  const Selection rest = selection.without_filter();
  TopK<float>& top;
  SearchReport report{};
  QueryCode code{};
  float slack = 0;  // times |x|: what rounding may add
  float bias_slack = 0;

  Search(const CellIndex& its_index, const float* its_query, const Selection& its_selection, TopK<float>& its_top)
      : index(its_index), directory(take_pending()), query(its_query), selection(its_selection), top(its_top) {
    const std::size_t n = index.items_.stride();
    memory.codes.resize(n);
    active_kernels().encode_query(query, n, memory.codes.data(), &code);
    // Of the fp32 score, n terms, and of the integer one, a few: n 2^-24 |q| |x| at most.
    slack = static_cast<float>(n + 32) * 0x1p-23f * code.norm;
    bias_slack = index.largest_bias_.load(std::memory_order_relaxed) * 0x1p-20f + 0x1p-90f;  // the latter: underflow
  }

  ~Search() { scratch() = std::move(memory); }
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // The rows that are pending, and only then the directory (invariant 3).
  const Directory& take_pending() {
    std::vector<Row>& pending = memory.pending;
    pending.clear();
    index.items_.dirty.for_each_pending([&pending](Row row) { pending.push_back(row); });
    std::sort(pending.begin(), pending.end());
    pending.erase(std::unique(pending.begin(), pending.end()), pending.end());
    return *index.directory();
  }

  void score(Row row) {
    const EmbeddingTable& items = index.items_;
    if (selection.filter != nullptr && !selection.filter->admits(row)) return;  // cheaper than the row
    ++report.scored;
    const float value = items.rows.dot(query, row) + load_relaxed(&items.bias[row]);
    if (value >= top.threshold() && rest.admits(row)) top.push(value, row);
  }

  void score_pending() {
    report.pending = memory.pending.size();
    for (const Row row : memory.pending) {
      if (index.items_.is_live(row)) score(row);
    }
  }

  bool is_pending(Row row) const {
    return !memory.pending.empty() && std::binary_search(memory.pending.begin(), memory.pending.end(), row);
  }

  void visit(const Cell& cell, float most_bias) {
    const std::size_t blocks = (cell.size() + kBlockRows - 1) / kBlockRows;
    const float reach = code.norm + 2.1f * slack;  // an error is at most about as long as its row
    for (std::size_t first = 0, count = 0; first < blocks; first += count) {
      // Small groups until the threshold has risen; of a cell, only what it leaves: rows behind are no longer than
      // these.
      const std::size_t most = std::min(report.screened < kEarly ? kGroup / 4 : kGroup, blocks - first);
      const float threshold = top.threshold();
      for (count = 0; count < most; ++count) {
        if (cell.block_norm(first + count) * reach + most_bias + bias_slack < threshold) break;  // not for a NaN
      }
      if (count == 0) return;
      visit_group(cell, first, count);
    }
  }

  void visit_group(const Cell& cell, std::size_t first, std::size_t count) {
    const std::uint32_t start = cell.lock().begin_read();
    std::array<float, kGroup> limits;
    std::array<unsigned short, kGroup> hits{};
    const float threshold = top.threshold();
    for (std::size_t b = 0; b < count; ++b) {
      const float norm = cell.block_norm(first + b), error = cell.block_error(first + b);
      const float length = norm + error;
      // What a row's score can have over its coded one.
      const float beyond = code.error * length + code.norm * error + slack * length + bias_slack;
      limits[b] = threshold - beyond;
    }
    report.screened += count * kBlockRows;
    active_kernels().screen(cell.block(first), count, index.items_.stride(), memory.codes.data(), code.correction,
                            code.scale, cell.scales(first), cell.biases(first), limits.data(), hits.data());
    // Written while we looked: none of it counts.
    if (!cell.lock().unchanged(start)) hits.fill(0xFFFF);
    std::array<Row, kGroup * kBlockRows> rows;
    std::size_t size = 0;
    for (std::size_t b = 0; b < count; ++b) {
      for (unsigned left = hits[b]; left != 0; left &= left - 1) {
        const Row row = cell.row((first + b) * kBlockRows + static_cast<std::size_t>(std::countr_zero(left)));
        if (row == kNoRow) continue;
        index.items_.rows.prefetch(row);
        rows[size++] = row;
      }
    }
    for (std::size_t i = 0; i < size; ++i) {
      if (index.items_.is_live(rows[i]) && !is_pending(rows[i])) score(rows[i]);
    }
  }

  static constexpr float kDone = -INFINITY;  // the bound of a cell that was visited, or is empty

  // Negated, so that a NaN is looked at.
  bool reaches(std::size_t j) const {
    return memory.bounds[j] != kDone && !(memory.bounds[j] + bias_slack < top.threshold());
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

  // Clusters that may hold the threshold's rows first: the most promising, in order; then all that promise to reach it;
  // then all that can. (Sorting them all takes longer than visiting some in vain.)
  void visit_clusters(std::size_t most) {
    const std::size_t clusters = directory.num_centres();
    TopK<float> promising(most == kAllCells ? kPromising : std::min(most, clusters));
    for (std::size_t j = 0; j < clusters; ++j) {
      if (memory.promises[j] >= promising.threshold()) promising.push(memory.promises[j], static_cast<Row>(j));
    }
    memory.order.clear();
    for (const auto& [promise, j] : promising.take_sorted()) memory.order.push_back(j);
    visit_in_order();
    const float threshold = top.threshold();
    memory.order.resize(clusters);
    std::size_t size = 0;
    for (std::size_t j = 0; j < clusters; ++j) {
      memory.order[size] = static_cast<Row>(j);  // kept or written over: there are thousands, and most are not reached
      size += reaches(j) ? 1 : 0;
    }
    memory.order.resize(size);
    if (most != kAllCells && size > 0) {
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
  }

  void run(std::size_t most) {
    score_pending();
    const std::size_t cells = directory.num_cells(), clusters = directory.num_centres();
    report.cells = clusters;
    const std::size_t room = Directory::padded(cells);
    memory.dots.resize(room);
    memory.bounds.resize(room);
    memory.promises.resize(room);
    directory.bound(query, code.norm, memory.dots.data(), memory.bounds.data(), memory.promises.data());
    visit_clusters(most);
    for (std::size_t j = clusters; j < cells; ++j) {
      if (reaches(j)) visit(*directory.cell(j), directory.bounds(j).bias);
      if (j % kCellsPerCheck == 0) check_interrupt();
    }
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

}  // namespace recengine
