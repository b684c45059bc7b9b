#include "ranker/evidence.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace recengine {

namespace {

constexpr float kEventsOfNothing = 5;
constexpr float kDay = 86400;

// log(n) of small whole numbers.
float log_of(std::uint32_t n) {
  static const auto table = [] {
    std::array<float, 256> logs{};
    for (std::size_t k = 1; k < logs.size(); ++k) logs[k] = static_cast<float>(std::log(static_cast<double>(k)));
    return logs;
  }();
  return n < table.size() ? table[n] : static_cast<float>(std::log(static_cast<double>(n)));
}

}  // namespace

std::uint32_t Evidence::place_of(Row row) const {
  const auto mask = static_cast<std::uint32_t>(table_.size() - 1);
  std::uint32_t place = (row * 0x9E3779B1u >> 7) & mask;
  while (table_[place].key != 0 && table_[place].key != row + 1) place = (place + 1) & mask;
  return place;
}

void Evidence::clear(std::size_t most) {
  if (table_.size() < 2 * most) {
    table_.assign(std::bit_ceil(2 * most), {});
  } else {
    for (const std::uint32_t place : places_) table_[place] = {};
  }
  places_.clear();
  rows_.clear();
  neighbors_.clear();
  own_.clear();
  disliked_.clear();
}

std::uint32_t Evidence::index_of(Row row) {
  const std::uint32_t place = place_of(row);
  Entry& entry = table_[place];
  if (entry.key == 0) {
    entry = {row + 1, static_cast<std::uint32_t>(rows_.size())};
    places_.push_back(place);
    rows_.push_back(row);
    neighbors_.push_back({});
  }
  return entry.index;
}

void Evidence::gather(const Cooccurrence& lists, std::span<const OwnEntry> entries, double now) {
  clear(entries.size() + kSources * lists.slots() + 1);
  in_session_ = !entries.empty() && entries.front().entry.in_session;
  gather_own(entries, now);
  last_source_ = kNoRow;
  if (lists.on()) gather_neighbors(lists, entries, now);
}

void Evidence::choose_neighbors() {
  const std::size_t count = std::min(ranked_.size(), kNeighbors);
  if (count < ranked_.size()) {
    std::nth_element(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(count), ranked_.end());
  }
  for (std::size_t k = 0; k < count; ++k) {
    const std::uint32_t index = ranked_[k].second;
    candidates_.push_back(rows_[index]);
    chosen_[index] = 1;
  }
}

// The newest entry of an item decides: after a dislike it is no item of the user's.
void Evidence::gather_own(std::span<const OwnEntry> entries, double now) {
  constexpr std::uint32_t kOwnFirst = kInSession;
  for (std::uint32_t place = 0; place < entries.size(); ++place) {
    const auto& [entry, time] = entries[place];
    if (entry.disliked) {
      if (find(entry.item) == kNothing) disliked_.push_back(entry.item);
      continue;
    }
    if (std::find(disliked_.begin(), disliked_.end(), entry.item) != disliked_.end()) continue;
    const std::uint32_t index = index_of(entry.item);
    const bool is_new = index == own_.size();
    if (is_new) own_.push_back({});
    std::array<float, kOwnSignals>& own = own_[index];
    if (is_new) {  // kept here until it is known whether the item was chosen before the session
      own[kOwnedDays - kOwnFirst] = std::max(static_cast<float>(now - double{time}), 0.0f) / kDay;
      own[kOwnedPlaces - kOwnFirst] = log_of(place + 1);
      if (entry.in_session) {
        own[kInSession - kOwnFirst] = 1;
        own[kSessionPlace - kOwnFirst] = log_of(place + 1);
      }
    }
    if (!entry.in_session) own[kOwnedTimes - kOwnFirst] += 1;
  }
  for (std::array<float, kOwnSignals>& own : own_) {
    float& times = own[kOwnedTimes - kOwnFirst];
    const bool owned = times > 0;
    own[kOwned - kOwnFirst] = owned ? 1.0f : 0.0f;
    times = owned ? log_of(static_cast<std::uint32_t>(times)) : 0.0f;
    own[kOwnedDays - kOwnFirst] = owned ? std::log1p(own[kOwnedDays - kOwnFirst]) : 0.0f;
    if (!owned) own[kOwnedPlaces - kOwnFirst] = 0;
  }
}

void Evidence::gather_neighbors(const Cooccurrence& lists, std::span<const OwnEntry> entries, double now) {
  // Each list is read once, however often its item is among the last.
  struct Source {
    Row item;
    float recent, last;
  };
  std::array<Source, kSources> sources;
  std::size_t count = 0;
  float weight = 1;
  for (const OwnEntry& own : entries) {
    const HistoryEntry& entry = own.entry;
    if (entry.disliked) continue;
    if (in_session_ && !entry.in_session) break;
    auto* const end = sources.data() + count;
    auto* const same =
        std::find_if(sources.data(), end, [&](const Source& source) { return source.item == entry.item; });
    if (same != end) {
      same->recent += weight;
    } else {
      if (count == kSources) break;
      *end = {entry.item, weight, count == 0 ? 1.0f : 0.0f};
      ++count;
    }
    weight *= kSourceDecay;
  }
  if (count > 0) last_source_ = sources.front().item;
  list_.resize(lists.slots());
  for (const Source& source : std::span(sources).first(count)) {
    const float norm = 1 / (static_cast<float>(lists.count(source.item, now)) + kEventsOfNothing);
    const float recent = source.recent * norm, last = source.last * norm;
    const std::uint32_t size = lists.neighbors(source.item, now, list_.data());
    for (const Neighbor& neighbor : std::span(list_).first(size)) {
      std::array<float, kNeighborSignals>& sums = neighbors_[index_of(neighbor.row)];
      sums[kAfterLast - kAfterLast] += last * neighbor.after;
      sums[kBeforeLast - kAfterLast] += last * neighbor.before;
      sums[kAfterRecent - kAfterLast] += recent * neighbor.after;
      sums[kBeforeRecent - kAfterLast] += recent * neighbor.before;
    }
  }
}

}  // namespace recengine
