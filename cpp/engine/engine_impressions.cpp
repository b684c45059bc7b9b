// What was shown and what came of it: changes like others, logged where there is a log.
#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "engine/decision_payload.hpp"
#include "engine/engine.hpp"
#include "engine/replay.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr float kMostReward = 1e6f;

struct FeedbackPlace {
  std::uint32_t slot;
  float reward;
};
static_assert(sizeof(FeedbackPlace) == 8);

}  // namespace

// Its items make the linear model more certain.
void Engine::observe(const Decision& decision) {
  std::vector<Row> shown;
  const IdSpan candidates = decision.candidates.span();
  for (const std::uint32_t place : decision.slate) {
    if (decision.is_removed(place)) continue;
    const Row row = find(model_.items.ids, id_at(candidates, place));
    if (row != kNoRow) shown.push_back(row);
  }
  const Row user = decision.user.size() == 0 ? kNoRow : find(model_.users.ids, id_at(decision.user.span(), 0));
  if (decision.policy.is_linear() && decision.policy.precision == PrecisionKind::kShared) precisions_.keep_shared();
  precisions_.observe(user, rows_of(shown).data(), shown.size());
  precisions_.observe_items(shown);
}

// As it may be kept: nothing of what was removed since it was made. Null if its user was, or may have been: whoever was
// not known then, and is not now, may have come and gone in between. REQUIRES: a writer's pin.
std::shared_ptr<const Decision> Engine::without_removed(std::shared_ptr<const Decision> decision) const {
  if (decision->removals == removals_.load(std::memory_order_acquire)) return decision;
  if (decision->user.size() > 0 && decision->user_removals != user_removals_.load(std::memory_order_acquire) &&
      find(model_.users.ids, id_at(decision->user.span(), 0)) == kNoRow) {
    return nullptr;
  }
  const auto is_gone = [this](const IdSpan& ids, std::size_t k) {
    return find(model_.items.ids, id_at(ids, k)) == kNoRow;
  };
  auto without = without_items(*decision, is_gone);
  return without ? without : decision;
}

std::uint64_t Engine::impression(std::shared_ptr<const Decision> decision, double timestamp) {
  const bool is_timed = !std::isnan(timestamp);
  if (is_timed) check_.require_timestamp(timestamp);
  check_decision(*decision);  // what could not be read again must not be written
  check_writable();
  std::uint64_t record = 0, number = 0;
  {
    const auto pin = domain_.pin_writer();
    check_kind(model_.items.ids, decision->candidates.kind, "item");
    check_kind(model_.users.ids, decision->user.kind, "user");
    if (decision->policy.is_linear() && decision->policy.precision == PrecisionKind::kShared) {
      precisions_.check_shared();
    }
    decision = without_removed(std::move(decision));
    // The first id of a user that is kept settles what all are.
    if (decision && decision->user.size() > 0) model_.users.ids.claim_kind(decision->user.kind);
    const double time = is_timed ? timestamp : clock();
    Impression shown = prepare_impression(decision, time);
    const auto encode = [&](PayloadWriter& to) {
      to.put(time);
      to.put(decisions_.load(std::memory_order_relaxed));
      to.put(std::uint64_t{decision ? 1u : 0u});
      if (decision) put_decision(to, *decision);
    };
    // Numbers follow the order of the log.
    record = logged_in_order(RecordKind::kImpression, is_timed ? kHasTimestamps : 0u, encode,
                             [&] { number = impressions_.add(std::move(shown)); });
    const auto observe_it = [&] {
      if (is_timed) saw_timestamp(timestamp);
      if (decision) observe(*decision);
    };
    if (journal_) {
      journal_->apply(observe_it);
    } else {
      observe_it();
    }
  }
  acknowledge(record);
  return number;
}

