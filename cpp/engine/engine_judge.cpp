// What the engine makes of lists that another policy showed: for off-policy evaluation.
#include <cmath>
#include <limits>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "engine/engine.hpp"
#include "engine/query_parts.hpp"
#include "storage/message.hpp"

namespace recengine {

std::vector<float> Engine::ranking_scores(const IdSpan& user, const IdSpan& history, const IdSpan& items,
                                          std::span<const float> context) {
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  check_context(context);
  std::vector<float> scores(items.size, -std::numeric_limits<float>::infinity());
  if (items.kind != model_.items.ids.kind()) return scores;
  std::vector<Row> rows(items.size);
  model_.items.ids.find_many(items, 0, items.size, rows.data());
  Resolved resolved;
  resolved.among.emplace();
  std::unordered_map<Row, std::size_t> places;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (rows[k] != kNoRow && places.emplace(rows[k], k).second) resolved.among->push_back(rows[k]);
  }
  sort_unique(*resolved.among);
  std::vector<Row> session(history.size);
  if (user.size == 0 && history.size > 0 && history.kind == items.kind) {
    model_.items.ids.find_many(history, 0, history.size, session.data());
    std::erase(session, kNoRow);
  }
  Asker asker;
  if (user.size > 0) {
    asker.user = find(model_.users.ids, id_at(user, 0));
    model_.compose(asker.user, latest_timestamp(), asker.query);
  } else {
    asker.session = session;
    model_.compose(kNoRow, session, asker.query);
  }
  QueryOptions options;
  options.context = context;
  Plan plan;
  for (const auto& [score, row] : answer(asker, resolved.among->size(), options, resolved, plan, true)) {
    const auto found = places.find(row);
    if (found == places.end()) continue;
    scores[found->second] = is_nobody(asker.user, asker.query) ? popularity_score(score) : score;
  }
  return scores;
}

Views Engine::judge(const IdSpan& user, const IdSpan& items, const ShownList& shown, const Policy& policy,
                    std::size_t draws, std::uint64_t seed) {
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  const std::vector<Row> known = find_all(model_.items.ids, items, "item");
  const SortedList list(shown);
  if (list.size() != known.size()) {
    throw std::invalid_argument(
        message("items must be those with finite scores, ", list.size(), ", not ", known.size(), " of them"));
  }
  std::vector<Row> by_place(shown.scores.size(), kNoRow), sorted;
  for (std::size_t place = 0, next = 0; place < by_place.size(); ++place) {
    if (std::isfinite(shown.scores[place])) by_place[place] = known[next++];
  }
  for (std::size_t rank = 0; rank < list.size(); ++rank) sorted.push_back(by_place[list.place(rank)]);
  const Row asker = user.size == 0 ? kNoRow : find(model_.users.ids, id_at(user, 0));
  const AlignedFloats rows = rows_of(sorted);
  const std::vector<float> deviations = bias_deviations(sorted);
  const LinearCandidates linear{list.candidates(), rows.data(), model_.items.stride(), deviations};
  Views views;
  recengine::judge(policy, list, linear, uncertainty_of(asker, policy), draws, seed, views);
  return views;
}

std::vector<std::uint32_t> Engine::diversified(const IdSpan& items, std::span<const float> scores,
                                               const Diversity& diversity, std::size_t k) {
  const auto pin = pin_query();
  const AlignedFloats rows = rows_of(find_all(model_.items.ids, items, "item"));
  return reorder(diversity, scores, rows.data(), model_.items.stride(), k);
}

std::vector<Row> Engine::groups_of(const IdSpan& items) {
  const auto pin = pin_query();
  return filters_.groups_of(find_all(model_.items.ids, items, "item"));
}

}  // namespace recengine
