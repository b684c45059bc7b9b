// The upkeep of CellIndex: it keeps queries fast, never right (they are that without it). Everything is built beside
// the directory that serves, from rows that may be learned meanwhile; those are coded again when it is installed.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kernels/relaxed.hpp"
#include "retrieval/cell_index.hpp"
#include "storage/parallel.hpp"

namespace recengine {

namespace {

constexpr std::size_t kMinRows = 4096;        // below, clusters cost more than they save
constexpr std::size_t kRowsPerCluster = 160;  // where the catalogue is small
constexpr double kClusterRoots = 4;           // and so many times the root of the rows where it is large
constexpr std::size_t kSamplePerCluster = 48;
constexpr std::size_t kMaxRefined = 32;   // worn clusters built anew in one step
constexpr std::size_t kMinLoose = 1024;   // newcomers that wait for their clusters
constexpr std::size_t kLooseShare = 256;  // or one row in so many
constexpr double kWornShare = 0.25;       // rewritten rows, of a cluster's
constexpr std::size_t kMinSplit = 64;     // rows of a cluster that may be split
constexpr std::size_t kUneven = 4;        // times the mean size: split; one in twice as many: merged
constexpr float kSpreading = 1.5f;        // clusters grown so much since training: train again

std::size_t clusters_for(std::size_t rows) {
  const auto by_root = static_cast<std::size_t>(kClusterRoots * std::sqrt(static_cast<double>(rows)));
  return std::max<std::size_t>(2, std::min(rows / kRowsPerCluster, by_root));
}

// Whether a cluster of this size is not worth its centre.
bool is_small(std::size_t size, std::size_t mean) { return size * 2 * kUneven < mean; }

// Private copies of rows as they are now.
AlignedFloats copies(const EmbeddingTable& items, std::span<const Row> rows) {
  AlignedFloats vectors(rows.size() * items.stride());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    items.rows.load(rows[i], vectors.data() + i * items.stride());
  }
  return vectors;
}

std::vector<std::uint32_t> assign(const EmbeddingTable& items, const Centres& centres, std::span<const Row> rows,
                                  std::size_t threads, std::atomic<bool>& stop) {
  std::vector<std::uint32_t> nearest(rows.size());
  std::atomic<std::size_t> next{0};
  run_parallel(threads, stop, [&](std::size_t) {
    for (std::size_t first; (first = next.fetch_add(kVectorsPerCheck, std::memory_order_relaxed)) < rows.size();) {
      if (stop.load(std::memory_order_relaxed)) return;
      const auto piece = rows.subspan(first, std::min(kVectorsPerCheck, rows.size() - first));
      const AlignedFloats vectors = copies(items, piece);
      nearest_centres(centres, vectors.data(), piece.size(), nearest.data() + first);
    }
  });
  return nearest;
}

}  // namespace

// A directory to be: its clusters, each built anew or kept from the one that serves.
struct CellIndex::Built {
  std::shared_ptr<const Centres> centres;
  std::vector<std::unique_ptr<Cell>> cells;
  std::vector<std::size_t> kept;  // where there is no new cell: the old one's place
  std::vector<CellBounds> bounds;
};

std::vector<Row> CellIndex::live_rows() const {
  std::vector<Row> rows;
  const Row count = items_.count();
  for (Row row = 0; row < count; ++row) {
    if (items_.is_live(row)) rows.push_back(row);
  }
  return rows;
}

