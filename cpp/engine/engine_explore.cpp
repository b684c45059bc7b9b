// Exploration: a query's candidates, a policy's choice among them, and what is learned of it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <unordered_map>

#include "engine/engine.hpp"
#include "engine/query_parts.hpp"
#include "explore/slate.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

using Best = std::vector<Scored<float>>;
using Places = std::vector<std::uint32_t>;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

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

Uncertainty Engine::uncertainty_of(Row user, const Policy& policy) const {
  Uncertainty uncertainty;
  if (policy.precision == PrecisionKind::kShared) {
    uncertainty.factor = precisions_.shared_factor();
  } else {
    uncertainty.deviations.resize(model_.items.stride());
    precisions_.load_deviations(user, uncertainty.deviations.data());
  }
  return uncertainty;
}

std::vector<float> Engine::bias_deviations(std::span<const Row> items) const {
  std::vector<float> deviations;
  deviations.reserve(items.size());
  for (const Row item : items) deviations.push_back(precisions_.bias_deviation(item));
  return deviations;
}

Decision Engine::decide(const Id* user, const Asker& asker, const Best& found, std::size_t k,
                        std::span<const float> context, const ExploreOptions& explore, std::uint64_t seed) {
  const Policy& policy = explore.policy;
  const Diversity& diversity = explore.diversity;
  const std::size_t stride = model_.items.stride();
  Decision decision;
  decision.policy = policy;
  decision.diversity = diversity;
  decision.seed = seed;
  // Acquire: before anything is looked at.
  decision.removals = removals_.load(std::memory_order_acquire);
  decision.user_removals = user_removals_.load(std::memory_order_acquire);
  decision.context.assign(context.begin(), context.end());
  const std::size_t long_ago = asker.session.size() - std::min(asker.session.size(), kMaxLoggedHistory);
  for (const Row item : asker.session.subspan(long_ago)) {
    if (model_.items.is_live(item)) decision.history.append(model_.items.ids, item);
  }
  if (user != nullptr) decision.user.append(*user);

  std::vector<Row> items;
  items.reserve(found.size());
  decision.scores.reserve(found.size());
  const bool by_popularity = is_nobody(asker.user, asker.query);
  for (const auto& [score, row] : found) {
    if (!model_.items.is_live(row)) continue;  // removed meanwhile
    items.push_back(row);
    decision.scores.push_back(by_popularity ? popularity_score(score) : score);
  }
  AlignedFloats rows;
  if (policy.is_linear() || diversity.reorders()) rows = rows_of(items);
  if (diversity.kind == DiversityKind::kMaxPerGroup) decision.groups = numbered(filters_.groups_of(items));
  const bool is_greedy = policy.kind == PolicyKind::kGreedy, is_ucb = policy.kind == PolicyKind::kUcb;
  Places& slate = decision.slate;

  if (diversity.reorders() && !is_ucb) {
    // Diversity first: a policy that draws then draws from what it left.
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
      if (policy.is_linear()) rows = rows_of(items);
    }
  }
  const CandidateScores candidates{decision.scores, decision.groups, diversity.count};
  if (policy.is_closed()) {
    if (slate.empty()) {
      Slate drawn = draw_slate(policy, candidates, k, seed);
      slate = std::move(drawn.places);
      decision.log_propensities = std::move(drawn.log_propensities);
    }
  } else {
    const Uncertainty uncertainty = uncertainty_of(asker.user, policy);
    const std::vector<float> deviations = bias_deviations(items);
    const LinearCandidates linear{candidates, rows.data(), stride, deviations};
    if (is_ucb) {
      const std::vector<float> bounds = optimistic_scores(policy, linear, uncertainty);
      slate = diversity.reorders() ? reorder(diversity, bounds, rows.data(), stride, k)
                                   : best_places(bounds, candidates, k);
    } else {
      slate = thompson_slate(policy, linear, uncertainty, k, seed);
      if (policy.samples > 0) {
        Estimates estimates = thompson_propensities(policy, linear, uncertainty, slate, seed);
        decision.log_propensities = std::move(estimates.logs);
        decision.errors = std::move(estimates.errors);
      }
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
  if (user.kind == IdKind::kString) validate_id(user.text);  // it may be new, and be learned by its feedback
  const auto pin = pin_query();
  const Answer found = answer_user(user, wanted, options);
  Decision decision = decide(&user, found.asker, found.best, options.k, options.context, explore, seed_of(explore));
  decision.certified = found.certified;
  return decision;
}

Decision Engine::explore_history(const IdSpan& history, const QueryOptions& options, const ExploreOptions& explore) {
  const std::size_t wanted = num_candidates(options.k, explore);
  const auto pin = pin_query();
  const Answer found = answer_visitor(history, wanted, options);
  Decision decision = decide(nullptr, found.asker, found.best, options.k, options.context, explore, seed_of(explore));
  decision.certified = found.certified;
  return decision;
}

std::vector<Decision> Engine::explore_many(const IdSpan& users, const QueryOptions& options,
                                           const ExploreOptions& explore) {
  QueryOptions wanted = options;
  wanted.k = num_candidates(options.k, explore);
  const auto pin = pin_query();
  check_ids(model_.users.ids, users, "user");
  std::once_flag drawn;
  std::uint64_t seed = 0;  // drawn once there is an answer: a batch that is refused takes no number
  std::vector<Decision> decisions(users.size);
  bool certified = true;
  answer_many(users, wanted, certified, [&](std::size_t u, Row user, Best& best) {
    std::call_once(drawn, [&] { seed = seed_of(explore); });
    const Id id = id_at(users, u);
    decisions[u] = decide(&id, {user, {}, {}}, best, options.k, options.context, explore, Random(seed, u).next() >> 1);
    best = {};
  });
  for (Decision& decision : decisions) decision.certified = certified;
  return decisions;
}

}  // namespace recengine
