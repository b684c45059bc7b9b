#include "explore/slate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "explore/draws.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

using Places = std::vector<std::uint32_t>;
constexpr std::size_t kSlotsPerCheck = 64;
constexpr double kNever = -std::numeric_limits<double>::infinity();

// SquareCB (Foster and Rakhlin 2020): of m candidates left each but the best has the probability
// 1 / (m + gamma (best score - its score)), the best has the rest.
double squarecb_share(const CandidateScores& candidates, double gamma, std::size_t left, std::uint32_t best,
                      std::uint32_t place) {
  const double gap = double{candidates.scores[best]} - double{candidates.scores[place]};
  return 1 / (static_cast<double>(left) + gamma * gap);
}

std::uint32_t draw_squarecb(const CandidateScores& candidates, double gamma, Remaining& remaining, Draws& draws) {
  const std::uint32_t best = remaining.best();
  double left = draws.uniform();
  for (const std::uint32_t place : remaining.places()) {
    if (place == best) continue;
    left -= squarecb_share(candidates, gamma, remaining.size(), best, place);
    if (left < 0) return place;
  }
  return best;
}

// Plackett and Luce by the Gumbel trick, for groups and for weights that no double holds (Yellott 1977; Kool, van Hoof
// and Welling 2019): the k largest of score / temperature + Gumbel noise, in that order.
Places draw_softmax(const CandidateScores& candidates, double temperature, std::size_t k, Draws& draws) {
  struct Key {
    double value;
    std::uint32_t place;
    bool operator<(const Key& other) const { return value > other.value; }
  };
  const std::size_t count = candidates.scores.size();
  std::vector<Key> keys(count);
  const double sharpness = 1 / temperature;
  for (std::uint32_t place = 0; place < count; ++place) {
    keys[place] = {double{candidates.scores[place]} * sharpness + draws.gumbel(), place};
  }
  const bool limited = !candidates.groups.empty();
  const auto middle = keys.begin() + static_cast<std::ptrdiff_t>(limited ? count : std::min(k, count));
  if (middle != keys.end()) std::nth_element(keys.begin(), middle, keys.end());
  std::sort(keys.begin(), middle);
  Places slate;
  slate.reserve(k);
  if (!limited) {
    for (auto key = keys.begin(); key != middle; ++key) slate.push_back(key->place);
    return slate;
  }
  // Those left keep the order of their keys, whatever has gone: skipping a full group is drawing among the others.
  Remaining remaining(candidates);
  for (const Key& key : keys) {
    if (slate.size() == k) break;
    if (!remaining.contains(key.place)) continue;
    remaining.take(key.place);
    slate.push_back(key.place);
  }
  return slate;
}

// The same distribution from its definition, slot by slot: a number below the sum of the weights that are left falls to
// the candidate in whose weight it lies. Sums are of blocks, and a block's is formed anew when it changes, so that
// nothing cancels. REQUIRES: no groups, and weights that are all positive as doubles.
Slate draw_weighted(const CandidateScores& candidates, double temperature, std::size_t k, Draws& draws) {
  constexpr std::size_t kBlock = 16;
  const std::size_t count = candidates.scores.size(), blocks = (count + kBlock - 1) / kBlock;
  const double sharpness = 1 / temperature;
  k = std::min(k, count);
  std::vector<double> weights(blocks * kBlock, 0.0), sums(blocks, 0.0);
  for (std::size_t place = 0; place < count; ++place) {
    weights[place] = std::exp((double{candidates.scores[place]} - double{candidates.scores[0]}) * sharpness);
  }
  const auto add_up = [&](std::size_t block) {
    const double* const from = weights.data() + block * kBlock;
    double parts[4] = {from[0], from[1], from[2], from[3]};  // four chains of additions at once
    for (std::size_t i = 4; i < kBlock; ++i) parts[i % 4] += from[i];
    sums[block] = (parts[0] + parts[1]) + (parts[2] + parts[3]);
  };
  for (std::size_t block = 0; block < blocks; ++block) add_up(block);
  Slate slate{Places(k), std::vector<double>(k)};
  for (std::size_t slot = 0; slot < k; ++slot) {
    double total = 0;
    for (const double sum : sums) total += sum;
    double at = draws.uniform() * total;
    std::size_t block = 0;
    for (; block + 1 < blocks && at >= sums[block]; ++block) at -= sums[block];
    while (sums[block] == 0) --block;  // rounding led beyond the last one
    std::size_t place = 0;
    for (std::size_t i = block * kBlock; i < (block + 1) * kBlock; ++i) {
      if (weights[i] == 0) continue;
      place = i;
      if (at < weights[i]) break;
      at -= weights[i];
    }
    slate.places[slot] = static_cast<std::uint32_t>(place);
    slate.log_propensities[slot] = std::min(std::log(weights[place] / total), 0.0);
    weights[place] = 0;
    add_up(block);
  }
  return slate;
}

