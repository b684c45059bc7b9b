#include "learner/model.hpp"

#include <algorithm>

namespace recengine {

namespace {

constexpr std::uint64_t kItemStream = 0x6974656D73u;  // "items": users and items draw from different streams

}  // namespace

// With a history, users start at zero: the items they choose place them.
Model::Model(EpochDomain& domain, const Settings& settings)
    : users(domain, settings.dim, {settings.seed, settings.history > 0 ? 0.0f : settings.init_scale}, settings.storage),
      items(domain, settings.dim, {settings.seed ^ kItemStream, settings.init_scale}, settings.storage),
      user_state(domain, settings.remembered(), settings.session_gap, settings.ranks(),
                 settings.user_model == UserModel::kAls),
      popularity(settings.half_life()),
      cooccurrence(settings.neighbors, settings.neighbors_half_life),
      context(settings.history, settings.history_decay),
      has_repeats_(settings.objective == Objective::kSoftmax && settings.history > 0) {
  if (settings.ranks()) demand.emplace();
  if (settings.user_model == UserModel::kAls) fold_in.emplace(domain, items, settings.als);
  float weight = 1;
  for (std::uint32_t t = 0; t < settings.history; ++t, weight *= settings.history_decay) decay_.push_back(weight);
  users.attach([this](std::size_t count) { user_state.reserve(count); }, [this](Row user) { user_state.wipe(user); });
  items.attach(
      [this](std::size_t count) {
        popularity.reserve(count);
        if (demand) demand->trends.reserve(count);
        recent.reserve(count);
        cooccurrence.reserve(count);
      },
      [this](Row item) {
        popularity.wipe(item);
        if (demand) demand->trends.wipe(item);
        cooccurrence.wipe(item);
      });
}

void Model::compose(Row user, double now, QueryVector& query) {
  const auto most = static_cast<std::uint32_t>(decay_.size());
  query.entries.resize(most);
  query.entries.resize(user == kNoRow ? 0 : user_state.last_items(user, now, query.entries.data(), most));
  const auto gone = [this](const HistoryEntry& entry) { return !items.is_live(entry.item); };
  query.entries.erase(std::remove_if(query.entries.begin(), query.entries.end(), gone), query.entries.end());
  if (fold_in) {
    std::vector<Row> chosen;
    if (user != kNoRow) user_state.for_each_seen(user, [&chosen](Row item) { chosen.push_back(item); });
    const auto in_history = [&query](Row item) {
      return std::any_of(query.entries.begin(), query.entries.end(),
                         [item](const HistoryEntry& entry) { return entry.item == item; });
    };
    chosen.erase(std::remove_if(chosen.begin(), chosen.end(), in_history), chosen.end());
    for (const HistoryEntry& entry : query.entries) {
      if (!entry.disliked) chosen.push_back(entry.item);
    }
    const auto disliked = [this, user](Row item) { return user != kNoRow && user_state.dislikes(user, item); };
    chosen.erase(std::remove_if(chosen.begin(), chosen.end(), disliked), chosen.end());
    fold(chosen, query);
    return;
  }
  start_from(user, query);
  add_history(query);
}

void Model::compose(Row user, std::span<const Row> session, QueryVector& query) {
  if (fold_in) {
    std::vector<Row> chosen(session.begin(), session.end());
    fold(chosen, query);
    return;
  }
  start_from(user, query);
  query.entries.clear();
  const std::size_t length = std::min(session.size(), decay_.size());
  for (std::size_t t = 0; t < length; ++t) query.entries.push_back({session[session.size() - 1 - t], true, false});
  add_history(query);
}

void Model::fold(std::vector<Row>& chosen, QueryVector& query) {
  const auto gone = [this](Row item) { return !items.is_live(item); };
  chosen.erase(std::remove_if(chosen.begin(), chosen.end(), gone), chosen.end());
  std::sort(chosen.begin(), chosen.end());  // sums do not depend on the order in which a set was filled
  query.clear_history();
  std::vector<Row> distinct;
  std::vector<float> weights;
  for (const Row item : chosen) {
    if (distinct.empty() || distinct.back() != item) {
      distinct.push_back(item);
      weights.push_back(0);
    }
    weights.back() += 1;
  }
  for (std::size_t i = 0; i < distinct.size(); ++i) {
    query.history.push_back({distinct[i], weights[i], QueryVector::kFixed});
  }
  query.x.resize(items.stride());
  fold_in->solve(distinct, weights, query.x.data());
}

void Model::start_from(Row user, QueryVector& query) const {
  query.x.resize(users.stride());
  if (user != kNoRow) {
    users.rows.load(user, query.x.data());
  } else {
    std::fill(query.x.begin(), query.x.end(), 0.0f);
  }
}

void Model::add_history(QueryVector& query) const {
  query.clear_history();
  const bool session = !query.entries.empty() && query.entries.front().in_session;
  const bool has_dislikes =
      std::any_of(query.entries.begin(), query.entries.end(), [](const HistoryEntry& entry) { return entry.disliked; });
  std::uint32_t places = 0, earlier = 0;  // taken, in the session and before
  for (const HistoryEntry& entry : query.entries) {
    const std::uint32_t place = entry.in_session ? places++ : earlier++;
    if (has_repeats_) add_repeat(entry, place, query);
    if (has_dislikes && is_taken_back(entry, query)) continue;
    if (entry.disliked) {
      query.history.push_back({entry.item, -decay_[place], QueryVector::kFixed});
    } else {
      const auto group = entry.in_session ? ContextWeights::kSession
                         : session        ? ContextWeights::kBefore
                                          : ContextWeights::kReturning;
      const std::uint32_t scalar = context.position(group, place);
      query.history.push_back({entry.item, context.value(scalar), scalar});
    }
  }
  for (std::size_t r = 0; r < query.repeats.size(); ++r) {
    QueryVector::Repeat& repeat = query.repeats[r];
    if (repeat.scalar == QueryVector::kFixed) {
      repeat.scalar = context.repeat(session, ContextWeights::earlier_kind(query.times[r]));
    }
    repeat.offset = context.value(repeat.scalar);
  }
  for (const QueryVector::Term& term : query.history) {
    items.rows.add_scaled(query.x.data(), term.item, term.weight);
  }
}

// Whether the user said the opposite of the item since.
bool Model::is_taken_back(const HistoryEntry& entry, const QueryVector& query) {
  const auto since = std::span(query.entries.data(), &entry);
  return std::any_of(since.begin(), since.end(), [&entry](const HistoryEntry& newer) {
    return newer.item == entry.item && newer.disliked != entry.disliked;
  });
}

// The last occurrence decides: disliked, or in the session; otherwise the earlier ones are counted (kFixed until then).
void Model::add_repeat(const HistoryEntry& entry, std::uint32_t place, QueryVector& query) const {
  const std::size_t at = query.find(entry.item);
  if (at < query.repeats.size()) {
    query.times[at] += entry.disliked ? 0 : 1;
    return;
  }
  std::uint32_t scalar = QueryVector::kFixed;
  const bool session = query.entries.front().in_session;
  if (entry.disliked) {
    scalar = context.repeat(session, ContextWeights::kDisliked);
  } else if (entry.in_session) {
    scalar = context.repeat(session, ContextWeights::session_kind(place));
  }
  query.marks.set(entry.item % query.marks.size());
  query.repeated.push_back(entry.item);
  query.repeats.push_back({0, scalar});
  query.times.push_back(1);
}

}  // namespace recengine