// Clusters of these members, where `anew`; the others are kept.
CellIndex::Built CellIndex::build(std::shared_ptr<const Centres> centres, std::vector<std::vector<Row>> members,
                                  const std::vector<bool>& anew, std::vector<std::size_t> kept, std::size_t threads,
                                  std::atomic<bool>& stop) const {
  Built built{std::move(centres), {}, std::move(kept), {}};
  built.cells.resize(members.size());
  built.bounds.resize(members.size(), CellBounds{0, 0, -INFINITY, 0});
  const std::size_t n = items_.stride();
  std::atomic<std::size_t> next{0};
  run_parallel(threads, stop, [&](std::size_t) {
    std::vector<std::pair<float, Row>> order;
    AlignedFloats values(n);
    for (std::size_t j; (j = next.fetch_add(1, std::memory_order_relaxed)) < members.size();) {
      if (!anew[j]) continue;
      order.clear();
      for (const Row row : members[j]) {
        order.emplace_back(-items_.rows.square_norm(row), row);
      }
      std::sort(order.begin(), order.end());  // longest first: whole blocks fall below the threshold
      auto cell = std::make_unique<Cell>(order.size(), n);
      CellBounds& bounds = built.bounds[j];
      double squares = 0;
      for (const auto& [negated, row] : order) {
        const float bias = load_relaxed(&items_.bias[row]);
        items_.rows.load(row, values.data());
        const VectorCode code = cell->append(row, values.data(), bias);
        const float distance =
            safe_distance(values.data(), code.norm, built.centres->row(j), built.centres->norms[j], n);
        bounds.radius = std::max(bounds.radius, distance);
        bounds.norm = std::max(bounds.norm, safe_norm(code.norm, n));
        bounds.bias = std::max(bounds.bias, safe_bias(bias));
        squares += double{distance} * double{distance};
      }
      bounds.spread =
          static_cast<float>(std::sqrt(squares / static_cast<double>(std::max<std::size_t>(order.size(), 1))));
      built.cells[j] = std::move(cell);
    }
  });
  return built;
}

void CellIndex::install(Built built) {
  const std::lock_guard lock(lock_);
  follow_locked();
  const Directory& old = *directory_.load(std::memory_order_relaxed);  // only the holder of the lock changes it
  const std::size_t clusters = built.cells.size();
  std::vector<Cell*> cells(clusters);
  std::vector<bool> stays(old.num_cells(), false);
  for (std::size_t j = 0; j < clusters; ++j) {
    if (built.cells[j] == nullptr) stays[built.kept[j]] = true;
    cells[j] = built.cells[j] != nullptr ? built.cells[j].get() : old.cell(built.kept[j]);
    if (j < old.num_cells() && old.cell(j) == cells[j]) continue;  // its rows are where they were
    for (std::size_t lane = 0; lane < cells[j]->size(); ++lane) {
      locations_[cells[j]->row(lane)] = {static_cast<std::uint32_t>(j + 1), static_cast<std::uint32_t>(lane)};
    }
  }
  // Rows that came since we began stay loose; dead ones are nowhere.
  std::vector<Row> loose;
  for (std::size_t j = 0; j < old.num_cells(); ++j) {
    for (std::size_t lane = 0; !stays[j] && lane < old.cell(j)->size(); ++lane) {
      const Row row = old.cell(j)->row(lane);
      if (locates(cells, row)) continue;
      locations_[row] = {0, 0};
      if (items_.is_live(row)) loose.push_back(row);
    }
  }
  const std::size_t loose_cells = (loose.size() + kLooseRows - 1) / kLooseRows;
  auto fresh = std::make_unique<Directory>(built.centres, clusters + loose_cells);
  std::vector<std::uint32_t> worn(clusters + loose_cells, 0);
  for (std::size_t j = 0; j < clusters; ++j) {
    if (built.cells[j] == nullptr) worn[j] = worn_[built.kept[j]];
    fresh->set_cell(j, cells[j], built.cells[j] == nullptr ? old.bounds(built.kept[j]) : built.bounds[j]);
    static_cast<void>(built.cells[j].release());
  }
  for (std::size_t j = clusters; j < clusters + loose_cells; ++j) {
    fresh->set_cell(j, new Cell(kLooseRows, items_.stride()), {0, 0, -INFINITY, 0});
  }
  worn_ = std::move(worn);
  for (std::size_t i = 0; i < loose.size(); ++i) append_to(*fresh, clusters + i / kLooseRows, loose[i]);
  // Rows written since they were coded anew.
  rebuilding_ = false;
  rewritten_.take([&](Row row) {
    if (locates(fresh->cells(), row)) code(*fresh, row);
  });
  publish(std::move(fresh));
}

