// Linking rows: insertion (Malkov and Yashunin 2018, Algorithm 1), and what a full list does with the links it drops.
#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "retrieval/graph.hpp"
#include "retrieval/graph_beam.hpp"
#include "retrieval/graph_hold.hpp"

namespace recengine {

// Minus the squared distance from a point.
class Graph::Nearness {
 public:
  Nearness(const Graph& graph, const Point& point)
      : graph_(graph), point_(point), dots_(graph.items_, point.x.data()), limit_(graph.limit()) {}

  void prefetch(Row row) const { dots_.prefetch(row); }

  void operator()(std::span<const Row> rows, float* out) const {
    const EmbeddingTable& items = graph_.items_;
    dots_(rows, out);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float square = items.rows.square_norm(rows[i]);
      const float bias = load_relaxed(&items.bias[rows[i]]);
      const float height = point_.lift - graph_.lift(square, limit_);
      // With dots_ = <x, q> + b: -(|x|^2 + |q|^2 - 2 <x, q> + (difference of biases)^2 + (difference of lifts)^2)
      const float apart = point_.bias - bias;
      out[i] = 2 * (out[i] - bias) - point_.square - square - apart * apart - height * height;
    }
  }

 private:
  const Graph& graph_;
  const Point& point_;
  const InnerProduct dots_;
  const float limit_;
};

void Graph::insert(Row row) {
  reserve(std::size_t{row} + 1);
  const Hold turn(nodes_[row].turn);
  link(row);
}

// REQUIRES: the caller has the row's turn.
void Graph::link(Row row) {
  Node& node = nodes_[row];
  Point point;
  load_point(row, point);
  float longest = longest_.load(std::memory_order_relaxed);
  // Relaxed: a figure; a failed exchange reloads it.
  while (longest < point.square && !longest_.compare_exchange_weak(longest, point.square, std::memory_order_relaxed)) {
  }
  point.lift = lift(point.square, limit());
  node.projections = project(row);
  const std::size_t level = level_of(row);
  if (level > 0 && !upper_[row].allocated()) {
    upper_[row].allocate(level * options_.m);
    upper_places_.fetch_add(level * options_.m, std::memory_order_relaxed);  // a figure
  }
  if (!node.linked.load(std::memory_order_relaxed)) {
    // Relaxed: whoever links to the row checks it under its own lock, see remove.
    node.linked.store(true, std::memory_order_relaxed);
    size_.fetch_add(1, std::memory_order_relaxed);
  }
  Row entry = kNoRow;
  // Acquire and release: the entry's lists exist for whoever finds it.
  if (entry_.compare_exchange_strong(entry, row, std::memory_order_acq_rel, std::memory_order_acquire)) entry = row;

  const std::size_t limit = nodes_.capacity();
  const std::size_t top = level_of(entry);
  const Nearness score(*this, point);
  std::vector<Row> starts{entry};
  for (std::size_t at = top; at > level; --at) {
    starts[0] = descend(score, [this, at](Row other) { return list(other, at); }, starts[0], limit);
  }
  std::vector<Candidate> candidates;
  std::vector<Row> met;
  std::vector<Row> old;
  std::vector<Row> chosen;
  for (std::size_t at = std::min(level, top) + 1; at-- > 0;) {
    {
      const GraphScratch scratch;
      const auto accept = [this, row](Row other) { return other != row && is_linked(other); };
      search_level(
          score, [this, at](Row other) { return list(other, at); }, accept, starts, options_.ef_construction, limit,
          scratch);
      met.clear();
      for (const Scored<float>& found : scratch->results) met.push_back(found.row);
    }
    if (!met.empty()) starts = met;
    const LinkList mine = list(row, at);
    old.clear();
    mine.for_each([&](Row other) {
      old.push_back(other);
      if (is_linked(other) && std::find(met.begin(), met.end(), other) == met.end()) met.push_back(other);
    });
    measure(point, met, candidates);
    select(candidates, options_.m, chosen, nullptr);
    {
      const Hold lock(node.lock);
      // What others appended since the list was read stays.
      met.clear();
      mine.for_each([&](Row other) {
        if (std::find(old.begin(), old.end(), other) == old.end()) met.push_back(other);
      });
      mine.assign(chosen);
      for (const Row other : met) {
        if (!mine.contains(other)) mine.append(other);
      }
    }
    for (const Row other : chosen) connect(at, other, row);
    // The new links stand; now the old ones go, both ways, but for neighbours that the row is still near to.
    for (const Row other : old) {
      if (std::find(chosen.begin(), chosen.end(), other) != chosen.end()) continue;
      if (forget(at, other, row)) {
        fill_up(at, other, old);
        if (at == 0) keep_reachable(other);
      } else {
        const Hold lock(node.lock);
        if (!mine.contains(other)) mine.append(other);
      }
    }
  }
  raise_entry(row);
  raise_seeds(row);
}

// Adds a link. A list that is full is chosen anew, and a link that it drops goes to the kept neighbour that is nearer
// to it; that one may be full in turn. Distances shrink on the way, so that it ends; equal rows need the bound.
void Graph::connect(std::size_t level, Row from, Row to) {
  constexpr std::size_t kMostSteps = 256;
  std::vector<std::pair<Row, Row>> pending{{from, to}};
  std::vector<Candidate> candidates;
  std::vector<Row> rows;
  std::vector<Row> chosen;
  std::vector<Dropped> dropped;
  Point point;
  for (std::size_t step = 0; step < pending.size() && step < kMostSteps; ++step) {
    const auto [a, b] = pending[step];
    const LinkList links = list(a, level);
    dropped.clear();
    if (a == b || links.contains(b)) continue;
    {
      const Hold lock(nodes_[a].lock);
      // Under the lock: remove marks the row first, then looks at the lists under their locks.
      if (!is_linked(b) || links.contains(b) || links.append(b)) continue;
      rows.clear();
      links.for_each([&](Row other) { rows.push_back(other); });
      rows.push_back(b);
      load_point(a, point);
      measure(point, rows, candidates);
      select(candidates, links.capacity(), chosen, &dropped);
      links.assign(chosen);
    }
    if (level > 0) continue;  // only level 0 must lead everywhere
    for (const Dropped& drop : dropped) {
      const Row cover = drop.cover != kNoRow ? drop.cover : nearest_unlinking(drop.row);
      if (cover != kNoRow) pending.emplace_back(cover, drop.row);
    }
  }
}

