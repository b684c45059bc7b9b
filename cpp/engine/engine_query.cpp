#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "engine/engine.hpp"
#include "engine/query_parts.hpp"
#include "kernels/relaxed.hpp"
#include "learner/neighbor_scores.hpp"
#include "learner/objectives.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

using Best = std::vector<Scored<float>>;

// Records the time from construction to destruction.
class Timed {
 public:
  explicit Timed(LatencyHistogram& histogram) : histogram_(histogram) {}
  ~Timed() { histogram_.record(LatencyHistogram::Clock::now() - start_); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  LatencyHistogram& histogram_;
  const LatencyHistogram::Clock::time_point start_ = LatencyHistogram::Clock::now();
};

}  // namespace

RetrievalOptions Engine::with_threads(RetrievalOptions options) const {
  options.threads = threads();
  return options;
}

std::size_t Engine::capped(std::size_t k) const { return std::min(k, model_.items.size()); }

std::vector<Row> Engine::find_known(const IdSpan& ids) {
  std::vector<Row> rows(ids.size);
  model_.items.ids.find_many(ids, 0, ids.size, rows.data());
  const std::size_t unknown = static_cast<std::size_t>(std::count(rows.begin(), rows.end(), kNoRow));
  if (unknown > 0) ignored_ids_.fetch_add(unknown, std::memory_order_relaxed);
  rows.erase(std::remove(rows.begin(), rows.end(), kNoRow), rows.end());
  return rows;
}

Engine::Resolved Engine::resolve(const QueryOptions& options) {
  check_kind(model_.items.ids, options.exclude.kind, "item");
  if (options.among) check_kind(model_.items.ids, options.among->kind, "item");
  check_context(options.context);
  Resolved resolved;
  if (options.exclude.size > 0) {
    resolved.excluded = find_known(options.exclude);
    sort_unique(resolved.excluded);
  }
  if (options.among) {
    resolved.among = find_known(*options.among);
    sort_unique(*resolved.among);
  }
  if (options.filter != nullptr) resolved.filter = compile(*options.filter);
  return resolved;
}

bool Engine::keep_live(Best& best) const {
  return std::erase_if(best, [this](const auto& found) { return !model_.items.is_live(found.row); }) == 0;
}

void Engine::append(Rankings& rankings, const Best& best) const {
  rankings.ids.kind = model_.items.ids.kind();  // also of a ranking that is empty
  for (const auto& [score, row] : best) {
    rankings.ids.append(model_.items.ids, row);
    rankings.scores.push_back(score);
  }
  rankings.counts.push_back(best.size());
}

Selection Engine::selection_for(const Asker& asker, const QueryOptions& options, const Resolved& resolved) {
  return selection_of(asker.user, options, resolved);
}

Selection Engine::selection_of(Row user, const QueryOptions& options, const Resolved& resolved) const {
  const UserState& state = model_.user_state;
  if (!options.exclude_seen || user == kNoRow) return resolved.selection(nullptr);
  if (!state.is_stored()) return resolved.selection(&state.seen(user));
  Selection selection = resolved.selection(nullptr);
  selection.listed = state.stored_seen(user);
  return selection;
}

Best Engine::retrieve(const Asker& asker, std::size_t k, const QueryOptions& options, const Resolved& resolved,
                      RetrievalReport& report) {
  const QueryVector& query = asker.query;
  const Selection selection = selection_for(asker, options, resolved);
  if (is_nobody(asker.user, query)) {
    report.way = Way::kPopular;
    report.search.scored = resolved.among ? resolved.among->size() : model_.items.size();
    return most_popular(k, selection, resolved);
  }
  TopK<float> top(capped(k));
  const std::vector<Row>* const among = resolved.among ? &*resolved.among : nullptr;
  const RetrievalOptions retrieval = with_threads(options.retrieval);
  if (query.repeated.empty()) {
    report = retriever_.search(query.x.data(), selection, among, retrieval, top);
    return top.take_sorted();
  }
  // The few items that have an offset are scored here, all others by the inner product alone.
  const std::vector<Row> apart = with_repeated(query, resolved.excluded);
  report = retriever_.search(query.x.data(), {selection.seen, apart, selection.filter, selection.listed}, among,
                             retrieval, top);
  push_repeated(query, selection, among, top);
  return top.take_sorted();
}

