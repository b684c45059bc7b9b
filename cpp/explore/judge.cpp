#include "explore/judge.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "explore/slate.hpp"
#include "storage/interrupt.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {

// The probability of a candidate for the slot for which another one was drawn, with this log-propensity.
double share_beside(const Policy& policy, const CandidateScores& candidates, Remaining& remaining, std::uint32_t drawn,
                    double log_drawn, std::uint32_t place) {
  if (!remaining.contains(place)) return 0;
  if (policy.kind != PolicyKind::kSoftmax) return std::exp(log_propensity(policy, candidates, remaining, place));
  // Of the same sum of weights, which need not be formed again.
  const double gap = double{candidates.scores[place]} - double{candidates.scores[drawn]};
  return std::exp(log_drawn + gap / policy.parameter);
}

// How often lists of its own have the slot's candidate there.
std::vector<double> linear_marginals(const Policy& policy, const SortedList& list, const LinearCandidates& linear,
                                     const Uncertainty& uncertainty, std::size_t draws, std::uint64_t seed) {
  const std::size_t slots = list.num_slots();
  std::vector<double> shares(slots, 0.0);
  const auto count = [&](const std::vector<std::uint32_t>& own) {
    for (std::size_t slot = 0; slot < own.size(); ++slot) shares[slot] += own[slot] == list.slate()[slot];
  };
  if (policy.kind == PolicyKind::kUcb) {
    count(best_places(optimistic_scores(policy, linear, uncertainty), list.candidates(), slots));
    return shares;
  }
  for (std::size_t draw = 0; draw < draws; ++draw) {
    check_interrupt();
    count(thompson_slate(policy, linear, uncertainty, slots, Random(~seed, draw).next() >> 1));
  }
  for (double& share : shares) share /= static_cast<double>(draws);
  return shares;
}

void append(std::vector<double>& to, const std::vector<double>& values) {
  to.insert(to.end(), values.begin(), values.end());
}

}  // namespace

SortedList::SortedList(const ShownList& list) : list_(list) {
  const std::size_t count = list.scores.size();
  places_.reserve(count);
  for (std::uint32_t place = 0; place < count; ++place) {
    if (std::isfinite(list.scores[place])) places_.push_back(place);
  }
  const auto is_before = [&list](std::uint32_t a, std::uint32_t b) { return list.scores[a] > list.scores[b]; };
  if (!std::is_sorted(places_.begin(), places_.end(), is_before)) {
    std::stable_sort(places_.begin(), places_.end(), is_before);
  }
  std::vector<std::uint32_t> ranks(count, kNotThere);
  scores_.reserve(places_.size());
  for (std::uint32_t rank = 0; rank < places_.size(); ++rank) {
    scores_.push_back(list.scores[places_[rank]]);
    if (!list.groups.empty()) groups_.push_back(list.groups[places_[rank]]);
    ranks[places_[rank]] = rank;
  }
  // Groups by the numbers that `Remaining` counts them with: below the number of candidates.
  if (!groups_.empty()) {
    std::vector<std::uint32_t> labels(groups_);
    std::sort(labels.begin(), labels.end());
    labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
    const std::uint32_t first = labels.front() == 0 ? 0 : 1;
    for (std::uint32_t& group : groups_) {
      group =
          first + static_cast<std::uint32_t>(std::lower_bound(labels.begin(), labels.end(), group) - labels.begin());
    }
  }
  for (const std::uint32_t place : list.slate) slate_.push_back(ranks[place]);
}

std::vector<std::uint32_t> SortedList::best() const {
  Remaining remaining(candidates());
  std::vector<std::uint32_t> best;
  while (best.size() < num_slots() && remaining.size() > 0) {
    best.push_back(remaining.best());
    remaining.take(best.back());
  }
  return best;
}

