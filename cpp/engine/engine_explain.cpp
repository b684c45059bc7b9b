// Why an item scores what it scores: the parts that add up to what `rank` shows.
#include <algorithm>

#include "engine/engine.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"

namespace recengine {

namespace {

double dot(const AlignedFloats& a, const AlignedFloats& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += double{a[d]} * double{b[d]};
  return sum;
}

}  // namespace

// <x_u, q_i> + b_i + r_ui: the user's row, each item of the history, the bias, the offset.
void Engine::explain_score(const Asker& asker, Row item, double weight, Explanation& explanation) const {
  const auto part = [&](const char* name, Row other, double value) {
    explanation.parts.push_back({name, other, static_cast<float>(value), static_cast<float>(weight), weight * value});
  };
  const QueryVector& query = asker.query;
  AlignedFloats row(model_.items.stride()), other(model_.items.stride(), 0.0f);
  model_.items.rows.load(item, row.data());
  if (model_.fold_in) {  // a vector that was solved is no sum of rows
    part("user", kNoRow, dot(query.x, row));
  } else {
    if (asker.user != kNoRow) {
      model_.users.rows.load(asker.user, other.data());
      part("user", kNoRow, dot(other, row));
    }
    for (const QueryVector::Term& term : query.history) {
      model_.items.rows.load(term.item, other.data());
      const bool disliked = term.scalar == QueryVector::kFixed;
      part(disliked ? "disliked" : "history", term.item, double{term.weight} * dot(other, row));
    }
  }
  part("bias", kNoRow, double{load_relaxed(&model_.items.bias[item])});
  const float offset = query.offset(item);
  if (offset != 0) part("offset", kNoRow, double{offset});
}

Explanation Engine::explain(const Id& user, const Id& item) {
  const auto pin = pin_query();
  check_kind(model_.users.ids, user.kind, "user");
  const Row row = known_item(item);
  Asker asker{find(model_.users.ids, user), {}, {}};
  model_.compose(asker.user, latest_timestamp(), asker.query);
  Explanation explanation;
  if (asker.user == kNoRow) {
    Resolved resolved;
    resolved.among = {row};
    for (const auto& found : most_popular(1, {}, resolved)) explanation.score = found.score;
    explanation.parts.push_back({"popularity", kNoRow, explanation.score, 1, double{explanation.score}});
    return explanation;
  }
  if (!ranker_.on()) {
    explanation.score = score_of(asker.query, row);
    explain_score(asker, row, 1, explanation);
  } else {
    Ranker::Query query = ranking_for(asker, {});
    query.score({&row, 1}, &explanation.score);
    explain_score(asker, row, double{query.weight(kScoreSignal)}, explanation);
    for (std::size_t s = kScoreSignal + 1; s < ranker_.num_signals(); ++s) {
      const bool of_last = s == kAfterLast || s == kBeforeLast;
      const float value = query.signal(s, 0), weight = query.weight(s);
      explanation.parts.push_back({ranker_.signal_name(s), of_last ? query.last_item() : kNoRow, value, weight,
                                   double{value} * double{weight}});
    }
    if (ranker_.network)
      explanation.parts.push_back({"network", kNoRow, query.network(0), 1, double{query.network(0)}});
  }
  // Ids while the pin is held.
  explanation.items.kind = model_.items.ids.kind();
  for (ExplanationPart& part : explanation.parts) {
    if (part.item == kNoRow) continue;
    explanation.items.append(model_.items.ids, part.item);
    part.item = static_cast<Row>(explanation.items.size() - 1);
  }
  return explanation;
}

}  // namespace recengine