void Engine::push_repeated(const QueryVector& query, const Selection& selection, const std::vector<Row>* among,
                           TopK<float>& top) const {
  for (std::size_t r = 0; r < query.repeated.size(); ++r) {
    const Row row = query.repeated[r];
    if (!model_.items.is_live(row) || !selection.admits(row)) continue;
    if (among != nullptr && !std::binary_search(among->begin(), among->end(), row)) continue;
    top.push(score_of(query, row), row);
  }
}

float Engine::score_of(const QueryVector& query, Row item) const {
  const float dot = model_.items.rows.dot(query.x.data(), item);
  return dot + load_relaxed(&model_.items.bias[item]) + query.offset(item);
}

Engine::Answer Engine::answer_user(const Id& user, std::size_t k, const QueryOptions& options) {
  check_kind(model_.users.ids, user.kind, "user");
  const Resolved resolved = resolve(options);
  Answer found;
  found.asker.user = find(model_.users.ids, user);
  model_.compose(found.asker.user, latest_timestamp(), found.asker.query);
  Plan plan;
  found.best = answer_live(found.asker, k, options, resolved, plan);
  found.certified = plan.retrieval.search.certified;
  queries_.fetch_add(1, std::memory_order_relaxed);
  return found;
}

Engine::Answer Engine::answer_visitor(const IdSpan& history, std::size_t k, const QueryOptions& options) {
  check_kind(model_.items.ids, history.kind, "item");
  Resolved resolved = resolve(options);
  Answer found;
  found.session = find_known(history);
  found.asker.session = found.session;
  model_.compose(kNoRow, found.session, found.asker.query);
  // A session's items are what the visitor has seen.
  if (options.exclude_seen) {
    resolved.excluded.insert(resolved.excluded.end(), found.session.begin(), found.session.end());
    sort_unique(resolved.excluded);
  }
  Plan plan;
  found.best = answer_live(found.asker, k, options, resolved, plan);
  found.certified = plan.retrieval.search.certified;
  queries_.fetch_add(1, std::memory_order_relaxed);
  return found;
}

// Items that are removed while a query is under way leave its ranking, and others that match take their places: what is
// returned was live at one moment of the query.
template <class Find>
Best Engine::find_live(std::size_t k, Find find) const {
  constexpr int kMostAttempts = 8;  // beside removals without end a ranking that is short will do
  std::size_t wanted = k;
  for (int attempt = 1;; ++attempt) {
    wanted = capped(wanted);
    Best best = find(wanted);
    if (keep_live(best) || best.size() >= k || attempt == kMostAttempts) {
      best.resize(std::min(best.size(), k));
      return best;
    }
    wanted = 2 * wanted + 16;  // some to spare
  }
}

Best Engine::answer_live(const Asker& asker, std::size_t k, const QueryOptions& options, const Resolved& resolved,
                         Plan& plan) {
  return find_live(k, [&](std::size_t wanted) {
    plan = {};
    return answer(asker, wanted, options, resolved, plan);
  });
}

Rankings Engine::recommend(const Id& user, const QueryOptions& options) {
  const Timed timed(query_latency_);
  const auto pin = pin_query();
  const Answer found = answer_user(user, options.k, options);
  Rankings rankings;
  append(rankings, found.best);
  rankings.certified = found.certified;
  return rankings;
}

Rankings Engine::recommend_history(const IdSpan& history, const QueryOptions& options) {
  const Timed timed(query_latency_);
  const auto pin = pin_query();
  const Answer found = answer_visitor(history, options.k, options);
  Rankings rankings;
  append(rankings, found.best);
  rankings.certified = found.certified;
  return rankings;
}

Plan Engine::plan(const Id& user, const QueryOptions& options) {
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  Plan plan;
  Asker asker;
  std::optional<Resolved> resolved;
  {
    const Timer timer(plan.compose_us);
    resolved = resolve(options);
    asker.user = find(model_.users.ids, user);
    model_.compose(asker.user, latest_timestamp(), asker.query);
  }
  double answer_us = 0;
  {
    const Timer timer(answer_us);
    answer(asker, options.k, options, *resolved, plan);
  }
  plan.retrieve_us = answer_us - plan.rank_us;
  return plan;
}

