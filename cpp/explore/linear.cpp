#include "explore/linear.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr std::size_t kDrawsTogether = 64;  // draws under way at once

// Scores of several draws: noise, candidates x width, padded to whole cache lines.
class NoisyScores {
 public:
  NoisyScores(const Policy& policy, const LinearCandidates& candidates, const Uncertainty& uncertainty)
      : scale_(static_cast<float>(policy.parameter)), candidates_(candidates), uncertainty_(uncertainty) {}

  void draw(std::size_t count, Draws& draws) {
    const std::size_t stride = candidates_.stride, size = candidates_.candidates.scores.size();
    width_ = (count + kRowPadding - 1) / kRowPadding * kRowPadding;
    directions_.resize(stride * width_);
    draws.normals(directions_);
    if (uncertainty_.factor) {
      turned_.assign(stride * width_, 0.0f);
      active_kernels().multiply(uncertainty_.factor->data(), stride, 1, directions_.data(), stride, turned_.data(),
                                stride, width_);
      directions_.swap(turned_);
    } else {
      for (std::size_t d = 0; d < stride; ++d) {
        for (std::size_t w = 0; w < width_; ++w) directions_[d * width_ + w] *= uncertainty_.deviations[d];
      }
    }
    noise_.resize(size * width_);
    draws.normals(noise_);
    for (std::size_t i = 0; i < size; ++i) {
      for (std::size_t w = 0; w < width_; ++w) noise_[i * width_ + w] *= candidates_.bias_deviations[i];
    }
    active_kernels().multiply(candidates_.rows, stride, 1, directions_.data(), stride, noise_.data(), size, width_);
  }
  float score(std::uint32_t place, std::size_t draw) const {
    return candidates_.candidates.scores[place] + scale_ * noise_[place * width_ + draw];
  }
  // Of what is left, in a draw; of equal ones the lower place.
  std::uint32_t best(const Remaining& remaining, std::size_t draw) const {
    std::uint32_t best = remaining.places()[0];
    float most = score(best, draw);
    for (const std::uint32_t place : remaining.places()) {
      const float value = score(place, draw);
      if (value > most || (value == most && place < best)) {
        most = value;
        best = place;
      }
    }
    return best;
  }
  // The same in each draw.
  std::span<const std::uint32_t> bests(const Remaining& remaining) {
    most_.assign(width_, -std::numeric_limits<float>::infinity());
    best_.assign(width_, ~0u);
    float* const most = most_.data();
    std::uint32_t* const best = best_.data();
    for (const std::uint32_t place : remaining.places()) {
      const float score = candidates_.candidates.scores[place];
      const float* const noise = noise_.data() + place * width_;
      for (std::size_t draw = 0; draw < width_; ++draw) {  // without branches: several at a time
        const float value = score + scale_ * noise[draw];
        const bool wins = value > most[draw] || (value == most[draw] && place < best[draw]);
        most[draw] = wins ? value : most[draw];
        best[draw] = wins ? place : best[draw];
      }
    }
    return best_;
  }

 private:
  const float scale_;
  const LinearCandidates& candidates_;
  const Uncertainty& uncertainty_;
  std::size_t width_ = 0;
  AlignedFloats directions_, turned_, noise_;
  std::vector<float> most_;
  std::vector<std::uint32_t> best_;
};

}  // namespace

std::vector<float> optimistic_scores(const Policy& policy, const LinearCandidates& candidates,
                                     const Uncertainty& uncertainty) {
  const Kernels& kernels = active_kernels();
  const std::size_t stride = candidates.stride, size = candidates.candidates.scores.size();
  AlignedFloats spread(size * stride, 0.0f);
  if (uncertainty.factor) {
    kernels.multiply(candidates.rows, stride, 1, uncertainty.factor->data(), stride, spread.data(), size, stride);
  } else {
    for (std::size_t i = 0; i < size; ++i) {
      for (std::size_t d = 0; d < stride; ++d) {
        spread[i * stride + d] = candidates.rows[i * stride + d] * uncertainty.deviations[d];
      }
    }
  }
  std::vector<float> scores(size);
  kernels.square_norms(spread.data(), size, stride, scores.data());
  const auto alpha = static_cast<float>(policy.parameter);
  for (std::size_t i = 0; i < size; ++i) {
    const float bias = candidates.bias_deviations[i];
    scores[i] = candidates.candidates.scores[i] + alpha * std::sqrt(scores[i] + bias * bias);
  }
  return scores;
}