// A row has moved: the link to it goes if it is now the longest of its list. True if there is no link (any more).
bool Graph::forget(std::size_t level, Row from, Row gone) {
  if (!is_linked(from)) return true;
  const LinkList links = list(from, level);
  std::vector<Row> rows{gone};
  links.for_each([&](Row other) {
    if (other != gone) rows.push_back(other);
  });
  if (!links.contains(gone)) return true;
  Point point;
  load_point(from, point);
  std::vector<Candidate> candidates;
  measure(point, rows, candidates);
  const auto longer = [&](const Candidate& other) { return other.distance > candidates[0].distance; };
  if (std::any_of(candidates.begin(), candidates.end(), longer)) return false;
  const Hold lock(nodes_[from].lock);
  links.erase(gone);
  return true;
}

// A row has lost a link: what lay behind that takes its place, as where a row was removed (mend).
void Graph::fill_up(std::size_t level, Row row, std::span<const Row> behind) {
  if (!is_linked(row)) return;
  const LinkList links = list(row, level);
  std::vector<Row> rows;
  for (const Row other : behind) {
    if (other != row && is_linked(other)) rows.push_back(other);
  }
  Point point;
  load_point(row, point);
  std::vector<Candidate> candidates;
  std::vector<Row> chosen;
  const Hold lock(nodes_[row].lock);
  links.for_each([&](Row other) { rows.push_back(other); });
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  measure(point, rows, candidates);
  select(candidates, links.capacity(), chosen, nullptr);
  for (const Row other : chosen) {
    if (!links.contains(other) && !links.append(other)) return;
  }
}

// Of a row that lost a link on level 0: the nearest of its own neighbours, if none of them links to it, or kNoRow.
Row Graph::nearest_unlinking(Row row) const {
  std::vector<Row> neighbours;
  bool linked = !is_linked(row);
  links_[row].for_each([&](Row other) {
    if (linked || !is_linked(other)) return;
    neighbours.push_back(other);
    linked = links_[other].contains(row);
  });
  if (linked || neighbours.empty()) return kNoRow;
  Point point;
  load_point(row, point);
  std::vector<Candidate> candidates;
  measure(point, neighbours, candidates);
  const auto nearer = [](const Candidate& a, const Candidate& b) { return a.distance < b.distance; };
  return std::min_element(candidates.begin(), candidates.end(), nearer)->row;
}

void Graph::keep_reachable(Row row) {
  const Row nearest = nearest_unlinking(row);
  if (nearest != kNoRow) connect(0, nearest, row);
}

// The last resort: a link from the nearest row that is reached and has room, without any choice.
void Graph::attach(Row row, const std::vector<bool>& reached) {
  const Hold turn(nodes_[row].turn);
  const Row entry = entry_.load(std::memory_order_acquire);
  if (!is_linked(row) || entry == kNoRow) return;
  Point point;
  load_point(row, point);
  const auto take = [&](Row other) {
    if (other == row || !reached[other] || !is_linked(other)) return false;
    const Hold lock(nodes_[other].lock);
    return links_[other].contains(row) || links_[other].append(row);
  };
  std::vector<Scored<float>> near;
  {
    const GraphScratch scratch;
    const auto accept = [&](Row other) { return other != row && is_linked(other); };
    search_level(
        Nearness(*this, point), [this](Row other) { return links_[other]; }, accept, {&entry, 1},
        options_.ef_construction, reached.size(), scratch);
    near.assign(scratch->results.begin(), scratch->results.end());
  }
  std::sort(near.begin(), near.end());
  for (const Scored<float>& other : near) {
    if (take(other.row)) return;
  }
  for (std::size_t other = 0; other < reached.size(); ++other) {
    if (take(static_cast<Row>(other))) return;
  }
}

void Graph::raise_entry(Row row) {
  Row entry = entry_.load(std::memory_order_acquire);
  // Release: the row's lists are linked before searches start from it.
  while ((entry == kNoRow || level_of(row) > level_of(entry)) &&
         !entry_.compare_exchange_weak(entry, row, std::memory_order_acq_rel, std::memory_order_acquire)) {
  }
}

// Takes the place of the shortest seed, if that is shorter.
void Graph::raise_seeds(Row row) {
  const auto square = [this](Row of) { return of != kNoRow ? items_.rows.square_norm(of) : -1.0f; };
  const std::lock_guard lock(seeds_mutex_);
  std::size_t shortest = 0;
  float least = std::numeric_limits<float>::infinity();
  for (std::size_t s = 0; s < kSeeds; ++s) {
    // Relaxed: only changed under the mutex.
    const Row seed = seeds_[s].load(std::memory_order_relaxed);
    if (seed == row) return;
    if (square(seed) < least) {
      least = square(seed);
      shortest = s;
    }
  }
  if (square(row) > least) seeds_[shortest].store(row, std::memory_order_release);  // release: as the entry
}

}  // namespace recengine
