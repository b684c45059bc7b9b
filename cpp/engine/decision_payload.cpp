#include "engine/decision_payload.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "storage/message.hpp"

namespace recengine {

namespace {

struct Choice {
  PolicyKind policy;
  PrecisionKind precision;
  std::uint32_t samples;
  DiversityKind diversity;
  double parameter, weight;
  std::uint64_t count, seed;
  std::uint32_t flags, slots, removed, features;
};
constexpr std::uint32_t kCertified = 1, kHasGroups = 2;  // older logs have no groups
static_assert(sizeof(Choice) == 64);

template <class T>
void put_vector(PayloadWriter& to, const std::vector<T>& values) {
  to.put_array(values.data(), values.size());
}

template <class T>
std::vector<T> get_vector(PayloadReader& from, std::size_t size) {
  const std::span<const T> values = from.get_array<T>(size);
  return {values.begin(), values.end()};
}

void put_all(PayloadWriter& to, const IdArray& ids) { to.put_ids(ids.span(), 0, ids.size()); }

IdArray get_all(PayloadReader& from) {
  PayloadIds ids;
  from.get_ids(ids);
  IdArray all;
  all.append(ids.span);
  return all;
}

void require_sound(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(message("a decision that cannot be kept: ", what));
}

// All different, and below the number of candidates.
void check_places(std::span<const std::uint32_t> places, std::size_t candidates) {
  std::vector<bool> is_there(candidates);
  for (const std::uint32_t place : places) {
    require_sound(place < candidates && !is_there[place], "a place among the candidates is out of range");
    is_there[place] = true;
  }
}

}  // namespace

void check_decision(const Decision& decision) {
  const auto all_finite = [](const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  };
  decision.policy.validate();
  decision.diversity.validate();
  require_sound(decision.seed <= std::numeric_limits<std::int64_t>::max(), "its seed is out of range");
  require_sound(decision.user.size() <= 1, "it is for several users");
  require_sound(decision.history.size() <= kMaxLoggedHistory, "its session is too long");
  const std::size_t candidates = decision.candidates.size(), slots = decision.slate.size();
  require_sound(candidates <= kMaxCandidates, "too many candidates");
  require_sound(decision.scores.size() == candidates && all_finite(decision.scores), "a score is not finite");
  check_places(decision.slate, candidates);
  require_sound(decision.log_propensities.size() == slots, "propensities of other slots");
  // NaN where none is known.
  for (const double log : decision.log_propensities) require_sound(!(log > 0), "a probability is above 1");
  require_sound(decision.errors.empty() || decision.errors.size() == slots, "errors of other slots");
  check_places(decision.removed, candidates);
  require_sound(std::is_sorted(decision.removed.begin(), decision.removed.end()), "removed places are out of order");
  require_sound(all_finite(decision.context), "its context is not finite");
  require_sound(decision.groups.empty() || decision.groups.size() == candidates, "groups of other candidates");
  for (const std::uint32_t group : decision.groups) require_sound(group <= candidates, "a group is out of range");
}

void put_decision(PayloadWriter& to, const Decision& decision) {
  const auto size = [](const auto& values) { return static_cast<std::uint32_t>(values.size()); };
  const std::uint32_t flags = (decision.certified ? kCertified : 0u) | (decision.groups.empty() ? 0u : kHasGroups);
  const Choice choice{decision.policy.kind,
                      decision.policy.precision,
                      decision.policy.samples,
                      decision.diversity.kind,
                      decision.policy.parameter,
                      decision.diversity.weight,
                      decision.diversity.count,
                      decision.seed,
                      flags,
                      size(decision.slate),
                      size(decision.removed),
                      size(decision.context)};
  to.put_array(&choice, 1);
  put_all(to, decision.user);
  put_all(to, decision.history);
  put_all(to, decision.candidates);
  put_vector(to, decision.scores);
  put_vector(to, decision.slate);
  put_vector(to, decision.log_propensities);
  to.put(std::uint64_t{decision.errors.size()});
  put_vector(to, decision.errors);
  put_vector(to, decision.removed);
  put_vector(to, decision.context);
  put_vector(to, decision.groups);
}

Decision get_decision(PayloadReader& from) {
  const Choice choice = from.get_array<Choice>(1)[0];
  Decision decision;
  require_payload(choice.policy <= PolicyKind::kSquareCb && choice.precision <= PrecisionKind::kShared &&
                      choice.diversity <= DiversityKind::kMaxPerGroup && choice.flags <= (kCertified | kHasGroups),
                  "a choice is of an unknown kind");
  decision.policy = {choice.policy, choice.parameter, choice.precision, choice.samples};
  decision.diversity = {choice.diversity, choice.weight, choice.count};
  decision.seed = choice.seed;
  decision.certified = (choice.flags & kCertified) != 0;
  decision.user = get_all(from);
  decision.history = get_all(from);
  decision.candidates = get_all(from);
  decision.scores = get_vector<float>(from, decision.candidates.size());
  decision.slate = get_vector<std::uint32_t>(from, choice.slots);
  decision.log_propensities = get_vector<double>(from, choice.slots);
  decision.errors = get_vector<double>(from, from.get<std::uint64_t>());
  decision.removed = get_vector<std::uint32_t>(from, choice.removed);
  decision.context = get_vector<float>(from, choice.features);
  if ((choice.flags & kHasGroups) != 0) decision.groups = get_vector<std::uint32_t>(from, decision.candidates.size());
  check_decision(decision);
  return decision;
}

}  // namespace recengine
