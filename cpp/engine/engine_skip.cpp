// Batches of which some events are bad: the others are learned.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/engine.hpp"
#include "engine/newcomers.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

// Those events of a batch that are good, in columns of their own.
struct GoodEvents {
  IdArray users, items;
  std::vector<float> values, weights;
  std::vector<double> timestamps;
  std::vector<std::int64_t> offsets;
  std::vector<std::size_t> places;  // in the batch

  GoodEvents(const EventColumns& events, const SourceSpan& source, const std::vector<BadEvent>& reasons) {
    users.kind = events.users.kind;
    items.kind = events.items.kind;
    for (std::size_t e = 0; e < reasons.size(); ++e) {
      if (reasons[e] != BadEvent::kNone) continue;
      places.push_back(e);
      users.append(id_at(events.users, e));
      items.append(id_at(events.items, e));
      if (events.values != nullptr) values.push_back(events.values[e]);
      if (events.weights != nullptr) weights.push_back(events.weights[e]);
      if (events.timestamps != nullptr) timestamps.push_back(events.timestamps[e]);
    }
    // A good event stands for the bad ones behind it too: once it is taken, so are they.
    for (std::size_t k = 0; k < places.size() && !source.offsets.empty(); ++k) {
      offsets.push_back(source.offsets[k + 1 < places.size() ? places[k + 1] - 1 : reasons.size() - 1]);
    }
  }

  EventColumns columns() const {
    const auto column = [](const auto& values_of) { return values_of.empty() ? nullptr : values_of.data(); };
    return {users.span(), items.span(), column(values), column(weights), column(timestamps)};
  }
};

}  // namespace

std::size_t Engine::learn_good(const EventColumns& events, std::size_t threads, const SourceSpan& source) {
  const std::size_t size = events.users.size;
  std::vector<BadEvent> reasons(size);
  std::size_t bad = 0;
  for (std::size_t e = 0; e < size; ++e) {
    if (e % kEventsPerCheck == 0) check_interrupt();
    reasons[e] = check_.find(events, e);
    bad += reasons[e] != BadEvent::kNone;
  }
  std::optional<Claims> claims;
  if (is_bounded() && settings_.limits.evict == Eviction::kError) {
    claims.emplace(user_capacity_, item_capacity_);
    bad += find_no_room(events, *claims, reasons);
  }
  Claims* const claimed = claims ? &*claims : nullptr;
  if (bad == 0) return learn_all(events, threads, source, true, claimed);
  std::size_t applied = size;
  if (bad == size) {
    skip_all(source);
  } else {
    const GoodEvents good(events, source, reasons);
    const std::size_t learned = learn_all(good.columns(), threads, {source.name, good.offsets}, true, claimed);
    if (learned < good.places.size()) applied = good.places[learned];
  }
  for (std::size_t e = 0; e < applied; ++e) {
    if (reasons[e] == BadEvent::kNone) continue;
    bad_events_[static_cast<std::size_t>(reasons[e])].fetch_add(1, std::memory_order_relaxed);
  }
  return applied;
}

// Marks those of the good events whose ids are new and find no room; how many. For the others it is claimed.
std::size_t Engine::find_no_room(const EventColumns& events, Claims& claims, std::vector<BadEvent>& reasons) {
  Newcomers newcomers(domain_, model_.users.ids, model_.items.ids, events, claims);
  std::size_t found = 0;
  for (std::size_t e = 0; e < reasons.size(); ++e) {
    if (e % kEventsPerCheck == 0) check_interrupt();
    if (reasons[e] != BadEvent::kNone) continue;
    reasons[e] = newcomers.admit(e);
    found += reasons[e] != BadEvent::kNone;
  }
  return found;
}

// There is nothing to learn, but the source need not deliver it again: a record without events.
void Engine::skip_all(const SourceSpan& source) {
  if (source.offsets.empty()) return;
  const auto take = [&] { sources_.take(source.name, source.offsets.back()); };
  if (!journal_) return take();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    record = journal_->append(
        RecordKind::kLearn, kHasSource,
        [&](PayloadWriter& to) {
          to.put(latest_timestamp());
          to.put_text(source.name);
          to.put(source.offsets.back());
          to.put_ids({}, 0, 0);
          to.put_ids({}, 0, 0);
        },
        take);
  }
  acknowledge(record);
}

}  // namespace recengine