std::vector<std::uint32_t> thompson_slate(const Policy& policy, const LinearCandidates& candidates,
                                          const Uncertainty& uncertainty, std::size_t k, std::uint64_t seed) {
  Draws draws(seed);
  NoisyScores noisy(policy, candidates, uncertainty);
  Remaining remaining(candidates.candidates);
  std::vector<std::uint32_t> slate;
  while (slate.size() < k && remaining.size() > 0) {
    const std::size_t draw = slate.size() % kDrawsTogether;
    if (draw == 0) {
      noisy.draw(std::min({kDrawsTogether, k - slate.size(), remaining.size()}), draws);
      check_interrupt();
    }
    slate.push_back(noisy.best(remaining, draw));
    remaining.take(slate.back());
  }
  return slate;
}

Estimates thompson_propensities(const Policy& policy, const LinearCandidates& candidates,
                                const Uncertainty& uncertainty, std::span<const std::uint32_t> slate,
                                std::uint64_t seed) {
  Draws draws(~seed);  // others than chose the slate
  NoisyScores noisy(policy, candidates, uncertainty);
  std::vector<std::size_t> wins(slate.size(), 0);
  for (std::size_t first = 0; first < policy.samples; first += kDrawsTogether) {
    const std::size_t count = std::min<std::size_t>(kDrawsTogether, policy.samples - first);
    noisy.draw(count, draws);
    check_interrupt();
    Remaining remaining(candidates.candidates);
    for (std::size_t slot = 0; slot < slate.size(); ++slot) {
      if (slot % kDrawsTogether == kDrawsTogether - 1) check_interrupt();
      const std::span<const std::uint32_t> best = noisy.bests(remaining).first(count);
      wins[slot] += static_cast<std::size_t>(std::count(best.begin(), best.end(), slate[slot]));
      remaining.take(slate[slot]);
    }
  }
  Estimates estimates;
  const double samples = policy.samples + 1.0;
  for (const std::size_t won : wins) {
    const double share = (static_cast<double>(won) + 0.5) / samples;
    estimates.logs.push_back(std::log(share));
    estimates.errors.push_back(std::sqrt((1 - share) / (share * samples)));
  }
  return estimates;
}

std::vector<double> linear_slot_propensities(const Policy& policy, const LinearCandidates& candidates,
                                             const Uncertainty& uncertainty, std::span<const std::uint32_t> slate,
                                             std::size_t slots, std::uint64_t seed) {
  const std::size_t size = candidates.candidates.scores.size();
  std::vector<double> shares(slots * size, 0.0);
  // `choose(remaining, shares)` of one slot after the other.
  const auto each_slot = [&](const auto& choose) {
    Remaining remaining(candidates.candidates);
    for (std::size_t slot = 0; slot < slots && remaining.size() > 0; ++slot) {
      if (slot % kDrawsTogether == kDrawsTogether - 1) check_interrupt();
      choose(remaining, shares.data() + slot * size);
      if (slot + 1 == slots || !remaining.contains(slate[slot])) break;
      remaining.take(slate[slot]);
    }
  };
  if (policy.kind == PolicyKind::kUcb) {
    const std::vector<float> scores = optimistic_scores(policy, candidates, uncertainty);
    each_slot([&](const Remaining& remaining, double* own) {
      const auto places = remaining.places();
      own[*std::min_element(places.begin(), places.end(), [&scores](std::uint32_t a, std::uint32_t b) {
        return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
      })] = 1;
    });
    return shares;
  }
  Draws draws(seed);
  NoisyScores noisy(policy, candidates, uncertainty);
  for (std::size_t first = 0; first < policy.samples; first += kDrawsTogether) {
    const std::size_t count = std::min<std::size_t>(kDrawsTogether, policy.samples - first);
    noisy.draw(count, draws);
    check_interrupt();
    each_slot([&](const Remaining& remaining, double* own) {
      for (const std::uint32_t best : noisy.bests(remaining).first(count)) own[best] += 1;
    });
  }
  for (double& share : shares) share /= policy.samples;
  return shares;
}

}  // namespace recengine