bool CellIndex::wants_training() const {
  const auto pin = domain_.pin_reader();
  const std::size_t rows = items_.size();
  if (rows < kMinRows) return false;
  if (directory()->num_centres() == 0 || rows >= 2 * trained_rows_ || 4 * rows <= trained_rows_) return true;
  // Not before clusters have settled: merging some that were too small is no growth, and would be undone and repeated.
  return settled_ && mean_spread() > double{kSpreading} * trained_spread_;
}

// Of a row, from its cluster's centre. REQUIRES: this thread is pinned.
double CellIndex::mean_spread() const {
  const Directory& now = *directory();
  double spread = 0, rows = 0;
  for (std::size_t j = 0; j < now.num_centres(); ++j) {
    const auto size = static_cast<double>(now.cell(j)->size());
    spread += size * double{now.bounds(j).spread};
    rows += size;
  }
  return spread / std::max(rows, 1.0);
}

bool CellIndex::train(std::size_t threads, std::atomic<bool>& stop) {
  {
    const std::lock_guard lock(lock_);
    follow_locked();
    rebuilding_ = true;
  }
  const std::vector<Row> rows = live_rows();
  const std::size_t clusters = clusters_for(rows.size());
  const std::size_t sampled = std::min(rows.size(), kSamplePerCluster * clusters);
  std::vector<Row> sample(sampled);
  for (std::size_t i = 0; i < sampled; ++i) sample[i] = rows[i * rows.size() / sampled];
  auto centres = std::make_shared<const Centres>(
      k_means(copies(items_, sample), items_.stride(), clusters, rows.size(), threads, stop));
  const std::vector<std::uint32_t> nearest = assign(items_, *centres, rows, threads, stop);
  std::vector<std::vector<Row>> members(centres->size());
  for (std::size_t i = 0; i < rows.size(); ++i) members[nearest[i]].push_back(rows[i]);
  if (stop.load(std::memory_order_relaxed)) {
    abandon();
    return false;
  }
  const std::vector<bool> anew(members.size(), true);
  Built built =
      build(std::move(centres), std::move(members), anew, std::vector<std::size_t>(anew.size()), threads, stop);
  settled_ = false;
  trained_rows_ = rows.size();
  install(std::move(built));
  return true;
}

void CellIndex::abandon() {
  const std::lock_guard lock(lock_);
  rebuilding_ = false;
  rewritten_.take([](Row) {});
}

// What a step of refinement takes apart: newcomers, and the rows of clusters that were rewritten or are too small.
struct CellIndex::Worn {
  std::vector<std::size_t> clusters;  // ascending
  std::vector<Row> rows;
  std::size_t mean = 1;  // rows of a cluster
};

std::optional<CellIndex::Worn> CellIndex::find_worn() {
  const std::lock_guard lock(lock_);
  follow_locked();
  const Directory& now = *directory_.load(std::memory_order_relaxed);
  Worn worn;
  worn.mean = std::max<std::size_t>(1, items_.size() / now.num_centres());
  std::size_t loose = 0;
  for (std::size_t j = now.num_centres(); j < now.num_cells(); ++j) loose += now.cell(j)->size();
  std::vector<std::pair<double, std::size_t>> candidates;
  for (std::size_t j = 0; j < now.num_centres(); ++j) {
    const std::size_t size = now.cell(j)->size();
    const bool small = is_small(size, worn.mean);
    const double share = static_cast<double>(worn_[j]) / static_cast<double>(size + 1);
    if (small || share > kWornShare) candidates.emplace_back(small ? -INFINITY : -share, j);
  }
  if (loose < std::max(kMinLoose, items_.size() / kLooseShare)) loose = 0;
  if (candidates.empty() && loose == 0) return std::nullopt;
  std::sort(candidates.begin(), candidates.end());
  candidates.resize(std::min(candidates.size(), std::min(kMaxRefined, now.num_centres() - 1)));
  for (const auto& [order, j] : candidates) worn.clusters.push_back(j);
  std::sort(worn.clusters.begin(), worn.clusters.end());
  const auto take = [&](std::size_t j) {
    for (std::size_t lane = 0; lane < now.cell(j)->size(); ++lane) {
      if (items_.is_live(now.cell(j)->row(lane))) worn.rows.push_back(now.cell(j)->row(lane));
    }
  };
  for (const std::size_t j : worn.clusters) take(j);
  if (loose > 0) {
    for (std::size_t j = now.num_centres(); j < now.num_cells(); ++j) take(j);
  }
  rebuilding_ = true;
  return worn;
}

