// Many users at once: in tiles, on threads, each tile one many-to-many search where that can be.
#include <algorithm>
#include <atomic>
#include <span>
#include <utility>
#include <vector>

#include "engine/engine.hpp"
#include "engine/query_parts.hpp"
#include "retrieval/flat.hpp"
#include "storage/interrupt.hpp"
#include "storage/parallel.hpp"

namespace recengine {

namespace {

using Best = std::vector<Scored<float>>;

}  // namespace

// Users [first, first + users.size()) of a batch, at most kBatch of them.
void Engine::recommend_tile(std::span<const Row> users, const QueryOptions& options, const Resolved& resolved,
                            std::vector<Best>& results, std::size_t first, std::atomic<bool>& certified) {
  const std::size_t stride = model_.items.stride();
  AlignedFloats vectors(kBatch * stride);
  std::vector<Asker> askers;
  std::vector<std::vector<Row>> apart;  // what the selections leave out
  std::vector<Selection> selections, wanted;
  std::vector<TopK<float>> tops;
  std::vector<std::size_t> slots;
  apart.reserve(users.size());
  const Way way = retriever_.choose(resolved.selection(nullptr), nullptr, options.retrieval);
  const bool ranks = ranker_.on() && options.k > 0;
  const bool one_by_one = way == Way::kGraph || options.retrieval.most != CellIndex::kAllCells;
  for (std::size_t u = 0; u < users.size(); ++u) {
    Asker& asker = askers.emplace_back();
    asker.user = users[u];
    const QueryVector& query = asker.query;
    model_.compose(users[u], latest_timestamp(), asker.query);
    if (is_nobody(users[u], query) || resolved.among || one_by_one) {
      Plan plan;
      results[first + u] = answer(asker, options.k, options, resolved, plan);
      // Relaxed: read when all have ended.
      if (!plan.retrieval.search.certified) certified.store(false, std::memory_order_relaxed);
      askers.pop_back();
      continue;
    }
    std::copy(query.x.begin(), query.x.end(), vectors.begin() + static_cast<std::ptrdiff_t>(slots.size() * stride));
    wanted.push_back(selection_of(users[u], options, resolved));
    apart.push_back(with_repeated(query, resolved.excluded));
    selections.push_back({wanted.back().seen, apart.back(), wanted.back().filter, wanted.back().listed});
    tops.emplace_back(capped(ranks ? num_retrieved(options.k) : options.k));
    slots.push_back(first + u);
  }
  if (slots.empty()) return;
  retriever_.search_many(way, vectors.data(), selections, tops.data());
  for (std::size_t q = 0; q < slots.size(); ++q) {
    push_repeated(askers[q].query, wanted[q], nullptr, tops[q]);
    results[slots[q]] = tops[q].take_sorted();
    Plan plan;
    if (ranks) results[slots[q]] = merge(askers[q], results[slots[q]], options.k, options, wanted[q], nullptr, plan);
  }
}

std::vector<Best> Engine::answer_many(const IdSpan& users, const QueryOptions& options, bool& certified,
                                      const std::function<void(std::size_t, Row, Best&)>& each) {
  check_kind(model_.users.ids, users.kind, "user");
  const Resolved resolved = resolve(options);
  std::vector<Row> rows(users.size);
  model_.users.ids.find_many(users, 0, users.size, rows.data());

  std::vector<Best> results(rows.size());
  const std::size_t tiles = (rows.size() + kBatch - 1) / kBatch;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false}, all_certified{true};
  run_parallel(std::clamp<std::size_t>(tiles, 1, threads()), stop, [&](std::size_t) {
    for (std::size_t tile;
         !stop.load(std::memory_order_relaxed) && (tile = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
      const std::size_t first = tile * kBatch, count = std::min(kBatch, rows.size() - first);
      recommend_tile(std::span(rows).subspan(first, count), options, resolved, results, first, all_certified);
      check_interrupt();
      for (std::size_t u = first; each && u < first + count; ++u) {
        each(u, rows[u], results[u]);
        check_interrupt();
      }
    }
  });
  if (stop.load(std::memory_order_relaxed)) throw Interrupted();
  certified = all_certified.load(std::memory_order_relaxed);
  queries_.fetch_add(rows.size(), std::memory_order_relaxed);
  return results;
}

Rankings Engine::recommend_many(const IdSpan& users, const QueryOptions& options) {
  const auto pin = pin_query();
  Rankings rankings;
  std::vector<Best> results = answer_many(users, options, rankings.certified);
  rankings.ids.kind = model_.items.ids.kind();  // also of no rankings
  for (std::size_t u = 0; u < results.size(); ++u) {
    if (!keep_live(results[u])) {
      Answer again = answer_user(id_at(users, u), options.k, options);
      results[u] = std::move(again.best);
      rankings.certified = rankings.certified && again.certified;
    }
    append(rankings, results[u]);
  }
  return rankings;
}

}  // namespace recengine