void SortedList::add_target(std::span<const double> shares, std::vector<double>& target) const {
  for (std::size_t slot = 0; slot < num_slots(); ++slot) {
    const double share = slate_[slot] == kNotThere ? 0.0 : shares[slot * size() + slate_[slot]];
    target.push_back(std::min(share, 1.0));  // the sum of rounded numbers
  }
}

void SortedList::add_means(std::span<const double> shares, std::vector<double>& means) const {
  const std::size_t width = list_.width, begin = means.size();
  means.resize(begin + num_slots() * width, 0.0);
  for (std::size_t slot = 0; slot < num_slots(); ++slot) {
    double* const mean = means.data() + begin + slot * width;
    for (std::size_t rank = 0; rank < size(); ++rank) {
      const double share = shares[slot * size() + rank];
      if (share == 0) continue;
      const double* const features = list_.features.data() + places_[rank] * width;
      for (std::size_t f = 0; f < width; ++f) mean[f] += share * features[f];
    }
  }
}

std::vector<double> marginals_of(const Policy& policy, const ShownList& shown, std::size_t draws, std::uint64_t seed) {
  const SortedList list(shown);
  return drawn_marginals(policy, list.candidates(), list.slate(), draws, seed);
}

std::vector<double> drawn_marginals(const Policy& policy, const CandidateScores& candidates,
                                    std::span<const std::uint32_t> slate, std::size_t draws, std::uint64_t seed) {
  const std::size_t slots = slate.size();
  std::vector<double> shares(slots, 0.0);
  if (slots == 0 || candidates.scores.empty()) return shares;
  if (policy.kind == PolicyKind::kRandom && candidates.groups.empty()) {
    const std::size_t count = candidates.scores.size();
    for (std::size_t slot = 0; slot < slots; ++slot)
      shares[slot] = slate[slot] < count ? 1 / static_cast<double>(count) : 0;
    return shares;
  }
  if (policy.kind == PolicyKind::kGreedy || slots == 1) draws = 1;  // nothing is left to chance above any slot
  for (std::size_t draw = 0; draw < draws; ++draw) {
    check_interrupt();
    const Slate own = draw_slate(policy, candidates, slots, Random(seed, draw).next() >> 1);
    Remaining remaining(candidates);
    for (std::size_t slot = 0; slot < own.places.size(); ++slot) {
      const std::uint32_t drawn = own.places[slot];
      shares[slot] += share_beside(policy, candidates, remaining, drawn, own.log_propensities[slot], slate[slot]);
      remaining.take(drawn);
    }
  }
  for (double& share : shares) share /= static_cast<double>(draws);
  return shares;
}

void judge(const Policy& policy, const ShownList& shown, std::size_t draws, std::uint64_t seed, Views& views) {
  const SortedList list(shown);
  const CandidateScores candidates = list.candidates();
  const std::vector<double> shares = slot_propensities(policy, candidates, list.slate(), list.num_slots());
  list.add_target(shares, views.target);
  list.add_means(shares, views.expected);
  // One slot is below nothing.
  list.add_means(list.num_slots() <= 1 ? shares : slot_propensities(policy, candidates, list.best(), list.num_slots()),
                 views.ahead);
  if (draws > 0) append(views.marginals, drawn_marginals(policy, candidates, list.slate(), draws, seed));
}

void judge(const Policy& policy, const SortedList& list, const LinearCandidates& linear, const Uncertainty& uncertainty,
           std::size_t draws, std::uint64_t seed, Views& views) {
  const auto shares_below = [&](std::span<const std::uint32_t> slate) {
    return linear_slot_propensities(policy, linear, uncertainty, slate, list.num_slots(), seed);
  };
  const std::vector<double> shares = shares_below(list.slate());
  list.add_target(shares, views.target);
  list.add_means(shares, views.expected);
  list.add_means(list.num_slots() <= 1 ? shares : shares_below(list.best()), views.ahead);
  if (draws > 0) append(views.marginals, linear_marginals(policy, list, linear, uncertainty, draws, seed));
}

}  // namespace recengine
