// Retriever: one entrance to the ways of finding the best items, and the planner that chooses between them.
//
//   rows    every row, in fp32. Certified.
//   flat    every row: as `rows` where they are few, else by 4-bit codes and then in fp32; where they are learned
//   faster
//           than they can be coded, by codes that lag behind (lagging_codes.hpp). Certified.
//   gather  only the rows that a filter or a list of candidates leaves. Certified.
//   cells   bounded cells (cell_index.hpp). Certified, unless their number is capped.
//   graph   a navigable graph (graph.hpp). Not certified, unless it found less than was asked for, which is then
//   searched
//           by cells; built when it is first asked for.
//   popular no inner products: the popularity ranking, of users of whom nothing is known. Nobody can ask for it.
// `auto` takes the certified way that costs least by what earlier queries took.
//
// Thread safety: every method from any thread; `search` under a pin.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "retrieval/cell_index.hpp"
#include "retrieval/graph.hpp"
#include "retrieval/lagging_codes.hpp"
#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"
#include "storage/process.hpp"

namespace recengine {

enum class Way : std::uint8_t { kAuto, kRows, kFlat, kGather, kCells, kGraph, kPopular };
const char* name_of(Way way);

struct RetrievalOptions {
  Way way = Way::kAuto;
  std::size_t most = CellIndex::kAllCells;  // cells: clusters visited; graph: candidates kept (ef)
  std::size_t threads = 1;                  // that build a graph
};

struct RetrievalReport {
  Way way = Way::kFlat;
  SearchReport search;
};

class Retriever {
 public:
  Retriever(EpochDomain& domain, EmbeddingTable& items);

  // The best of the selection, or of `among`, into `top`.
  RetrievalReport search(const float* query, const Selection& selection, const std::vector<Row>* among,
                         const RetrievalOptions& options, TopK<float>& top);

  // The same by cosine, of a query of unit length. Certified, whatever the options ask for: by codes, or, as `rows` or
  // where it costs less, in fp32.
  RetrievalReport search_cosine(const float* query, const Selection& selection, const std::vector<Row>* among,
                                const RetrievalOptions& options, TopK<float>& top);

  // The same for up to kBatch queries (stride floats each, one after another) where `choose` says cells
  // or flat, certified; each ranking is bit for bit that of `search`. REQUIRES: the selections have the same filter.
  void search_many(Way way, const float* queries, std::span<const Selection> selections, TopK<float>* tops);

  // The way a query would go. REQUIRES: this thread is pinned.
  Way choose(const Selection& selection, const std::vector<Row>* among, const RetrievalOptions& options) const;

  // Whether more rows await their codes than it pays to code.
  bool is_restless() const;

  // While rows are not to be trusted: every query scans them in fp32, and nothing is derived from them.
  void hold() { held_.store(true, std::memory_order_relaxed); }
  // Release: whoever finds it released sees what was checked, and marked, before.
  void release() { held_.store(false, std::memory_order_release); }
  bool held() const { return held_.load(std::memory_order_acquire); }

  // Codes the rows that were written.
  void follow() {
    if (!held()) cells_.follow();
  }
  // Upkeep in steps. True if there may be more to do.
  bool maintain(std::size_t threads, std::atomic<bool>& stop);
  // The slots are about to be recycled. REQUIRES: writers are paused.
  void forget(std::span<const Row> rows);

  std::size_t num_clusters() const { return cells_.num_clusters(); }
  std::size_t memory_bytes() const;
  // Mean recall of the answers that were not certified, of those that were sampled; NaN if none was.
  double sampled_recall() const;
  std::uint64_t samples() const { return samples_.load(std::memory_order_relaxed); }

 private:
  // How a query with a filter would go by cells: how long it should take, and how much longer such queries took lately.
  struct FilteredCost {
    float matching;  // rows
    float expected;  // ns
    std::atomic<float>& slowness;
  };
  std::atomic<float>& slowness_of(const Filter& filter) const;
  FilteredCost cost_by_cells(const Filter& filter) const;
  void search_cells(const float* query, const Selection& selection, std::size_t most, TopK<float>& top,
                    SearchReport& report);
  bool is_timed(const Selection& selection);
  void search_cells_timed(const float* query, const Selection& selection, TopK<float>& top, SearchReport& report);
  void search_restless(const float* query, const Selection& selection, TopK<float>& top, SearchReport& report);
  void rest_lagging();
  bool is_learned_fast();
  Graph& graph(std::size_t threads);
  void take_graph_marks(Graph& links, std::size_t most);  // GUARDED_BY(graph_mutex_)
  bool maintain_graph(std::atomic<bool>& stop);
  void search_graph(const float* query, const Selection& selection, const RetrievalOptions& options, TopK<float>& top,
                    SearchReport& report);
  void sample_recall(const float* query, const Selection& selection, const TopK<float>& found);

  EpochDomain& domain_;
  EmbeddingTable& items_;
  std::atomic<bool> held_{false};
  CellIndex cells_;
  LaggingCodes lagging_;
  const std::uint64_t process_ = fork_generation();
  std::mutex graph_mutex_;  // building, and taking of the marks
  std::unique_ptr<Graph> graph_storage_;
  std::atomic<Graph*> graph_{nullptr};
  std::atomic<bool> graph_wanted_{false};  // set before the graph is built
  // Rows coded since they were linked; and those that are not linked at all.
  DirtyRows graph_moved_, graph_new_;
  // GUARDED_BY(graph_mutex_): rows the sweep looked at since it last found something to do, and audits since then.
  std::size_t graph_calm_ = 0;
  int graph_audits_ = 0;
  // Figures; relaxed accesses, they order nothing.
  mutable std::atomic<std::uint64_t> queries_{0};
  std::atomic<std::uint64_t> idle_{0};         // queries since the lagging codes were used
  std::atomic<std::int64_t> paced_ns_{0};      // when the steps of learning were last counted,
  std::atomic<std::uint64_t> paced_steps_{0};  // and how many there were
  std::atomic<bool> fast_{false};
  std::atomic<float> cells_ns_{0};  // a query by cells without a filter, lately; 0: none yet
  // What became of a filter's queries by cells: they take 1 + slowness of the time that is expected. Those of a filter
  // that goes against the scores are slow, of one that goes with them fast. Of one that was not tried a quarter is
  // hoped for. Two filters in one place forget each other.
  static constexpr std::size_t kRemembered = 1024;
  static constexpr float kUntried = -0.75f;
  struct Experience {
    std::atomic<std::uint64_t> filter{0};  // its identity
    std::atomic<float> slowness{kUntried};
  };
  mutable std::array<Experience, kRemembered> experience_;
  std::atomic<std::uint64_t> uncertified_{0}, samples_{0};
  std::atomic<double> recalls_{0};
};

}  // namespace recengine