double Engine::feedback(std::uint64_t number, const Id& item, float reward, double timestamp, bool learn) {
  if (!(std::abs(reward) <= kMostReward)) {
    throw std::invalid_argument(message("reward must be a number within 1e6, not ", reward));
  }
  const bool is_timed = !std::isnan(timestamp);
  if (is_timed) check_.require_timestamp(timestamp);
  check_writable();
  const bool ranks = settings_.objective == Objective::kSoftmax || settings_.objective == Objective::kBpr;
  float value = reward, size = 1;
  if (settings_.objective != Objective::kSquared) {
    value = reward > 0 ? 1.0f : ranks ? -1.0f : 0.0f;
    if (reward != 0) size = std::abs(reward);
  }
  double weight = 1;
  std::uint64_t record = 0;
  {
    std::optional pin(domain_.pin_writer());
    std::optional<Claims> claims;
    const double now = is_timed ? timestamp : clock();
    const Impressions::Place place = impressions_.find(number, item, now);
    const IdSpan asker = place.decision->user.span();
    weight = asker.size == 0 ? 0 : feedback_weight(impressions_.settings(), *place.decision, place.slot);
    const Joined joined{number, place.slot, reward};
    const bool teaches = learn && !(ranks && reward == 0) && asker.size > 0;
    if (teaches && find(model_.items.ids, item) != kNoRow) {
      const Id user = id_at(asker, 0);
      const auto counted = static_cast<float>(std::min(weight * double{size}, settings_.limits.max_weight));
      check_.require(user, item, value, counted);
      if (is_bounded()) {
        claim_rows(user, item, claims.emplace(user_capacity_, item_capacity_), pin);
        impressions_.find(number, item, now);  // the pin may have been let go
      }
      record = learn_pinned(user, item, value, counted, timestamp, {}, &joined, claims ? &*claims : nullptr);
    } else {
      const auto encode = [&](PayloadWriter& to) {
        put_joined(to, joined);
        to.put(is_timed ? timestamp : latest_timestamp());
      };
      record = logged_in_order(RecordKind::kFeedback, is_timed ? kHasTimestamps : 0u, encode, [&] { join(joined); });
      if (is_timed) saw_timestamp(timestamp);
    }
  }
  acknowledge(record);
  return weight;
}

void Engine::join(const Joined& joined) { impressions_.add_reward(joined.number, joined.slot, joined.reward); }

void Engine::put_joined(PayloadWriter& to, const Joined& joined) {
  to.put(joined.number);
  to.put(FeedbackPlace{static_cast<std::uint32_t>(joined.slot), joined.reward});
}

void Engine::set_feedback_settings(const FeedbackSettings& settings) {
  settings.validate();
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto encode = [&](PayloadWriter& to) {
      to.put(std::uint64_t{settings.capacity});
      to.put(std::uint64_t{static_cast<std::uint32_t>(settings.correction)});
      to.put(settings.window);
      to.put(settings.clip);
      to.put(settings.position_bias);
    };
    record = logged_in_order(RecordKind::kFeedbackSettings, 0, encode, [&] { impressions_.set_settings(settings); });
  }
  acknowledge(record);
}

void Engine::replay_impression(std::uint32_t flags, PayloadReader& payload) {
  require_payload((flags & ~kHasTimestamps) == 0, "unknown columns");
  auto time = payload.get<double>();
  const bool is_timed = (flags & kHasTimestamps) != 0;
  require_payload(std::abs(time) <= kMaxTimestamp || (!is_timed && std::isnan(time)), "a timestamp is out of range");
  if (!is_timed && std::isnan(clock())) time = clock();  // 0 in older logs
  const auto decisions = payload.get<std::uint64_t>(), is_kept = payload.get<std::uint64_t>();
  require_payload(is_kept <= 1, "an impression is of an unknown kind");
  std::shared_ptr<const Decision> decision;
  if (is_kept == 1) {
    decision = std::make_shared<const Decision>(get_decision(payload));
    check_kind(model_.items.ids, decision->candidates.kind, "item");
    check_ids(model_.users.ids, decision->user.span(), "user");
    if (decision->policy.precision == PrecisionKind::kShared) precisions_.check_shared();
  }
  payload.finish();
  if (decision && decision->user.size() > 0) model_.users.ids.claim_kind(decision->user.kind);
  impressions_.add(prepare_impression(decision, time));
  decisions_.store(std::max(decisions_.load(std::memory_order_relaxed), decisions), std::memory_order_relaxed);
  if (is_timed) saw_timestamp(time);
  if (decision) observe(*decision);
}

void Engine::replay_feedback(std::uint32_t flags, PayloadReader& payload, Replay& pending) {
  const auto number = payload.get<std::uint64_t>();
  const auto place = payload.get<FeedbackPlace>();
  require_payload(std::abs(place.reward) <= kMostReward, "a reward is out of range");
  if ((flags & kLearns) != 0) {
    replay_learn(flags & ~kLearns, payload, pending);
  } else {
    require_payload((flags & ~kHasTimestamps) == 0, "unknown columns");
    const auto time = payload.get<double>();
    payload.finish();
    require_payload(std::abs(time) <= kMaxTimestamp, "a timestamp is out of range");
    if ((flags & kHasTimestamps) != 0) {
      learn_pending(pending);  // which may lie before it
      saw_timestamp(time);
    }
  }
  require_payload(impressions_.add_reward(number, place.slot, place.reward), "feedback to what was not shown");
}

void Engine::replay_feedback_settings(PayloadReader& payload) {
  FeedbackSettings settings;
  settings.capacity = payload.get<std::uint64_t>();
  const auto correction = payload.get<std::uint64_t>();
  require_payload(correction <= 2, "a setting is out of range");
  settings.correction = static_cast<Correction>(correction);
  settings.window = payload.get<double>();
  settings.clip = payload.get<double>();
  settings.position_bias = payload.get<double>();
  payload.finish();
  impressions_.set_settings(settings);
}

}  // namespace recengine
