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
      user_state(domain, settings.remembered()),
      popularity(settings.popularity_half_life),
      cooccurrence(settings.neighbors, settings.neighbors_half_life) {
  float weight = 1;
  for (std::uint32_t t = 0; t < settings.history; ++t, weight *= settings.history_decay) decay_.push_back(weight);
  users.attach([this](std::size_t count) { user_state.reserve(count); }, [this](Row user) { user_state.wipe(user); });
  items.attach(
      [this](std::size_t count) {
        popularity.reserve(count);
        recent.reserve(count);
        cooccurrence.reserve(count);
      },
      [this](Row item) {
        popularity.wipe(item);
        cooccurrence.wipe(item);
      });
}

void Model::compose(Row user, QueryVector& query) const {
  const std::size_t most = decay_.size();
  query.history.resize(most);
  query.history.resize(
      user == kNoRow ? 0 : user_state.last_items(user, query.history.data(), static_cast<std::uint32_t>(most)));
  const auto gone = [this](Row item) { return !items.is_live(item); };
  query.history.erase(std::remove_if(query.history.begin(), query.history.end(), gone), query.history.end());
  start_from(user, query);
  add_history(query);
}

void Model::compose(Row user, std::span<const Row> session, QueryVector& query) const {
  start_from(user, query);
  const std::size_t length = std::min(session.size(), decay_.size());
  query.history.assign(session.rbegin(), session.rbegin() + static_cast<std::ptrdiff_t>(length));
  add_history(query);
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
  query.weights.assign(decay_.begin(), decay_.begin() + static_cast<std::ptrdiff_t>(query.history.size()));
  for (std::size_t t = 0; t < query.history.size(); ++t) {
    items.rows.add_scaled(query.x.data(), query.history[t], query.weights[t]);
  }
}

}  // namespace recengine
