// What events tell beside the rows that they move: popularity, demand, what goes with what, histories.
#include <array>

#include "learner/learner.hpp"

namespace recengine {

namespace {

// One in so many choices is offered to the popular items.
constexpr std::uint64_t kOfferedEvery = 8;

}  // namespace

// An item that was shown and not chosen (label 0), or disliked, is no choice.
bool Learner::is_choice(const Event& event) const {
  if (is_dislike(event)) return false;
  return settings_.objective != Objective::kLogistic || event.value != 0;
}

void Learner::count(std::span<const Event> events) {
  std::array<Row, Popularity::kBatch> items;
  std::array<double, Popularity::kBatch> timestamps;
  std::size_t count = 0;
  for (std::size_t e = 0; e < events.size(); ++e) {
    if (is_choice(events[e])) {
      items[count] = events[e].item;
      timestamps[count++] = events[e].timestamp;
    }
    if (count == Popularity::kBatch || e + 1 == events.size()) {
      model_.popularity.add(items.data(), timestamps.data(), count);
      count = 0;
    }
  }
}

std::span<const Row> Learner::last_items(const Event& event) const {
  thread_local std::array<HistoryEntry, kMaxNeighborsWindow> entries;
  thread_local std::array<Row, kMaxNeighborsWindow> last;
  const std::uint32_t most =
      model_.user_state.last_items(event.user, event.timestamp, entries.data(), settings_.neighbors_window);
  std::size_t count = 0;
  for (const HistoryEntry& entry : std::span(entries).first(most)) {
    if (!entry.disliked && model_.items.is_live(entry.item)) last[count++] = entry.item;
  }
  return {last.data(), count};
}

void Learner::prefetch_neighbors(const Event& event) const {
  if (!model_.cooccurrence.on()) return;
  model_.cooccurrence.prefetch(event.item);
  for (const Row item : last_items(event)) model_.cooccurrence.prefetch(item);
}

void Learner::record(const Event& event) {
  const bool disliked = is_dislike(event);
  if (disliked || is_choice(event)) {
    model_.user_state.observe(event.user, event.item, event.timestamp, disliked);
  }
}

// What the user did, whether or not it moved a row.
void Learner::observe(const Event& event) {
  if (!is_choice(event)) return;
  if (settings_.objective == Objective::kSoftmax) model_.recent.push(event.item);
  if (model_.demand) {
    model_.demand->count(event.item, event.timestamp, model_.user_state.is_blank(event.user),
                         event.sequence % kOfferedEvery == 0, model_.items.size());
  }
  if (model_.cooccurrence.on()) model_.cooccurrence.add(event.item, last_items(event), event.timestamp);
  model_.user_state.observe(event.user, event.item, event.timestamp, false);
}

}  // namespace recengine
