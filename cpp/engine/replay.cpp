// Records of the log, applied again. They come from a file: what no engine wrote is a PayloadError.
#include "engine/replay.hpp"

#include <cmath>
#include <stdexcept>

#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr std::size_t kMerged = 4096;      // events in records of their own that are learned at once
constexpr std::size_t kSmallRecord = 256;  // events; larger records are learned as they are

}  // namespace

void Engine::Replay::clear() {
  users = items = {};
  values.clear();
  weights.clear();
  timestamps.clear();
}

void Engine::apply_records(std::span<const std::span<const std::byte>> records) {
  Replay pending;
  for (const std::span<const std::byte> record : records) replay(record, pending);
  learn_pending(pending);
}

void Engine::replay(std::span<const std::byte> record, Replay& pending) {
  PayloadReader payload(record);
  const auto start = payload.get<RecordStart>();
  try {
    if (start.kind == RecordKind::kLearn) {
      replay_learn(start.flags, payload, pending);
    } else if (start.kind == RecordKind::kFeedback) {
      replay_feedback(start.flags, payload, pending);
    } else if (start.kind == RecordKind::kImpression) {
      learn_pending(pending);
      replay_impression(start.flags, payload);
    } else {
      learn_pending(pending);
      replay_change(start, payload);
    }
  } catch (const std::invalid_argument& error) {  // ids, values and kinds as no caller could have given them
    throw PayloadError(error.what());
  } catch (const std::out_of_range& error) {
    throw PayloadError(error.what());
  }
}

void Engine::replay_learn(std::uint32_t flags, PayloadReader& payload, Replay& pending) {
  require_payload((flags & ~(kHasValues | kHasWeights | kHasTimestamps | kHasSource)) == 0, "unknown columns");
  const auto latest = payload.get<double>();
  require_payload(std::abs(latest) <= kMaxTimestamp, "a timestamp is out of range");
  std::string_view source;
  std::int64_t offset = 0;
  if ((flags & kHasSource) != 0) {
    source = payload.get_text();
    offset = payload.get<std::int64_t>();
    validate_id(source);
  }
  PayloadIds users, items;
  payload.get_ids(users);
  payload.get_ids(items);
  const std::size_t size = users.span.size;
  require_payload(size == items.span.size, "users and items of unequal length");
  require_payload(size > 0 || (flags & kHasSource) != 0, "no events");
  const auto column = [&]<class T>(std::uint32_t flag, T) -> std::span<const T> {
    return (flags & flag) != 0 ? payload.get_array<T>(size) : std::span<const T>();
  };
  const auto values = column(kHasValues, 0.0f), weights = column(kHasWeights, 0.0f);
  const auto timestamps = column(kHasTimestamps, 0.0);
  payload.finish();
  const EventColumns events{users.span, items.span, values.data(), weights.data(), timestamps.data()};
  const bool timed = !timestamps.empty();
  const bool alike =
      pending.size() == 0 || (pending.has_timestamps == timed && (timed || pending.latest == latest) &&
                              pending.users.kind == users.span.kind && pending.items.kind == items.span.kind);
  if (!alike || size > kSmallRecord || pending.size() + size > kMerged) learn_pending(pending);
  // Only now: what was pending may have been the first of its kind.
  check_kind(model_.users.ids, users.span.kind, "user");
  check_kind(model_.items.ids, items.span.kind, "item");
  check_.require(events, 0, size, true);
  if (size == 0) {  // all that the source delivered was bad
    sources_.take(source, offset);
    return;
  }
  if (size > kSmallRecord) {
    learn_replayed(events, latest);
  } else {
    pending.users.append(users.span);
    pending.items.append(items.span);
    for (std::size_t k = 0; k < size; ++k) {
      pending.values.push_back(values.empty() ? 1.0f : values[k]);
      pending.weights.push_back(weights.empty() ? 1.0f : weights[k]);
      if (timed) pending.timestamps.push_back(timestamps[k]);
    }
    pending.has_timestamps = timed;
    pending.latest = latest;
  }
  if ((flags & kHasSource) != 0) sources_.take(source, offset);
}

void Engine::learn_pending(Replay& pending) {
  if (pending.size() == 0) return;
  const EventColumns events{pending.users.span(), pending.items.span(), pending.values.data(), pending.weights.data(),
                            pending.has_timestamps ? pending.timestamps.data() : nullptr};
  learn_replayed(events, pending.latest);
  pending.clear();
}

// All of them: half a recovery is none, and nobody keeps its engine.
void Engine::learn_replayed(const EventColumns& events, double latest) {
  if (learn_batch(events, 1, latest, {}, true, nullptr, nullptr) < events.users.size) throw Interrupted();
}

void Engine::replay_change(const RecordStart& start, PayloadReader& payload) {
  require_payload(start.flags == 0 || (start.flags == kHasBiases &&
                                       (start.kind == RecordKind::kSetUsers || start.kind == RecordKind::kSetItems)),
                  "unknown columns");
  PayloadIds ids, others;
  const auto only_ids = [&] {
    payload.get_ids(ids);
    payload.finish();
    return ids.span;
  };
  switch (start.kind) {
    case RecordKind::kLearn:
    case RecordKind::kFeedback:
    case RecordKind::kImpression:
      break;
    case RecordKind::kInsert: {
      payload.get_ids(ids);
      payload.get_ids(others);
      payload.finish();
      require_payload(ids.span.size == others.span.size, "users and items of unequal length");
      return insert_pairs(ids.span, others.span);
    }
    case RecordKind::kSetUsers:
    case RecordKind::kSetItems: {
      payload.get_ids(ids);
      require_payload(ids.span.size <= kMaxRecord / settings_.dim, "too many rows");
      const auto vectors = payload.get_array<float>(ids.span.size * settings_.dim);
      const auto biases =
          start.flags == kHasBiases ? payload.get_array<float>(ids.span.size) : std::span<const float>();
      payload.finish();
      return set_rows_of(start.kind, ids.span, vectors, biases.data());
    }
    case RecordKind::kSetItemFeatures: {
      payload.get_ids(ids);
      const auto values = payload.get_array<float>(ids.span.size * ranker_.features.count());
      payload.finish();
      return set_item_features(ids.span, values);
    }
    case RecordKind::kRemoveUsers:
      return remove_users(only_ids());
    case RecordKind::kRemoveItems:
      return remove_items(only_ids());
    case RecordKind::kSweep:
      payload.finish();
      return sweep_removed();  // nobody else is there
    case RecordKind::kSetFilter: {
      const std::string_view name = payload.get_text();
      return set_filter(name, only_ids());
    }
    case RecordKind::kUpdateFilter: {
      const std::string_view name = payload.get_text();
      payload.get_ids(ids);
      payload.get_ids(others);
      payload.finish();
      return update_filter(name, ids.span, others.span);
    }
    case RecordKind::kRemoveFilter: {
      const std::string_view name = payload.get_text();
      payload.finish();
      return remove_filter(name);
    }
    case RecordKind::kSetGroups:
      payload.get_ids(ids);
      payload.get_ids(others);
      payload.finish();
      return set_groups(ids.span, others.span);
    case RecordKind::kLearningRate: {
      const auto rate = payload.get<double>();
      payload.finish();
      return set_learning_rate(rate);
    }
    case RecordKind::kGlobalBias: {
      const auto bias = payload.get<double>();
      payload.finish();
      return set_global_bias(bias);
    }
    case RecordKind::kFeedbackSettings:
      return replay_feedback_settings(payload);
  }
  throw PayloadError("of an unknown kind");
}

}  // namespace recengine
