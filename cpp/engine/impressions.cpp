#include "engine/impressions.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <unordered_set>

#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr std::array<std::string_view, 3> kNames{"none", "ips", "top_k"};
constexpr std::size_t kMaxCapacity = 100'000'000;

void require_setting(bool is_valid, std::string_view name, std::string_view range, double value) {
  if (!is_valid) throw std::invalid_argument(message(name, " must be ", range, ", not ", value));
}

bool is_same(const IdSpan& ids, std::size_t k, const Id& id) {
  return id.kind == IdKind::kString ? ids.string_at(k) == id.text : ids.ints[k] == id.number;
}

// Of a candidate by the softmax of the scores.
double softmax_of(const Decision& decision, std::uint32_t place) {
  double sum = 0;
  for (const float score : decision.scores) sum += std::exp(double{score} - double{decision.scores[place]});
  return 1 / sum;
}

}  // namespace

Correction parse_correction(std::string_view name) {
  for (std::uint32_t k = 0; k < kNames.size(); ++k) {
    if (kNames[k] == name) return static_cast<Correction>(k);
  }
  throw std::invalid_argument(message("correction must be 'none', 'ips' or 'top_k', not '", name, "'"));
}
std::string_view name_of(Correction correction) { return kNames[static_cast<std::size_t>(correction)]; }

void FeedbackSettings::validate() const {
  require_setting(capacity >= 1 && capacity <= kMaxCapacity, "capacity", "between 1 and 1e8",
                  static_cast<double>(capacity));
  require_setting(window > 0, "window", "positive", window);
  require_setting(clip > 0 && clip <= 1e6, "clip", "positive and at most 1e6", clip);
  require_setting(position_bias >= 0 && position_bias <= 10, "position_bias", "between 0 and 10", position_bias);
}

double feedback_weight(const FeedbackSettings& settings, const Decision& decision, std::size_t slot) {
  const double log_propensity = decision.log_propensities[slot];
  if (settings.correction == Correction::kNone || std::isnan(log_propensity)) return 1;
  const double shown = std::exp(log_propensity) * std::pow(static_cast<double>(slot + 1), -settings.position_bias);
  if (settings.correction == Correction::kInversePropensity) return std::min(settings.clip, 1 / shown);
  const double wanted = softmax_of(decision, decision.slate[slot]);
  const auto slots = static_cast<double>(decision.slate.size());
  return std::min(settings.clip, wanted / shown) * slots * std::pow(1 - wanted, slots - 1);
}

std::uint64_t Impressions::add(std::shared_ptr<const Decision> decision, double time) {
  const std::size_t slots = decision->slate.size();
  Impression impression{0, time, std::move(decision),
                        std::vector<float>(slots, std::numeric_limits<float>::quiet_NaN())};
  const std::lock_guard lock(mutex_);
  impression.number = next_;
  queue_.push_back(std::move(impression));
  if (queue_.size() > settings_.capacity) queue_.pop_front();
  return next_++;
}

Impressions::Place Impressions::find(std::uint64_t number, const Id& item, double now) const {
  const std::lock_guard lock(mutex_);
  const std::uint64_t first = next_ - queue_.size();
  if (number == 0 || number >= next_) throw UnknownId(message("unknown impression ", number));
  if (number < first) {
    throw UnknownId(message("impression ", number, " has expired: the latest ", settings_.capacity, " are kept"));
  }
  const Impression& impression = queue_[number - first];
  if (!impression.decision) throw UnknownId(message("impression ", number, " is gone: its user was removed"));
  if (now - impression.time > settings_.window) {
    throw UnknownId(message("impression ", number, " has expired: it was shown ", now - impression.time,
                            " s before, the window is ", settings_.window, " s"));
  }
  const Decision& decision = *impression.decision;
  const IdSpan candidates = decision.candidates.span();
  for (std::size_t slot = 0; slot < decision.slate.size() && candidates.kind == item.kind; ++slot) {
    if (is_same(candidates, decision.slate[slot], item)) return {impression.decision, slot};
  }
  throw UnknownId(message("impression ", number, " did not show item ", describe(item)));
}

void Impressions::add_reward(std::uint64_t number, std::size_t slot, float reward) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t first = next_ - queue_.size();
  if (number < first || !queue_[number - first].decision) return;
  float& sum = queue_[number - first].rewards[slot];
  sum = std::isnan(sum) ? reward : sum + reward;
}

void Impressions::forget(const IdSpan& users) {
  std::unordered_set<std::int64_t> numbers;
  std::unordered_set<std::string_view> texts;
  for (std::size_t k = 0; k < users.size; ++k) {
    if (users.kind == IdKind::kString) {
      texts.insert(users.string_at(k));
    } else {
      numbers.insert(users.ints[k]);
    }
  }
  const std::lock_guard lock(mutex_);
  for (Impression& impression : queue_) {
    if (!impression.decision || impression.decision->user.size() == 0) continue;
    const IdSpan user = impression.decision->user.span();
    if (user.kind != users.kind) continue;
    if (user.kind == IdKind::kString ? !texts.contains(user.string_at(0)) : !numbers.contains(user.ints[0])) continue;
    impression.decision.reset();
    impression.rewards = {};
  }
}

FeedbackSettings Impressions::settings() const {
  const std::lock_guard lock(mutex_);
  return settings_;
}

void Impressions::set_settings(const FeedbackSettings& settings) {
  settings.validate();
  const std::lock_guard lock(mutex_);
  settings_ = settings;
  while (queue_.size() > settings_.capacity) queue_.pop_front();
}

std::vector<Impression> Impressions::copy() const {
  const std::lock_guard lock(mutex_);
  std::vector<Impression> kept;
  for (const Impression& impression : queue_) {
    if (impression.decision) kept.push_back(impression);
  }
  return kept;
}

}  // namespace recengine
