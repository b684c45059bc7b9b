#include "retrieval/retriever.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <stdexcept>

#include "kernels/relaxed.hpp"
#include "retrieval/flat.hpp"

namespace recengine {

namespace {

constexpr std::size_t kSmall = 2048;         // rows: below, a scan in fp32 is as fast as anything
constexpr std::uint64_t kTimed = 16;         // one query by cells in so many is timed
constexpr std::uint64_t kTimedFiltered = 4;  // the same of those with a filter, each of which has a time of its own
constexpr float kBelief = 0.98f;             // of a filter's slowness, after another query that avoided it
constexpr float kFastest = -0.98f;           // slowness, of cells that hold all that a filter leaves
constexpr std::uint64_t kSampled = 64;       // one uncertified answer in so many is compared with the exact one
constexpr float kGatherNs = 20;              // a row that is scored by itself
constexpr float kScanNs = 4;                 // a row of a scan in fp32
constexpr float kCodedNs = 1;                // a row whose code is scanned
constexpr float kCodeNs = 150;               // a row that is coded
constexpr float kDefaultCellsNs = 50'000;    // a query by cells, before one was timed
constexpr float kFastSteps = 1;              // rows learned in a us: coding them would take a sixth of a core
constexpr std::int64_t kPaceNs = 50'000;     // between two looks at how many were
constexpr std::uint64_t kIdle = 4096;        // queries without lagging codes until learners need not support them
constexpr std::size_t kPendingLinks = 4096;  // moved rows that a query by graph scores beside it
constexpr std::size_t kRelinkedRows = 1024;  // of each kind, looked at in one step of the upkeep

}  // namespace

const char* name_of(Way way) {
  switch (way) {
    case Way::kAuto:
      return "auto";
    case Way::kRows:
      return "rows";
    case Way::kFlat:
      return "flat";
    case Way::kGather:
      return "gather";
    case Way::kCells:
      return "cells";
    case Way::kGraph:
      return "graph";
    case Way::kPopular:
      return "popular";
  }
  return "unknown";
}

Retriever::Retriever(EpochDomain& domain, EmbeddingTable& items)
    : domain_(domain), items_(items), cells_(domain, items), lagging_(domain, items) {
  items.attach(
      [this](std::size_t rows) {
        graph_moved_.reserve(rows);
        graph_new_.reserve(rows);
      },
      [](Row) {});
  cells_.on_coded([this](Row row) {
    if (!graph_wanted_.load()) return;  // seq_cst, see graph()
    // Acquire: the graph is complete.
    const Graph* const links = graph_.load(std::memory_order_acquire);
    (links != nullptr && links->contains(row) ? graph_moved_ : graph_new_).mark(row);
  });
}

Way Retriever::choose(const Selection& selection, const std::vector<Row>* among,
                      const RetrievalOptions& options) const {
  if (among != nullptr) return Way::kGather;
  if (held()) [[unlikely]]
    return Way::kRows;
  if (options.way != Way::kAuto) return options.way;
  if (items_.count() < kSmall || is_restless()) return Way::kFlat;
  if (selection.filter == nullptr) return Way::kCells;
  const FilteredCost cost = cost_by_cells(*selection.filter);
  const float by_cells = cost.expected * (1 + cost.slowness.load(std::memory_order_relaxed));
  return cost.matching * kGatherNs < by_cells ? Way::kGather : Way::kCells;
}

// A filter lowers the threshold, so that bounds prune less: time grows about as the root of what it leaves; and by more
// where what it leaves scores low.
Retriever::FilteredCost Retriever::cost_by_cells(const Filter& filter) const {
  const auto rows = static_cast<float>(items_.size());
  const auto matching = static_cast<float>(std::max<std::size_t>(filter.count(items_), 1));
  const float timed = cells_ns_.load(std::memory_order_relaxed);
  return {matching, (timed > 0 ? timed : kDefaultCellsNs) * std::sqrt(rows / matching), slowness_of(filter)};
}

// Relaxed: what one filter's query finds of another's costs time at worst.
std::atomic<float>& Retriever::slowness_of(const Filter& filter) const {
  const std::uint64_t identity = filter.identity();
  Experience& experience = experience_[identity % kRemembered];
  if (experience.filter.load(std::memory_order_relaxed) != identity) {
    experience.filter.store(identity, std::memory_order_relaxed);
    experience.slowness.store(kUntried, std::memory_order_relaxed);
  }
  return experience.slowness;
}

// Coding what is marked would take half as long as a scan in fp32, and more may be marked by then.
bool Retriever::is_restless() const {
  return static_cast<float>(items_.dirty.count()) * kCodeNs > static_cast<float>(items_.count()) * kScanNs / 2;
}

RetrievalReport Retriever::search(const float* query, const Selection& selection, const std::vector<Row>* among,
                                  const RetrievalOptions& options, TopK<float>& top) {
  RetrievalReport report;
  report.way = choose(selection, among, options);
  rest_lagging();
  switch (report.way) {
    case Way::kGather:
      if (among != nullptr) {
        scan_gather(items_, query, *among, selection, top);
        report.search.scored = among->size();
      } else {
        scan_flat(items_, query, selection, top);
        report.search.scored = selection.filter == nullptr ? items_.size() : selection.filter->count(items_);
        if (options.way == Way::kAuto && selection.filter != nullptr) {
          // Believed less with every query that it turns away from cells, so that they are tried again.
          std::atomic<float>& slowness = slowness_of(*selection.filter);
          const float believed = slowness.load(std::memory_order_relaxed);
          if (believed > 0.01f) slowness.store(believed * kBelief, std::memory_order_relaxed);
        }
      }
      break;
    case Way::kRows:
      scan_flat(items_, query, selection, top);
      report.search.scored = items_.size();
      break;
    case Way::kAuto:
    case Way::kFlat:
      if (items_.count() < kSmall) {
        scan_flat(items_, query, selection, top);
        report.search.scored = items_.size();
      } else if (is_restless()) {
        search_restless(query, selection, top, report.search);
      } else {
        report.search = cells_.scan(query, selection, top);
      }
      break;
    case Way::kCells:
      search_cells(query, selection, options.most, top, report.search);
      break;
    case Way::kGraph:
      search_graph(query, selection, options, top, report.search);
      break;
    case Way::kPopular:
      break;  // not a way of this class
  }
  if (!report.search.certified) sample_recall(query, selection, top);
  return report;
}

RetrievalReport Retriever::search_cosine(const float* query, const Selection& selection, const std::vector<Row>* among,
                                         const RetrievalOptions& options, TopK<float>& top) {
  RetrievalReport report;
  rest_lagging();
  const auto rows = static_cast<float>(items_.count());
  if (among != nullptr) {
    report.way = Way::kGather;
    scan_gather_cosine(items_, query, *among, selection, top);
    report.search.scored = among->size();
  } else if (selection.filter != nullptr &&
             static_cast<float>(selection.filter->count(items_)) * kGatherNs < rows * kCodedNs) {
    report.way = Way::kGather;
    scan_cosine(items_, query, selection, top);
    report.search.scored = selection.filter->count(items_);
  } else if (options.way == Way::kRows || held() || items_.count() < kSmall || is_restless()) {
    report.way = Way::kRows;
    scan_cosine(items_, query, selection, top);
    report.search.scored = items_.size();
  } else {
    report.way = Way::kFlat;
    report.search = cells_.scan_cosine(query, selection, top);
  }
  return report;
}

// Rows that a filter leaves are few enough, or the scan of them is short enough, to be scored as they are.
void Retriever::search_restless(const float* query, const Selection& selection, TopK<float>& top,
                                SearchReport& report) {
  const bool fast = is_learned_fast();
  if ((fast || lagging_.begun()) && selection.filter == nullptr) {
    idle_.store(0, std::memory_order_relaxed);
    report = lagging_.scan(query, selection, top);
  } else {
    scan_flat(items_, query, selection, top);
    report.scored = items_.size();
  }
  // A little, so that it ends: a quarter of what a scan in fp32 takes.
  if (!fast) cells_.follow(static_cast<std::size_t>(static_cast<float>(items_.count()) * kScanNs / kCodeNs / 4));
}

// A query of any kind; those that use lagging codes count again from zero.
void Retriever::rest_lagging() {
  if (lagging_.begun() && idle_.fetch_add(1, std::memory_order_relaxed) >= kIdle) [[unlikely]]
    lagging_.end();
}

// One query looks, the others believe the last look.
bool Retriever::is_learned_fast() {
  const auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  const auto now = std::chrono::nanoseconds(since_start).count();
  std::int64_t before = paced_ns_.load(std::memory_order_relaxed);
  if (now - before < kPaceNs || !paced_ns_.compare_exchange_strong(before, now, std::memory_order_relaxed)) {
    return fast_.load(std::memory_order_relaxed);
  }
  const std::uint64_t steps = items_.movement.steps();
  const std::uint64_t previous = paced_steps_.exchange(steps, std::memory_order_relaxed);
  const std::uint64_t learned = steps > previous ? steps - previous : 0;
  const bool fast = static_cast<float>(learned) * 1e3f > kFastSteps * static_cast<float>(now - before);
  fast_.store(fast, std::memory_order_relaxed);
  return fast;
}

void Retriever::search_cells(const float* query, const Selection& selection, std::size_t most, TopK<float>& top,
                             SearchReport& report) {
  if (most == CellIndex::kAllCells && is_timed(selection)) return search_cells_timed(query, selection, top, report);
  report = cells_.search(query, selection, most, top);
}

bool Retriever::is_timed(const Selection& selection) {
  const std::uint64_t number = queries_.fetch_add(1, std::memory_order_relaxed);
  if (selection.filter == nullptr) return number % kTimed == 0;
  return number % kTimedFiltered == 0 || slowness_of(*selection.filter).load(std::memory_order_relaxed) == kUntried;
}

// Racing queries may lose a figure: another comes.
void Retriever::search_cells_timed(const float* query, const Selection& selection, TopK<float>& top,
                                   SearchReport& report) {
  const auto start = std::chrono::steady_clock::now();
  report = cells_.search(query, selection, CellIndex::kAllCells, top);
  const auto ns = std::chrono::duration<float, std::nano>(std::chrono::steady_clock::now() - start).count();
  if (selection.filter == nullptr) {
    const float old = cells_ns_.load(std::memory_order_relaxed);
    cells_ns_.store(old > 0 ? old + (ns - old) / 8 : ns, std::memory_order_relaxed);
    return;
  }
  const FilteredCost cost = cost_by_cells(*selection.filter);
  // However long it took: a query that was interrupted must not turn the next ones away by itself.
  const float most = 2 * cost.matching * kGatherNs / cost.expected;
  const float seen = std::clamp(ns / cost.expected - 1, kFastest, most);
  const float old = cost.slowness.load(std::memory_order_relaxed);
  cost.slowness.store(old == kUntried ? seen : old + (seen - old) / 4, std::memory_order_relaxed);
}

static_assert(kBatch <= CellIndex::kTogether);

void Retriever::search_many(Way way, const float* queries, std::span<const Selection> selections, TopK<float>* tops) {
  rest_lagging();
  if (way == Way::kCells) {
    cells_.search_many(queries, selections, tops);
  } else {
    scan_flat_batch(items_, queries, selections.size(), selections.data(), tops);
  }
}

// Built by whoever asks first; the others wait for it.
Graph& Retriever::graph(std::size_t threads) {
  // Acquire: the graph is complete.
  if (Graph* const built = graph_.load(std::memory_order_acquire)) return *built;
  std::unique_lock lock(graph_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) {
    if (fork_generation() != process_) {
      throw std::runtime_error(
          "the graph was being built, in the parent process, when this one was forked: ask for it "
          "before, or of an engine that is loaded in the child");
    }
    lock.lock();
  }
  if (graph_storage_ == nullptr) {
    auto fresh = std::make_unique<Graph>(items_, GraphOptions{});
    cells_.follow();  // or all that is marked now would count as moved since it was linked
    // seq_cst, as the marks: rows written from now on are marked.
    graph_wanted_.store(true);
    fresh->build(threads);
    fresh->audit();  // equal rows may have been left unreachable
    graph_storage_ = std::move(fresh);
    // Release: with all its links.
    graph_.store(graph_storage_.get(), std::memory_order_release);
    // Removed meanwhile: `forget` found no graph. What is removed from now on it finds; our pin keeps the slots.
    graph_storage_->remove_dead();
    take_graph_marks(*graph_storage_, ~std::size_t{0});
  }
  return *graph_storage_;
}

void Retriever::search_graph(const float* query, const Selection& selection, const RetrievalOptions& options,
                             TopK<float>& top, SearchReport& report) {
  report.certified = false;
  const Graph& links = graph(options.threads);
  if (items_.dirty.any()) cells_.follow();
  TopK<float> linked = top;
  const std::size_t ef = std::min(std::max(options.most, top.k()), Graph::kMaxEf);
  report.scored = ef > 0 ? links.search(query, ef, selection, linked) : 0;
  // Rows that were written since they were linked, but not too many, and all that are not linked yet. Each may also
  // have been met.
  std::vector<Row> pending;
  graph_moved_.for_each_pending([&pending](Row row) {
    if (pending.size() < kPendingLinks) pending.push_back(row);
  });
  graph_new_.for_each_pending([&pending](Row row) { pending.push_back(row); });
  std::sort(pending.begin(), pending.end());
  pending.erase(std::unique(pending.begin(), pending.end()), pending.end());
  report.pending = pending.size();
  report.scored += pending.size();
  scan_gather(items_, query, pending, selection, top);
  for (const auto& [score, row] : linked.take_sorted()) {
    if (!std::binary_search(pending.begin(), pending.end(), row)) top.push(score, row);
  }
  if (top.full()) return;
  // Less than was asked for: there may be no more, or links that lead there are missing.
  TopK<float> whole(top.k());
  report = cells_.search(query, selection, CellIndex::kAllCells, whole);
  top = std::move(whole);
}

void Retriever::take_graph_marks(Graph& links, std::size_t most) {
  const auto link = [&](Row row) {
    graph_calm_ = 0;
    if (!items_.is_live(row) || links.update(row)) return;
    if (!links.contains(row)) links.insert(row);
  };
  graph_new_.take(link, most);
  graph_moved_.take(
      [&](Row row) {
        if (items_.is_live(row) && links.update(row)) graph_calm_ = 0;
      },
      most);
}

// Marked rows are linked, then the sweep goes round until it finds nothing to do, then an audit looks for what is
// unreachable all the same; and again, until that finds nothing either.
bool Retriever::maintain_graph(std::atomic<bool>& stop) {
  constexpr int kMostAudits = 8;
  Graph* const links = graph_.load(std::memory_order_acquire);  // acquire: complete
  const std::unique_lock lock(graph_mutex_, std::try_to_lock);
  if (links == nullptr || !lock.owns_lock()) return false;
  const auto pin = domain_.pin_reader();
  take_graph_marks(*links, kRelinkedRows);
  if (graph_calm_ == 0) graph_audits_ = 0;
  const std::size_t rows = items_.count();
  if (graph_calm_ < rows) {
    const std::size_t changed = links->relink_drifted(kRelinkedRows);
    graph_calm_ = changed > 0 ? 0 : graph_calm_ + kRelinkedRows;
    return true;
  }
  if (graph_audits_ >= kMostAudits) return graph_new_.any() || graph_moved_.any();
  const GraphAudit found = links->audit(stop);
  graph_audits_ = found.missing + found.unreachable > 0 ? graph_audits_ + 1 : kMostAudits;
  return true;
}

bool Retriever::maintain(std::size_t threads, std::atomic<bool>& stop) {
  if (held()) return false;
  const bool cells = cells_.maintain(threads, stop);
  return maintain_graph(stop) || cells;
}

void Retriever::forget(std::span<const Row> rows) {
  Graph* const links = graph_.load(std::memory_order_acquire);  // acquire: complete
  if (links == nullptr) return;
  for (const Row row : rows) links->remove(row);
}

std::size_t Retriever::memory_bytes() const {
  const Graph* const links = graph_.load(std::memory_order_acquire);  // acquire: complete
  return cells_.memory_bytes() + lagging_.memory_bytes() + graph_moved_.memory_bytes() + graph_new_.memory_bytes() +
         (links == nullptr ? 0 : links->memory_bytes());
}

// Against the exact answer, now: on a table that is being learned the two are not of quite the same rows.
void Retriever::sample_recall(const float* query, const Selection& selection, const TopK<float>& found) {
  constexpr std::size_t kMostSampled = 4096;  // results: more would take longer than the query itself
  if (found.k() > kMostSampled || uncertified_.fetch_add(1, std::memory_order_relaxed) % kSampled != 0) return;
  TopK<float> exact(found.k()), copy = found;
  cells_.search(query, selection, CellIndex::kAllCells, exact);
  std::vector<Row> rows;
  for (const auto& [score, row] : copy.take_sorted()) rows.push_back(row);
  std::sort(rows.begin(), rows.end());
  const auto best = exact.take_sorted();
  if (best.empty()) return;
  std::size_t hits = 0;
  for (const auto& [score, row] : best) hits += std::binary_search(rows.begin(), rows.end(), row) ? 1 : 0;
  recalls_.fetch_add(static_cast<double>(hits) / static_cast<double>(best.size()), std::memory_order_relaxed);
  samples_.fetch_add(1, std::memory_order_relaxed);
}

double Retriever::sampled_recall() const {
  return recalls_.load(std::memory_order_relaxed) / static_cast<double>(samples_.load(std::memory_order_relaxed));
}

}  // namespace recengine