std::vector<float> Engine::score(const Id& user, const IdSpan& items) {
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  const std::vector<Row> rows = find_all(model_.items.ids, items, "item");
  QueryVector query;
  model_.compose(find(model_.users.ids, user), latest_timestamp(), query);
  std::vector<float> scores;
  scores.reserve(rows.size());
  for (const Row row : rows) {
    if (scores.size() % kRowsPerCheck == 0) check_interrupt();
    scores.push_back(score_of(query, row));
  }
  return scores;
}

std::vector<float> Engine::predict(const Id& user, const IdSpan& items) {
  const Objective objective = settings_.objective;
  if (objective != Objective::kLogistic && objective != Objective::kSquared) {
    throw std::invalid_argument(
        message("predict needs objective 'logistic' or 'squared', not '", name_of(objective), "'"));
  }
  std::vector<float> scores = score(user, items);
  const auto pin = pin_query();
  const Row row = find(model_.users.ids, user);
  for (float& value : scores) {
    value = learner_.full_score(value, row);
    if (objective == Objective::kLogistic) value = sigmoid(value);
  }
  return scores;
}

Row Engine::known_item(const Id& item) const {
  check_kind(model_.items.ids, item.kind, "item");
  const Row row = find(model_.items.ids, item);
  if (row == kNoRow) throw UnknownId(message("unknown item ", describe(item)));
  return row;
}

Rankings Engine::similar_items(const Id& item, const QueryOptions& options) {
  const auto pin = pin_query();
  const Row row = known_item(item);
  Resolved resolved = resolve(options);
  resolved.excluded.push_back(row);
  sort_unique(resolved.excluded);
  AlignedFloats query(model_.items.stride());
  model_.items.rows.load(row, query.data());
  normalise(query);
  const Selection selection = resolved.selection(nullptr);
  const std::vector<Row>* const among = resolved.among ? &*resolved.among : nullptr;
  Rankings rankings;
  append(rankings, find_live(options.k, [&](std::size_t k) {
           TopK<float> top(k);
           retriever_.search_cosine(query.data(), selection, among, options.retrieval, top);
           return top.take_sorted();
         }));
  return rankings;
}

Rankings Engine::similar_by_behaviour(const Id& item, const QueryOptions& options) {
  if (!model_.cooccurrence.on()) {
    throw std::invalid_argument("by 'behaviour' needs an engine that counts neighbors, not one with neighbors=0");
  }
  const auto pin = pin_query();
  const Row row = known_item(item);
  const Resolved resolved = resolve(options);
  const Selection selection = resolved.selection(nullptr);
  NeighborScores scores;
  const float weight = 1;
  scores.gather(model_.cooccurrence, {&row, 1}, {&weight, 1}, {}, latest_timestamp());
  Rankings rankings;
  append(rankings, find_live(options.k, [&](std::size_t k) {
           TopK<float> top(k);
           scores.for_each([&](Row neighbor, float score) {
             const bool wanted =
                 !resolved.among || std::binary_search(resolved.among->begin(), resolved.among->end(), neighbor);
             if (score >= top.threshold() && wanted && model_.items.is_live(neighbor) && selection.admits(neighbor)) {
               top.push(score, neighbor);
             }
           });
           return top.take_sorted();
         }));
  return rankings;
}

Rankings Engine::search(std::span<const float> vector, bool cosine, const QueryOptions& options) {
  if (vector.size() != settings_.dim) {
    throw std::invalid_argument(message("vector must have ", settings_.dim, " elements, not ", vector.size()));
  }
  check_finite(vector, "vector");
  const auto pin = pin_query();
  const Resolved resolved = resolve(options);
  AlignedFloats query(model_.items.stride(), 0.0f);
  std::copy(vector.begin(), vector.end(), query.begin());
  if (cosine) normalise(query);
  const Selection selection = resolved.selection(nullptr);
  const std::vector<Row>* const among = resolved.among ? &*resolved.among : nullptr;
  Rankings rankings;
  append(rankings, find_live(options.k, [&](std::size_t k) {
           TopK<float> top(k);
           const RetrievalReport report =
               cosine ? retriever_.search_cosine(query.data(), selection, among, options.retrieval, top)
                      : retriever_.search(query.data(), selection, among, with_threads(options.retrieval), top);
           rankings.certified = report.search.certified;
           return top.take_sorted();
         }));
  queries_.fetch_add(1, std::memory_order_relaxed);
  return rankings;
}

}  // namespace recengine
