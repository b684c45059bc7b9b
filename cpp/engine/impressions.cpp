#include "engine/impressions.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr std::array<std::string_view, 3> kNames{"none", "ips", "top_k"};
constexpr std::size_t kMostImpressions = 100'000'000;
constexpr std::size_t kFilterBits = std::size_t{1} << 16;

void require_setting(bool is_valid, std::string_view name, std::string_view range, double value) {
  if (!is_valid) throw std::invalid_argument(message(name, " must be ", range, ", not ", value));
}

bool is_same(const IdSpan& ids, std::size_t k, const Id& id) {
  return id.kind == IdKind::kString ? ids.string_at(k) == id.text : ids.ints[k] == id.number;
}

// Ids, to be found among them by value.
class IdPlaces {
 public:
  static constexpr std::size_t kNone = ~std::size_t{0};

  explicit IdPlaces(const IdSpan& ids) : kind_(ids.kind) {
    for (std::size_t k = 0; k < ids.size; ++k) {
      if (kind_ == IdKind::kString) {
        texts_.try_emplace(ids.string_at(k), k);
      } else {
        numbers_.try_emplace(ids.ints[k], k);
      }
    }
  }
  // The first place of the same id; kNone: there is none.
  std::size_t of(const IdSpan& ids, std::size_t k) const {
    if (ids.kind != kind_) return kNone;
    return kind_ == IdKind::kString ? find(texts_, ids.string_at(k)) : find(numbers_, ids.ints[k]);
  }
  std::size_t of_user(const Impression& impression) const {
    if (!impression.decision || impression.decision->user.size() == 0) return kNone;
    return of(impression.decision->user.span(), 0);
  }

 private:
  template <class Map, class Key>
  static std::size_t find(const Map& map, const Key& key) {
    const auto found = map.find(key);
    return found == map.end() ? kNone : found->second;
  }

  const IdKind kind_;
  std::unordered_map<std::int64_t, std::size_t, IdHash> numbers_;
  std::unordered_map<std::string_view, std::size_t, IdHash> texts_;
};

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
  require_setting(capacity >= 1 && capacity <= kMostImpressions, "capacity", "between 1 and 1e8",
                  static_cast<double>(capacity));
  require_setting(window > 0, "window", "positive", window);
  require_setting(clip > 0 && clip <= 1e6, "clip", "positive and at most 1e6", clip);
  require_setting(position_bias >= 0 && position_bias <= 10, "position_bias", "between 0 and 10", position_bias);
}

std::shared_ptr<const Decision> without_items(const Decision& decision,
                                              const std::function<bool(const IdSpan&, std::size_t)>& is_gone) {
  const IdSpan candidates = decision.candidates.span(), history = decision.history.span();
  std::vector<std::uint32_t> removed;
  for (std::uint32_t place = 0; place < candidates.size; ++place) {
    if (decision.is_removed(place) || is_gone(candidates, place)) removed.push_back(place);
  }
  std::vector<std::size_t> kept;
  for (std::size_t k = 0; k < history.size; ++k) {
    if (!is_gone(history, k)) kept.push_back(k);
  }
  if (removed.size() == decision.removed.size() && kept.size() == history.size) return nullptr;
  auto without = std::make_shared<Decision>(decision);
  without->removed = std::move(removed);
  const Id blank{candidates.kind, 0, {}};
  without->candidates = {};
  for (std::uint32_t place = 0; place < candidates.size; ++place) {
    without->candidates.append(without->is_removed(place) ? blank : id_at(candidates, place));
  }
  without->history = {};
  for (const std::size_t k : kept) without->history.append(id_at(history, k));
  return without;
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

Impression prepare_impression(std::shared_ptr<const Decision> decision, double time) {
  const std::size_t slots = decision ? decision->slate.size() : 0;
  return {0, time, std::move(decision), std::vector<float>(slots, std::numeric_limits<float>::quiet_NaN())};
}

std::uint64_t Impressions::add(Impression impression) {
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
    if (decision.is_removed(decision.slate[slot]) || !is_same(candidates, decision.slate[slot], item)) continue;
    if (!is_removed(item, number)) return {impression.decision, slot};
  }
  throw UnknownId(message("impression ", number, " did not show item ", describe(item), ", or it was removed since"));
}