// Backwards: what is left for a slot is what was left for the next one, and its own candidate. No sum is ever taken of
// what has been subtracted from, so that nothing cancels.
std::vector<double> log_softmax(const CandidateScores& candidates, double temperature,
                                std::span<const std::uint32_t> slate) {
  const std::size_t count = candidates.scores.size();
  const double sharpness = 1 / temperature;
  std::vector<unsigned char> chosen(count, 0);
  std::vector<double> logs(slate.size());
  for (const std::uint32_t place : slate) chosen[place] = 1;
  double largest = kNever;
  for (std::uint32_t place = 0; place < count; ++place) {
    if (chosen[place] == 0) largest = std::max(largest, double{candidates.scores[place]} * sharpness);
  }
  double sum = 0;  // of the rest, over exp(largest)
  for (std::uint32_t place = 0; place < count; ++place) {
    if (chosen[place] == 0) sum += std::exp(double{candidates.scores[place]} * sharpness - largest);
  }
  for (std::size_t slot = slate.size(); slot-- > 0;) {
    const double own = double{candidates.scores[slate[slot]]} * sharpness;
    if (own > largest) {
      sum = sum * std::exp(largest - own) + 1;
      largest = own;
    } else {
      sum += std::exp(own - largest);
    }
    logs[slot] = std::min(own - largest - std::log(sum), 0.0);
  }
  return logs;
}

double log_softmax_of_one(const CandidateScores& candidates, double temperature, const Remaining& remaining,
                          std::uint32_t place) {
  double largest = kNever, sum = 0;
  for (const std::uint32_t other : remaining.places()) {
    largest = std::max(largest, double{candidates.scores[other]} / temperature);
  }
  for (const std::uint32_t other : remaining.places()) {
    sum += std::exp(double{candidates.scores[other]} / temperature - largest);
  }
  return double{candidates.scores[place]} / temperature - largest - std::log(sum);
}

// Of the next slot, added to the places of all candidates.
void add_shares(const Policy& policy, const CandidateScores& candidates, Remaining& remaining, double* shares) {
  const std::span<const std::uint32_t> places = remaining.places();
  const std::uint32_t best = remaining.best();
  const auto left = static_cast<double>(places.size());
  double others = 0;
  switch (policy.kind) {
    case PolicyKind::kRandom:
      for (const std::uint32_t place : places) shares[place] = 1 / left;
      return;
    case PolicyKind::kEpsilonGreedy:
      for (const std::uint32_t place : places) shares[place] = policy.parameter / left;
      shares[best] += 1 - policy.parameter;
      return;
    case PolicyKind::kSoftmax:
      for (const std::uint32_t place : places) {
        const double gap = double{candidates.scores[place]} - double{candidates.scores[best]};
        others += shares[place] = std::exp(gap / policy.parameter);
      }
      for (const std::uint32_t place : places) shares[place] /= others;
      return;
    case PolicyKind::kSquareCb:
      for (const std::uint32_t place : places) {
        if (place != best)
          others += shares[place] = squarecb_share(candidates, policy.parameter, places.size(), best, place);
      }
      shares[best] = 1 - others;
      return;
    case PolicyKind::kGreedy:
    case PolicyKind::kThompson:
    case PolicyKind::kUcb:
      shares[best] = 1;
  }
}

}  // namespace

