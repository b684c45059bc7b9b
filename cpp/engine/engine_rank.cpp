// What a query answers with a ranker: the embedding's candidates and others, in the ranker's order.
#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>

#include "engine/engine.hpp"
#include "engine/query_parts.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

using Best = std::vector<Scored<float>>;

constexpr std::size_t kMostAmong = 4096;  // candidates that the caller gives and that are all ranked

}  // namespace

Ranker::Query Engine::ranking_for(const Asker& asker, std::span<const float> context) const {
  if (asker.user != kNoRow) return {ranker_, asker.query, asker.user, latest_timestamp(), context};
  return {ranker_, asker.query, asker.session, latest_timestamp(), context};
}

void Engine::check_ranks(std::string_view what) const {
  if (!ranker_.on())
    throw std::invalid_argument(message(what, " needs an engine with a ranker, not one with ranker=None"));
}

void Engine::check_context(std::span<const float> context) const {
  if (context.empty()) return;
  check_ranks("context");
  if (context.size() != ranker_.features.count()) {
    throw std::invalid_argument(message("context must have a value for each of ", ranker_.features.count(),
                                        " item features, not ", context.size()));
  }
  check_finite(context, "context");
}

Best Engine::answer(const Asker& asker, std::size_t k, const QueryOptions& options, const Resolved& resolved,
                    Plan& plan, bool all) {
  const std::vector<Row>* const among = resolved.among ? &*resolved.among : nullptr;
  if (!ranker_.on() || k == 0 || is_nobody(asker.user, asker.query)) {
    return retrieve(asker, k, options, resolved, plan.retrieval);
  }
  const Selection selection = selection_for(asker, options, resolved);
  if (among == nullptr || (!all && among->size() > kMostAmong)) {
    const Best found = retrieve(asker, num_retrieved(k), options, resolved, plan.retrieval);
    return merge(asker, found, k, options, selection, among, plan);
  }
  std::vector<Row> rows;
  for (const Row row : *among) {
    if (model_.items.is_live(row) && selection.admits(row)) rows.push_back(row);
  }
  plan.retrieval.way = Way::kGather;
  plan.retrieval.search.scored = plan.candidates.retrieved = rows.size();
  const Timer timer(plan.rank_us);
  Ranker::Query query = ranking_for(asker, options.context);
  return best_of(query, rows, k);
}

Best Engine::merge(const Asker& asker, std::span<const Scored<float>> retrieved, std::size_t k,
                   const QueryOptions& options, const Selection& selection, const std::vector<Row>* among, Plan& plan) {
  const Timer timer(plan.rank_us);
  Ranker::Query query = ranking_for(asker, options.context);
  const auto admits = [&](Row row) {
    return model_.items.is_live(row) && selection.admits(row) &&
           (among == nullptr || std::binary_search(among->begin(), among->end(), row));
  };
  std::vector<Row> rows = query.choose(admits);
  const std::size_t chosen = rows.size();
  for (const auto& [score, row] : retrieved) {
    if (!query.is_candidate(row)) rows.push_back(row);
  }
  const std::size_t known = rows.size();
  query.for_each_popular([&](Row row) {
    if (!query.is_candidate(row) &&
        std::find(rows.begin() + static_cast<std::ptrdiff_t>(chosen), rows.end(), row) == rows.end() && admits(row)) {
      rows.push_back(row);
    }
  });
  plan.candidates = {known - chosen, query.num_own(), chosen - query.num_own(), rows.size() - known};
  return best_of(query, rows, k);
}

Best Engine::best_of(Ranker::Query& query, std::span<const Row> rows, std::size_t k) const {
  TopK<float> top(capped(k));
  std::array<float, kRowsPerCheck> scores;
  for (std::size_t first = 0; first < rows.size(); first += kRowsPerCheck) {
    const auto block = rows.subspan(first, std::min(kRowsPerCheck, rows.size() - first));
    query.score(block, scores.data());
    for (std::size_t j = 0; j < block.size(); ++j) {
      if (scores[j] >= top.threshold()) top.push(scores[j], block[j]);
    }
    if (rows.size() > kRowsPerCheck) check_interrupt();
  }
  return top.take_sorted();
}

Rankings Engine::rank(const Id& user, const IdSpan& items, std::span<const float> context) {
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  check_context(context);
  QueryOptions options;
  options.context = context;
  Resolved resolved;
  resolved.among = find_all(model_.items.ids, items, "item");
  sort_unique(*resolved.among);
  Asker asker{find(model_.users.ids, user), {}, {}};
  model_.compose(asker.user, latest_timestamp(), asker.query);
  Rankings rankings;
  Plan plan;
  std::vector<Scored<float>> best = answer(asker, resolved.among->size(), options, resolved, plan, true);
  keep_live(best);
  append(rankings, best);
  return rankings;
}

std::vector<float> Engine::ranker_signals(const Id& user, const IdSpan& items) {
  check_ranks("ranker_signals");
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  const std::vector<Row> rows = find_all(model_.items.ids, items, "item");
  Asker asker{find(model_.users.ids, user), {}, {}};
  model_.compose(asker.user, latest_timestamp(), asker.query);
  Ranker::Query query = ranking_for(asker, {});
  std::vector<float> signals;
  signals.reserve(rows.size() * ranker_.num_signals());
  for (const Row& row : rows) {
    float score;
    query.score({&row, 1}, &score);
    for (std::size_t s = 0; s < ranker_.num_signals(); ++s) signals.push_back(query.signal(s, 0));
    if (signals.size() % kRowsPerCheck == 0) check_interrupt();
  }
  return signals;
}

}  // namespace recengine
