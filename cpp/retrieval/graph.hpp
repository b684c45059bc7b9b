// Graph: approximate retrieval by a hierarchical navigable small world (HNSW, Malkov and Yashunin 2018) over the live
// rows of a table. It stores links only; every distance is computed from the rows as they are, so that scores are never
// stale, and what drift costs is recall, until the rows that moved have been linked anew.
//
// Search ranks by <query, q_i> + b_i. Links that maximise the inner product would all point at the few longest rows;
// they are chosen by distance instead, between points (q_i, b_i, h_i) with h_i = sqrt(T^2 - min(|q_i|, T)^2), which
// turns the inner product into a distance for rows shorter than T (Neyshabur and Srebro 2015) and leaves longer ones
// as they are. T is a quarter of the longest row's length.
//
// Invariants
//  1. A row's level is a function of (seed, row): its lists keep their shape when the slot goes to another item.
//  2. Links on a level lead to rows of that level or above, never to the row itself, never twice to one row.
//  3. A link is replaced by a path: where a full list drops a link, the neighbour that made it redundant gets it,
//     unless it has it. What was reachable from the entry on level 0 stays so; what concurrent writers or a bound on
//     the work lose all the same, audit() finds and links anew.
//  4. A removed row is linked to by nobody who is linked to by it, and gets no new links. It keeps its own list, for
//     those that lead to it still: searches pass through, and the sweep (relink_drifted) replaces the link by what is
//     behind it. Such a link is harmless even when the slot has a new owner, which then is an ordinary row far away.
//
// Thread safety: search from any number of threads beside insert, remove, update and relink_drifted from others, all
// pinned in the table's epoch domain; no search waits for anything. Writers of one list take turns (a spin lock held
// for microseconds), as do writers of one row; whoever holds a list's lock takes no other.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "retrieval/graph_links.hpp"
#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"
#include "storage/aligned.hpp"
#include "storage/chunked.hpp"
#include "storage/embedding_table.hpp"

namespace recengine {

struct GraphOptions {
  std::size_t m = 16;                 // links a row chooses on each level; lists hold as many, on level 0 twice as many
  std::size_t ef_construction = 100;  // candidates among which it chooses
  std::uint64_t seed = 0;             // of the levels
};

// What audit() found before it mended anything.
struct GraphAudit {
  std::size_t linked = 0;       // live rows
  std::size_t links = 0;        // on level 0
  std::size_t missing = 0;      // live rows that were not linked
  std::size_t unreachable = 0;  // live rows that no path on level 0 led to
  std::size_t stale = 0;        // links to dead or removed rows
  std::size_t invalid = 0;      // links that break invariant 2
};

class Graph {
 public:
  static constexpr std::size_t kMaxM = 64;
  static constexpr std::size_t kMaxEf = 1 << 20;

  // Throws std::invalid_argument for options out of range. The table must outlive the graph.
  Graph(const EmbeddingTable& items, const GraphOptions& options);

  // Room for so many rows of the table; inserting reserves what it needs.
  void reserve(std::size_t rows);

  // Links a row, or links it anew. REQUIRES: it is live, its vector is stored.
  void insert(Row row);
  // Unlinks a row, if it is linked. The table may recycle the slot afterwards. Call it for dead rows: searches go on to
  // return a live one as long as they meet it. Between its death and this call a row gets no new links.
  void remove(Row row);
  // Links a row anew if it has moved, since it was linked, by more than a seventh of its length (as estimated, see
  // drift). True if it had. Rows that are not linked are left alone.
  bool update(Row row);

  // The k of `top`, from the best `ef` live rows that the search meets and the selection admits; REQUIRES: ef is at
  // least k, and at most kMaxEf. Rows that are not admitted are passed through: on a quiet table with every row
  // reachable, min(ef, admitted rows) come back, at the price of a search that grows as 1 / the admitted share. Not
  // promised: that they are the best (recall), nor the number while others write.
  // Returns how many rows it met.
  std::size_t search(const float* query, std::size_t ef, const Selection& selection, TopK<float>& top) const;

  // Inserts all live rows that are not linked, on so many threads. One thread: links are a function of rows and seed.
  void build(std::size_t threads);

  // Background work in bounded steps: looks at the next `rows` rows, goes round the table. Links rows anew that have
  // moved, and replaces links to removed ones. Returns how many rows it changed; once round without any: caught up.
  std::size_t relink_drifted(std::size_t rows);

