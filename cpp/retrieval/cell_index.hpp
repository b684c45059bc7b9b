// CellIndex: bounded cells over live rows. Exact top-k by inner product that skips what cannot reach the ranking.
//
// A query visits cells in order of promise, screens their 4-bit codes, scores what may enter the ranking from the live
// rows in fp32, and skips cells and blocks whose bound is below the k-th score. On a quiet table the result is the fp32
// ranking, bit for bit (certified), however far the rows have drifted since the cells were built.
//
// Invariants
//  1. Every live row is pending (marked in the table's DirtyRows, or being coded now) or lies in one lane of the
//  current
//     directory, coded as it is, inside its cell's bounds.
//  2. A published directory keeps its cells; codes change in place, bounds are only raised. What upkeep lowers, moves
//  or
//     re-sorts goes into a new directory, published as a whole.
//  3. A query takes the pending rows first, then the directory: a row that a learning call before it has written is
//     among the one or, by then, in the other.
//
// Thread safety: queries (pinned) and learners never wait. Whoever holds `lock_` codes pending rows: the upkeep, or a
// query or learner that finds it free. One upkeep at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "retrieval/directory.hpp"
#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"
#include "storage/dirty_rows.hpp"
#include "storage/embedding_table.hpp"
#include "storage/epoch.hpp"

namespace recengine {

inline constexpr std::size_t kCellsPerCheck = 256;  // between two looks at the interrupt

// What a search did.
struct SearchReport {
  std::size_t cells = 0;     // clusters there are
  std::size_t visited = 0;   // clusters whose blocks were looked at
  std::size_t screened = 0;  // rows whose codes were
  std::size_t scored = 0;    // rows scored in fp32
  std::size_t pending = 0;   // of which not coded yet
  bool certified = true;
};

class CellIndex {
 public:
  static constexpr std::size_t kAllCells = std::numeric_limits<std::size_t>::max();

  CellIndex(EpochDomain& domain, EmbeddingTable& items);
  ~CellIndex();
  CellIndex(const CellIndex&) = delete;
  CellIndex& operator=(const CellIndex&) = delete;

  // The best of the selection into `top`. With `max_clusters` no more clusters are visited than that, and the result is
  // certified only if no other could have changed it. REQUIRES: this thread is pinned.
  SearchReport search(const float* query, const Selection& selection, std::size_t max_clusters, TopK<float>& top);

  // The same for up to kTogether queries (stride floats each, one after another), which look at clusters together; the
  // same rankings, bit for bit. REQUIRES: this thread is pinned.
  static constexpr std::size_t kTogether = 16;
  void search_many(const float* queries, std::span<const Selection> selections, TopK<float>* tops);

  // The same by the codes of all rows, without bounds of clusters.
  SearchReport scan(const float* query, const Selection& selection, TopK<float>& top);

  // The same by cosine, of a query of unit length (cell_cosine.cpp).
  SearchReport scan_cosine(const float* query, const Selection& selection, TopK<float>& top);

  // Codes the pending rows, or about `most` of them, unless somebody else is at it.
  void follow(std::size_t most = kAllCells);
  // Called for each row that was coded, while it is still pending. REQUIRES: before the first row.
  void on_coded(std::function<void(Row)> coded) { on_coded_ = std::move(coded); }

  // Upkeep (cell_upkeep.cpp), in steps. True if there may be more to do.
  bool maintain(std::size_t threads, std::atomic<bool>& stop);

  // REQUIRES: this thread is pinned.
  std::size_t num_clusters() const { return directory()->num_centres(); }
  std::size_t memory_bytes() const;

 private:
  struct Search;
  struct SearchTile;
  struct Location {  // zero bytes: nowhere
    std::uint32_t cell_plus_one;
    std::uint32_t lane;
  };

  // Acquire: the directory and its cells are complete.
  const Directory* directory() const { return directory_.load(std::memory_order_acquire); }

  void follow_many();
  void take_pending(std::vector<Row>& rows) const;  // sorted
  // GUARDED_BY(lock_)
  void follow_locked(std::size_t most = kAllCells);
  void code(Directory& directory, Row row);
  void append(Row row);
  void append_to(Directory& directory, std::size_t cell, Row row);
  const float* copy_of(Row row);
  void coded(Directory& directory, std::size_t cell, const float* values, float norm, float bias);
  bool locates(std::span<Cell* const> cells, Row row) const;
  void publish(std::unique_ptr<Directory> fresh);

  // Upkeep
  static constexpr std::size_t kLooseRows = 1024;  // of a cell for newcomers
  struct Built;
  struct Worn;
  bool wants_training() const;
  double mean_spread() const;
  bool train(std::size_t threads, std::atomic<bool>& stop);
  bool refine(std::atomic<bool>& stop);
  std::optional<Worn> find_worn();
  void abandon();
  std::vector<Row> live_rows() const;
  Built build(std::shared_ptr<const Centres> centres, std::vector<std::vector<Row>> members,
              const std::vector<bool>& anew, std::vector<std::size_t> kept, std::size_t threads,
              std::atomic<bool>& stop) const;
  void install(Built built);

  EpochDomain& domain_;
  EmbeddingTable& items_;
  std::atomic<Directory*> directory_;
  std::function<void(Row)> on_coded_ = [](Row) {};
  std::mutex upkeep_mutex_;
  std::mutex lock_;
  Column<Location> locations_;       // GUARDED_BY(lock_), as what follows
  std::vector<std::uint32_t> worn_;  // rows rewritten in each cell since it was built
  AlignedFloats copy_;               // of the row that is being coded
  bool rebuilding_ = false;
  DirtyRows rewritten_;           // while rebuilding: rows coded meanwhile
  std::size_t trained_rows_ = 0;  // GUARDED_BY(upkeep_mutex_), as is
  double trained_spread_ = 0;     // of a row, when the clusters were trained, or had settled after that
  bool settled_ = false;          // nothing was left to refine since
};

}  // namespace recengine
