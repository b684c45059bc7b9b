// Exploration: a query's candidates, a policy's choice among them, and what is learned of it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <unordered_map>

#include "engine/engine.hpp"
#include "engine/query_parts.hpp"
#include "explore/linear.hpp"
#include "explore/slate.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

using Best = std::vector<Scored<float>>;
using Places = std::vector<std::uint32_t>;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr float kMostReward = 1e6f;

// Groups by number: 1, 2, ... in the order in which they come, 0 for none.
std::vector<std::uint32_t> numbered(std::span<const Row> groups) {
  std::unordered_map<Row, std::uint32_t> numbers;
  std::vector<std::uint32_t> out;
  out.reserve(groups.size());
  for (const Row group : groups) {
    out.push_back(
        group == 0 ? 0 : numbers.try_emplace(group, static_cast<std::uint32_t>(numbers.size() + 1)).first->second);
  }
  return out;
}

// The places by these scores, best first, as many of each group as may be.
Places best_places(std::span<const float> scores, const CandidateScores& candidates, std::size_t k) {
  Places order(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [scores](std::uint32_t a, std::uint32_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  Remaining remaining(candidates);
  Places slate;
  for (const std::uint32_t place : order) {
    if (slate.size() == k) break;
    if (!remaining.contains(place)) continue;
    remaining.take(place);
    slate.push_back(place);
  }
  return slate;
}

Places reorder(const Diversity& diversity, std::span<const float> scores, const float* rows, std::size_t stride,
               std::size_t k) {
  return diversity.kind == DiversityKind::kMmr ? diversify_mmr(scores, rows, stride, diversity.weight, k)
                                               : diversify_dpp(scores, rows, stride, diversity.weight, k);
}

}  // namespace

std::uint64_t Engine::seed_of(const ExploreOptions& explore) {
  if (explore.seed) return *explore.seed;
  const std::uint64_t number = decisions_.fetch_add(1, std::memory_order_relaxed);
  return Random(~settings_.seed, number).next() >> 1;  // a number that Python gives back
}

std::size_t Engine::num_candidates(std::size_t k, const ExploreOptions& explore) {
  if (k <= kMaxCandidates) return std::max(k, explore.candidates);
  throw std::invalid_argument(message("with explore or diversify k must be at most ", kMaxCandidates, ", not ", k));
}

AlignedFloats Engine::rows_of(std::span<const Row> items) const {
  AlignedFloats rows(items.size() * model_.items.stride());
  for (std::size_t i = 0; i < items.size(); ++i) {
    model_.items.rows.load(items[i], rows.data() + i * model_.items.stride());
  }
  return rows;
}

Decision Engine::decide(const Asker& asker, const Best& found, std::size_t k, const ExploreOptions& explore,
                        std::uint64_t seed) {
  const Policy& policy = explore.policy;
  const Diversity& diversity = explore.diversity;
  const std::size_t stride = model_.items.stride();
  Decision decision;
  decision.policy = policy;
  decision.diversity = diversity;
  decision.seed = seed;
  if (asker.user != kNoRow) decision.user.append(model_.users.ids, asker.user);

  std::vector<Row> items;
  items.reserve(found.size());
  decision.scores.reserve(found.size());
  for (const auto& [score, row] : found) {
    if (!model_.items.is_live(row)) continue;  // removed meanwhile
    items.push_back(row);
    decision.scores.push_back(score);
  }
  AlignedFloats rows;
  if (policy.is_linear() || diversity.reorders()) rows = rows_of(items);
  std::vector<std::uint32_t> groups;
  if (diversity.kind == DiversityKind::kMaxPerGroup) groups = numbered(filters_.groups_of(items));
  const bool is_greedy = policy.kind == PolicyKind::kGreedy;
  Places& slate = decision.slate;

  if (diversity.reorders() && policy.is_closed()) {
    // Diversity first: the policy then draws from what it left.
    const std::size_t pool = diversity.count == 0 ? std::max(2 * k, items.size() / 2) : diversity.count;
    const std::size_t kept = is_greedy ? k : std::max(k, pool);
    Places order = reorder(diversity, decision.scores, rows.data(), stride, kept);
    if (is_greedy) {
      slate = std::move(order);
      decision.log_propensities.assign(slate.size(), 0.0);  // a function of the candidates
    } else {
      std::sort(order.begin(), order.end());
      for (std::size_t i = 0; i < order.size(); ++i) {  // the order ascends: nothing is overwritten too early
        items[i] = items[order[i]];
        decision.scores[i] = decision.scores[order[i]];
      }
      items.resize(order.size());
      decision.scores.resize(order.size());
    }
  }
  const CandidateScores candidates{decision.scores, groups, diversity.count};
  if (policy.is_closed()) {
    if (slate.empty()) {
      Slate drawn = draw_slate(policy, candidates, k, seed);
      slate = std::move(drawn.places);
      decision.log_propensities = std::move(drawn.log_propensities);
    }
  } else {
    Uncertainty uncertainty;
    if (policy.precision == PrecisionKind::kShared) {
      uncertainty.factor = precisions_.shared_factor();
    } else {
      uncertainty.deviations.resize(stride);
      precisions_.load_deviations(asker.user, uncertainty.deviations.data());
    }
    std::vector<float> bias_deviations;
    for (const Row item : items) bias_deviations.push_back(precisions_.bias_deviation(item));
    const LinearCandidates linear{candidates, rows.data(), stride, bias_deviations};
    if (policy.kind == PolicyKind::kThompson && !diversity.reorders()) {
      slate = thompson_slate(policy, linear, uncertainty, k, seed);
      if (policy.samples > 0) {
        Estimates estimates = thompson_propensities(policy, linear, uncertainty, slate, seed);
        decision.log_propensities = std::move(estimates.logs);
        decision.errors = std::move(estimates.errors);
      }
    } else {
      const std::vector<float> scores = policy.kind == PolicyKind::kUcb
                                            ? optimistic_scores(policy, linear, uncertainty)
                                            : drawn_scores(policy, linear, uncertainty, seed);
      slate = diversity.reorders() ? reorder(diversity, scores, rows.data(), stride, k)
                                   : best_places(scores, candidates, k);
    }
    if (decision.log_propensities.empty()) decision.log_propensities.assign(slate.size(), kUnknown);
  }
  decision.candidates.kind = model_.items.ids.kind();
  if (decision.candidates.kind == IdKind::kInt) decision.candidates.ints.reserve(items.size());
  for (const Row row : items) decision.candidates.append(model_.items.ids, row);
  return decision;
}

Decision Engine::explore(const Id& user, const QueryOptions& options, const ExploreOptions& explore) {
  const std::size_t wanted = num_candidates(options.k, explore);
  const auto pin = domain_.pin_reader();
  const Answer found = answer_user(user, wanted, options);
  Decision decision = decide(found.asker, found.best, options.k, explore, seed_of(explore));
  decision.certified = found.certified;
  return decision;
}

Decision Engine::explore_history(const IdSpan& history, const QueryOptions& options, const ExploreOptions& explore) {
  const std::size_t wanted = num_candidates(options.k, explore);
  const auto pin = domain_.pin_reader();
  const Answer found = answer_visitor(history, wanted, options);
  Decision decision = decide(found.asker, found.best, options.k, explore, seed_of(explore));
  decision.certified = found.certified;
  return decision;
}

std::vector<Decision> Engine::explore_many(const IdSpan& users, const QueryOptions& options,
                                           const ExploreOptions& explore) {
  QueryOptions wanted = options;
  wanted.k = num_candidates(options.k, explore);
  const auto pin = domain_.pin_reader();
  const std::uint64_t seed = seed_of(explore);
  std::vector<Decision> decisions(users.size);
  bool certified = true;
  answer_many(users, wanted, certified, [&](std::size_t u, Row user, Best& best) {
    decisions[u] = decide({user, {}, {}}, best, options.k, explore, Random(seed, u).next() >> 1);
    best = {};
  });
  for (Decision& decision : decisions) decision.certified = certified;
  return decisions;
}

std::uint64_t Engine::impression(std::shared_ptr<const Decision> decision, double timestamp) {
  if (!std::isnan(timestamp)) check_.require_timestamp(timestamp);
  check_writable();
  const auto pin = domain_.pin_writer();
  check_kind(model_.items.ids, decision->candidates.kind, "item");
  check_kind(model_.users.ids, decision->user.kind, "user");
  std::vector<Row> shown;
  const IdSpan candidates = decision->candidates.span();
  for (const std::uint32_t place : decision->slate) {
    const Row row = find(model_.items.ids, id_at(candidates, place));
    if (row != kNoRow) shown.push_back(row);
  }
  const Row user = decision->user.size() == 0 ? kNoRow : find(model_.users.ids, id_at(decision->user.span(), 0));
  precisions_.observe(user, rows_of(shown).data(), shown.size());
  precisions_.observe_items(shown);
  if (!std::isnan(timestamp)) saw_timestamp(timestamp);
  return impressions_.add(std::move(decision), std::isnan(timestamp) ? latest_timestamp() : timestamp);
}

double Engine::feedback(std::uint64_t number, const Id& item, float reward, double timestamp, bool learn) {
  if (!(std::abs(reward) <= kMostReward)) {
    throw std::invalid_argument(message("reward must be a number within 1e6, not ", reward));
  }
  if (!std::isnan(timestamp)) check_.require_timestamp(timestamp);
  check_writable();
  const bool ranks = settings_.objective == Objective::kSoftmax || settings_.objective == Objective::kBpr;
  float value = reward, size = 1;
  if (settings_.objective != Objective::kSquared) {
    value = reward > 0 ? 1.0f : ranks ? -1.0f : 0.0f;
    if (reward != 0) size = std::abs(reward);
  }
  const double now = std::isnan(timestamp) ? latest_timestamp() : timestamp;
  const Impressions::Place place = impressions_.find(number, item, now);
  const Decision& decision = *place.decision;
  const double weight = feedback_weight(impressions_.settings(), decision, place.slot);
  const bool teaches = !(ranks && reward == 0) && decision.user.size() > 0;
  if (!learn || !teaches || !has_item(item)) {
    if (!std::isnan(timestamp)) saw_timestamp(timestamp);
  } else {
    learn_one(id_at(decision.user.span(), 0), item, value, static_cast<float>(weight * double{size}), timestamp);
  }
  impressions_.add_reward(number, place.slot, reward);  // last: what throws has changed nothing
  return weight;
}

}  // namespace recengine