bool Impressions::add_reward(std::uint64_t number, std::size_t slot, float reward) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t first = next_ - queue_.size();
  if (number == 0 || number >= next_) return false;
  if (number < first || !queue_[number - first].decision) return true;
  Impression& impression = queue_[number - first];
  if (slot >= impression.rewards.size()) return false;
  float& sum = impression.rewards[slot];
  sum = std::isnan(sum) ? reward : sum + reward;
  return true;
}

std::vector<bool> Impressions::shown_to(const IdSpan& users) const {
  const IdPlaces places(users);
  std::vector<bool> is_shown(users.size);
  {
    const std::lock_guard lock(mutex_);
    for (const Impression& impression : queue_) {
      const std::size_t place = places.of_user(impression);
      if (place != IdPlaces::kNone) is_shown[place] = true;
    }
  }
  for (std::size_t k = 0; k < users.size; ++k)
    is_shown[k] = is_shown[places.of(users, k)];  // of one that is there twice
  return is_shown;
}

void Impressions::forget(const IdSpan& users) {
  const IdPlaces places(users);
  const std::lock_guard lock(mutex_);
  for (Impression& impression : queue_) {
    if (places.of_user(impression) == IdPlaces::kNone) continue;
    impression.decision.reset();
    impression.rewards = {};
  }
}

void Impressions::forget_items(const IdSpan& items) {
  const std::lock_guard lock(mutex_);
  for (std::size_t k = 0; k < items.size; ++k) {
    if (items.kind == IdKind::kString) {
      removed_texts_.insert_or_assign(std::string(items.string_at(k)), next_);
    } else {
      removed_numbers_.insert_or_assign(items.ints[k], next_);
    }
  }
}

bool Impressions::is_removed(const Id& item, std::uint64_t number) const {
  if (item.kind == IdKind::kString) {
    const auto found = removed_texts_.find(std::string(item.text));
    return found != removed_texts_.end() && number < found->second;
  }
  const auto found = removed_numbers_.find(item.number);
  return found != removed_numbers_.end() && number < found->second;
}

void Impressions::sweep() {
  const std::lock_guard lock(mutex_);
  sweep_locked();
}

void Impressions::sweep_locked() {
  if (removed_numbers_.empty() && removed_texts_.empty()) return;
  // Most ids are not among them, which a bit for their hash says.
  std::vector<bool> may_be(kFilterBits);
  for (const auto& [number, before] : removed_numbers_) may_be[IdMap::hash(number) % kFilterBits] = true;
  for (const auto& [text, before] : removed_texts_) may_be[IdMap::hash(std::string_view(text)) % kFilterBits] = true;
  for (Impression& impression : queue_) {
    if (!impression.decision) continue;
    const auto is_gone = [&](const IdSpan& ids, std::size_t k) {
      return may_be[hash_at(ids, k) % kFilterBits] && is_removed(id_at(ids, k), impression.number);
    };
    if (auto without = without_items(*impression.decision, is_gone)) impression.decision = std::move(without);
  }
  removed_numbers_.clear();
  removed_texts_.clear();
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

std::vector<Impression> Impressions::copy() {
  const std::lock_guard lock(mutex_);
  sweep_locked();
  std::vector<Impression> kept;
  for (const Impression& impression : queue_) {
    if (impression.decision) kept.push_back(impression);
  }
  return kept;
}

Impressions::Stored Impressions::stored() {
  const std::lock_guard lock(mutex_);
  sweep_locked();
  return {settings_, next_, {queue_.begin(), queue_.end()}};
}

void Impressions::restore(Stored stored) {
  const std::lock_guard lock(mutex_);
  settings_ = stored.settings;
  next_ = stored.next;
  queue_.assign(std::make_move_iterator(stored.queue.begin()), std::make_move_iterator(stored.queue.end()));
}

}  // namespace recengine
