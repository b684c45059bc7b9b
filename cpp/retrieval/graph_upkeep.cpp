// Removal, relinking of what has moved, and the audit.
#include <algorithm>

#include "kernels/kernels.hpp"
#include "retrieval/graph.hpp"
#include "retrieval/graph_beam.hpp"
#include "retrieval/graph_hold.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

void Graph::remove(Row row) {
  if (row >= nodes_.capacity()) return;
  Node& node = nodes_[row];
  const Hold turn(node.turn);
  if (!node.linked.load(std::memory_order_relaxed)) return;
  // Before the locks below are taken: who adds a link looks at it under the same lock. seq_cst: see replace_entry.
  node.linked.store(false, std::memory_order_seq_cst);
  size_.fetch_sub(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(seeds_mutex_);
    for (std::atomic<Row>& seed : seeds_) {
      if (seed.load(std::memory_order_relaxed) == row) seed.store(kNoRow, std::memory_order_relaxed);
    }
  }
  replace_entry(row);
  for (std::size_t level = level_of(row) + 1; level-- > 0;) {
    std::vector<Row> neighbours;
    list(row, level).for_each([&](Row other) { neighbours.push_back(other); });
    for (const Row other : neighbours) {
      if (list(other, level).contains(row)) mend(other, level);
    }
    if (level > 0) continue;
    for (const Row other : neighbours) keep_reachable(other);
  }
}

void Graph::remove_dead() {
  const auto count = static_cast<Row>(std::min<std::size_t>(items_.count(), nodes_.capacity()));
  for (Row row = 0; row < count; ++row) {
    if (nodes_[row].linked.load(std::memory_order_relaxed) && !items_.is_live(row)) remove(row);
  }
}

// Links to removed rows are replaced by what those link to (after Singh et al. 2021, FreshDiskANN, Algorithm 4; links
// that stand are kept, whatever the heuristic thinks of them now). True if there were any.
bool Graph::mend(Row row, std::size_t level) {
  const LinkList links = list(row, level);
  bool stale = false;
  links.for_each([&](Row other) { stale |= !is_linked(other); });
  if (!stale) return false;
  std::vector<Row> standing;
  std::vector<Row> rows;
  Point point;
  load_point(row, point);
  const Hold lock(nodes_[row].lock);
  links.for_each([&](Row other) {
    if (is_linked(other)) {
      standing.push_back(other);
      return;
    }
    list(other, level).for_each([&](Row behind) {
      if (behind != row && is_linked(behind)) rows.push_back(behind);
    });
  });
  rows.insert(rows.end(), standing.begin(), standing.end());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  std::vector<Candidate> candidates;
  std::vector<Row> chosen;
  measure(point, rows, candidates);
  select(candidates, links.capacity(), chosen, nullptr);
  links.assign(standing);
  for (const Row other : chosen) {
    if (!links.contains(other)) links.append(other);
  }
  return true;
}

// If `gone` is the entry, the row of the highest level that is left takes its place. That one may be removed meanwhile:
// either its remover finds it to be the entry, or we find it unlinked (Dekker's pattern, in the order of the seq_cst
// operations: mark, then read what the other marks).
void Graph::replace_entry(Row gone) {
  Row entry = entry_.load(std::memory_order_seq_cst);
  while (entry == gone) {
    Row highest = kNoRow;
    const auto rows = static_cast<Row>(std::min<std::size_t>(items_.count(), nodes_.capacity()));
    for (Row row = 0; row < rows; ++row) {
      if (is_linked(row) && (highest == kNoRow || level_of(row) > level_of(highest))) highest = row;
    }
    if (!entry_.compare_exchange_strong(entry, highest, std::memory_order_seq_cst)) continue;
    if (highest == kNoRow || nodes_[highest].linked.load(std::memory_order_seq_cst)) return;
    entry = gone = highest;
  }
}

bool Graph::update(Row row) {
  if (row >= nodes_.capacity()) return false;
  const Hold turn(nodes_[row].turn);
  if (!is_linked(row) || !has_drifted(row)) return false;
  link(row);
  return true;
}

std::size_t Graph::relink_drifted(std::size_t rows) {
  const std::lock_guard lock(sweep_mutex_);
  std::size_t changed = 0;
  const auto count = static_cast<Row>(std::min<std::size_t>(items_.count(), nodes_.capacity()));
  for (std::size_t looked = 0; looked < std::min<std::size_t>(rows, count); ++looked) {
    if (cursor_ >= count) {
      // Once round: the longest row may have become shorter.
      longest_.store(sweep_longest_, std::memory_order_relaxed);
      sweep_longest_ = 0;
      cursor_ = 0;
    }
    const Row row = cursor_++;
    if (!is_linked(row)) continue;
    sweep_longest_ = std::max(sweep_longest_, items_.rows.square_norm(row));
    raise_seeds(row);  // the places of those that were removed, or have become short
    bool moved = update(row);
    for (std::size_t level = level_of(row) + 1; level-- > 0;) moved |= mend(row, level);
    changed += moved ? 1 : 0;
  }
  return changed;
}

// Marks what can be reached on level 0 from a row, that row included.
void Graph::spread(Row from, std::vector<bool>& reached) const {
  std::vector<Row> pending{from};
  reached[from] = true;
  while (!pending.empty()) {
    const Row row = pending.back();
    pending.pop_back();
    links_[row].for_each([&](Row other) {
      if (other >= reached.size() || reached[other]) return;
      reached[other] = true;
      pending.push_back(other);
    });
  }
}

GraphAudit Graph::audit(const std::atomic<bool>& stop) {
  GraphAudit found;
  const auto count = static_cast<Row>(std::min<std::size_t>(items_.count(), nodes_.capacity()));
  const auto go_on = [&stop](Row row) {
    if (row % kRowsPerCheck == 0) check_interrupt();
    return !stop.load(std::memory_order_relaxed);  // a flag, it publishes nothing
  };
  for (Row row = 0; row < count && go_on(row); ++row) {
    if (!is_linked(row)) continue;
    ++found.linked;
    for (std::size_t level = level_of(row) + 1; level-- > 0;) {
      std::vector<Row> seen;
      list(row, level).for_each([&](Row other) {
        if (other >= count || other == row || level_of(other) < level ||
            std::find(seen.begin(), seen.end(), other) != seen.end()) {
          ++found.invalid;
        } else if (!is_linked(other)) {
          ++found.stale;
        }
        seen.push_back(other);
      });
      if (level == 0) found.links += seen.size();
    }
  }
  const Row rows = items_.count();
  for (Row row = 0; row < rows && go_on(row); ++row) {
    if (!items_.is_live(row) || is_linked(row)) continue;
    ++found.missing;
    insert(row);
  }
  // Linking rows anew may cost others their last link: the next round sees them.
  constexpr int kRounds = 4;
  for (int round = 0; round < kRounds; ++round) {
    const Row entry = entry_.load(std::memory_order_acquire);
    if (entry == kNoRow) break;
    std::vector<bool> reached(nodes_.capacity());
    spread(entry, reached);
    std::size_t left = 0;
    for (Row row = 0; row < rows && go_on(row); ++row) {
      if (!is_linked(row) || row >= reached.size() || reached[row]) continue;
      ++left;
      relink(row);
      attach(row, reached);
      spread(row, reached);
    }
    if (round == 0) found.unreachable = left;
    if (left == 0) break;
  }
  return found;
}

void Graph::relink(Row row) {
  const Hold turn(nodes_[row].turn);
  if (is_linked(row)) link(row);
}

}  // namespace recengine