double log_propensity(const Policy& policy, const CandidateScores& candidates, Remaining& remaining,
                      std::uint32_t place) {
  const auto left = static_cast<double>(remaining.size());
  switch (policy.kind) {
    case PolicyKind::kGreedy:
      return place == remaining.best() ? 0 : kNever;
    case PolicyKind::kRandom:
      return std::log(1 / left);
    case PolicyKind::kEpsilonGreedy:
      return std::log(policy.parameter / left + (place == remaining.best() ? 1 - policy.parameter : 0));
    case PolicyKind::kSoftmax:
      return log_softmax_of_one(candidates, policy.parameter, remaining, place);
    case PolicyKind::kSquareCb: {
      const std::uint32_t best = remaining.best();
      if (place != best) {
        return std::log(squarecb_share(candidates, policy.parameter, remaining.size(), best, place));
      }
      double others = 0;
      for (const std::uint32_t other : remaining.places()) {
        if (other != best) others += squarecb_share(candidates, policy.parameter, remaining.size(), best, other);
      }
      return std::log1p(-others);
    }
    case PolicyKind::kThompson:
    case PolicyKind::kUcb:
      break;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

Slate draw_slate(const Policy& policy, const CandidateScores& candidates, std::size_t k, std::uint64_t seed) {
  Draws draws(seed);
  Slate slate;
  if (policy.kind == PolicyKind::kSoftmax) {
    constexpr double kRange = 600;  // exp(-600) is far from the least double
    const std::span<const float> scores = candidates.scores;
    const bool fits = scores.empty() || (double{scores.front()} - double{scores.back()}) / policy.parameter <= kRange;
    if (candidates.groups.empty() && fits) return draw_weighted(candidates, policy.parameter, k, draws);
    slate.places = draw_softmax(candidates, policy.parameter, k, draws);
  } else {
    Remaining remaining(candidates);
    while (slate.places.size() < k && remaining.size() > 0) {
      if (slate.places.size() % kSlotsPerCheck == kSlotsPerCheck - 1) check_interrupt();
      const auto any = [&] { return remaining.places()[draws.below(static_cast<std::uint32_t>(remaining.size()))]; };
      std::uint32_t place = remaining.best();
      if (policy.kind == PolicyKind::kRandom ||
          (policy.kind == PolicyKind::kEpsilonGreedy && policy.parameter > 0 && draws.uniform() < policy.parameter)) {
        place = any();
      } else if (policy.kind == PolicyKind::kSquareCb) {
        place = draw_squarecb(candidates, policy.parameter, remaining, draws);
      }
      remaining.take(place);
      slate.places.push_back(place);
    }
  }
  slate.log_propensities = log_propensities(policy, candidates, slate.places);
  return slate;
}

std::vector<double> log_propensities(const Policy& policy, const CandidateScores& candidates,
                                     std::span<const std::uint32_t> slate) {
  if (policy.kind == PolicyKind::kSoftmax && candidates.groups.empty()) {
    return log_softmax(candidates, policy.parameter, slate);
  }
  Remaining remaining(candidates);
  std::vector<double> logs;
  logs.reserve(slate.size());
  for (const std::uint32_t place : slate) {
    if (logs.size() % kSlotsPerCheck == kSlotsPerCheck - 1) check_interrupt();
    if (!remaining.contains(place)) {  // twice, or of a full group: never, and what follows is given the impossible
      logs.resize(slate.size(), kNever);
      break;
    }
    logs.push_back(log_propensity(policy, candidates, remaining, place));
    remaining.take(place);
  }
  return logs;
}

std::vector<double> first_propensities(const Policy& policy, const CandidateScores& candidates) {
  return slot_propensities(policy, candidates, {}, 1);
}

std::vector<double> slot_propensities(const Policy& policy, const CandidateScores& candidates,
                                      std::span<const std::uint32_t> slate, std::size_t slots) {
  const std::size_t count = candidates.scores.size();
  std::vector<double> shares(slots * count, 0.0);
  Remaining remaining(candidates);
  for (std::size_t slot = 0; slot < slots && remaining.size() > 0; ++slot) {
    if (slot % kSlotsPerCheck == kSlotsPerCheck - 1) check_interrupt();
    add_shares(policy, candidates, remaining, shares.data() + slot * count);
    if (slot + 1 == slots || !remaining.contains(slate[slot])) break;
    remaining.take(slate[slot]);
  }
  return shares;
}

std::vector<std::uint32_t> best_places(std::span<const float> scores, const CandidateScores& candidates,
                                       std::size_t k) {
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

}  // namespace recengine