  // Unlinks the rows that died without a word, while nobody could have told this graph. REQUIRES: none of their slots
  // has been recycled.
  void remove_dead();

  // Looks at all links; then links what is missing and what is unreachable. Exact if nobody writes meanwhile. Returns
  // early once `stop` is set, with what it has found.
  GraphAudit audit(const std::atomic<bool>& stop = kGoOn);

  bool contains(Row row) const { return is_linked(row); }                     // live, and linked
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }  // a figure
  std::size_t memory_bytes() const;

 private:
  static inline const std::atomic<bool> kGoOn{false};
  static constexpr std::size_t kProjections = 4;
  static constexpr std::size_t kSeeds = 32;
  static constexpr std::size_t kMaxLevel = 12;

  struct Node {
    std::atomic<bool> lock;    // of the row's lists
    std::atomic<bool> turn;    // of insert, remove and update of the row
    std::atomic<bool> linked;  // inserted, not removed
    // Where the row was when it was linked: its inner products with fixed random signs. GUARDED_BY(turn)
    std::array<float, kProjections> projections;
  };

  // A row beside which others are ranked.
  struct Candidate {
    float distance;
    Row row;
    float square;  // of the row's length
    float bias;
    float lift;  // h, see above
  };
  // A private copy of one row, to compute distances from.
  struct Point {
    AlignedFloats x;
    float square = 0;
    float bias = 0;
    float lift = 0;
  };
  // A link that a list dropped, and a row still linked that made it redundant (kNoRow: none, there was no room).
  struct Dropped {
    Row row;
    Row cover;
  };
  class Nearness;

  std::size_t level_of(Row row) const;
  LinkList list(Row row, std::size_t level) const {
    return level == 0 ? links_[row] : upper_[row].list(level, options_.m);
  }
  // May be linked to. Relaxed: only under a list's lock is it more than a hint, see connect and remove.
  bool is_linked(Row row) const {
    return row < nodes_.capacity() && nodes_[row].linked.load(std::memory_order_relaxed) && items_.is_live(row);
  }

  // graph_metric.cpp
  float lift(float square, float limit) const;
  float limit() const;
  void load_point(Row row, Point& point) const;
  void measure(const Point& point, std::span<const Row> rows, std::vector<Candidate>& candidates) const;
  void select(std::vector<Candidate>& candidates, std::size_t count, std::vector<Row>& chosen,
              std::vector<Dropped>* dropped) const;
  std::array<float, kProjections> project(Row row) const;
  bool has_drifted(Row row) const;

  // graph_build.cpp
  void link(Row row);
  void connect(std::size_t level, Row from, Row to);
  bool forget(std::size_t level, Row from, Row gone);
  void fill_up(std::size_t level, Row row, std::span<const Row> behind);
  Row nearest_unlinking(Row row) const;
  void keep_reachable(Row row);
  void attach(Row row, const std::vector<bool>& reached);
  void raise_entry(Row row);
  void raise_seeds(Row row);

  // graph_upkeep.cpp
  bool mend(Row row, std::size_t level);
  void relink(Row row);
  void replace_entry(Row gone);
  void spread(Row from, std::vector<bool>& reached) const;

  const EmbeddingTable& items_;
  const GraphOptions options_;
  const double level_scale_;
  AlignedFloats signs_;  // kProjections vectors of +-1

  std::mutex grow_mutex_;
  LinkTable links_;  // of level 0
  Column<UpperLinks> upper_;
  Column<Node> nodes_;  // grows last: its capacity vouches for the others
  std::atomic<Row> entry_{kNoRow};
  std::mutex seeds_mutex_;                      // of their writers
  std::array<std::atomic<Row>, kSeeds> seeds_;  // among the longest rows, where most answers are
  std::atomic<float> longest_{0};               // the square of the longest row's length, at most a sweep old
  std::atomic<std::size_t> size_{0};
  std::atomic<std::size_t> upper_places_{0};  // allocated for lists above level 0

  std::mutex sweep_mutex_;
  Row cursor_ = 0;           // GUARDED_BY(sweep_mutex_): where relink_drifted goes on
  float sweep_longest_ = 0;  // GUARDED_BY(sweep_mutex_)
};

}  // namespace recengine