// One step: some worn clusters, and all newcomers, go where they belong now. Clusters that have grown uneven are split
// or merged on the way.
bool CellIndex::refine(std::atomic<bool>& stop) {
  const auto pin = domain_.pin_reader();  // newcomers may replace the directory meanwhile
  if (num_clusters() < 2) return false;
  const std::optional<Worn> worn = find_worn();
  if (!worn) return false;
  const Directory& now = *directory();  // nobody else replaces clusters
  const std::size_t stride = items_.stride();
  // A cluster too small to be worth its centre is merged into its neighbours: its centre goes.
  auto centres = std::make_shared<Centres>(Centres{stride, {}, {}});
  std::vector<std::size_t> kept;
  std::vector<bool> anew;
  for (std::size_t j = 0; j < now.num_centres(); ++j) {
    const bool is_worn = std::binary_search(worn->clusters.begin(), worn->clusters.end(), j);
    if (is_worn && is_small(now.cell(j)->size(), worn->mean)) continue;
    centres->push(now.centres().row(j));
    kept.push_back(j);
    anew.push_back(is_worn);
  }
  const std::vector<std::uint32_t> nearest = assign(items_, *centres, worn->rows, 1, stop);
  if (stop.load(std::memory_order_relaxed)) {
    abandon();
    return false;
  }
  std::vector<std::vector<Row>> members(centres->size());
  std::vector<bool> touched = anew;
  for (std::size_t i = 0; i < worn->rows.size(); ++i) {
    members[nearest[i]].push_back(worn->rows[i]);
    touched[nearest[i]] = true;
  }
  for (std::size_t j = 0; j < kept.size(); ++j) {
    if (!touched[j] || anew[j]) continue;  // of a cluster that only gets rows, its own come too
    const Cell& cell = *now.cell(kept[j]);
    for (std::size_t lane = 0; lane < cell.size(); ++lane) {
      if (items_.is_live(cell.row(lane))) members[j].push_back(cell.row(lane));
    }
  }
  for (std::size_t j = 0; j < kept.size(); ++j) {
    if (members[j].size() < std::max(kMinSplit, kUneven * worn->mean)) continue;
    const AlignedFloats vectors = copies(items_, members[j]);
    const Centres halves = k_means(vectors, stride, 2, members[j].size(), 1, stop);
    std::vector<std::uint32_t> half(members[j].size());
    nearest_centres(halves, vectors.data(), half.size(), half.data());
    // Around a few rows far from all others there is no half to be had: it would be merged again, and so on.
    const auto first = static_cast<std::size_t>(std::count(half.begin(), half.end(), 0u));
    if (is_small(std::min(first, half.size() - first), worn->mean)) continue;
    const std::vector<Row> whole = std::exchange(members[j], {});
    centres->replace(j, halves.row(0));
    centres->push(halves.row(1));
    members.emplace_back();
    touched.push_back(true);
    for (std::size_t i = 0; i < whole.size(); ++i) (half[i] == 0 ? members[j] : members.back()).push_back(whole[i]);
  }
  kept.resize(members.size());
  install(build(std::move(centres), std::move(members), touched, kept, 1, stop));
  return true;
}

bool CellIndex::maintain(std::size_t threads, std::atomic<bool>& stop) {
  const std::lock_guard one(upkeep_mutex_);
  follow();
  if (stop.load(std::memory_order_relaxed)) return false;
  if (wants_training()) return train(threads, stop);
  if (refine(stop)) return true;
  if (!settled_ && !stop.load(std::memory_order_relaxed)) {
    const auto pin = domain_.pin_reader();
    trained_spread_ = mean_spread();
    settled_ = true;
  }
  return false;
}

}  // namespace recengine
