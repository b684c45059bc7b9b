// What users did last, in an engine's file.
#include <algorithm>
#include <cmath>

#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

void save_visits(SnapshotWriter& file, const UserState& state, Row users) {
  add_each<double>(file, "visits", users, [&](Row user) { return state.last_visit(user); });
  add_each<std::uint32_t>(file, "visits.sessions", users, [&](Row user) { return state.session(user); });
}

void take_histories(const UserState& state, Row users, const Removed& is_removed, Deferred& deferred) {
  const bool timed = state.timed();
  for (Row user = 0; user < users; ++user) {
    if (user % kRowsPerCheck == 0) check_interrupt();
    state.for_each_entry(user, [&](std::uint64_t entry, float time) {
      const Row item = UserState::item_of(entry);
      const bool is_gone = item != 0 && is_removed(item - 1);
      deferred.history.push_back(is_gone ? 0 : item);
      deferred.sessions.push_back(is_gone ? 0 : UserState::session_of(entry));
      if (timed) deferred.times.push_back(is_gone ? 0 : time);
    });
    deferred.history_ends.push_back(deferred.history.size());
    state.seen(user).for_each([&](Row item) {
      if (!is_removed(item)) deferred.seen.push_back(item);
    });
    deferred.seen_ends.push_back(deferred.seen.size());
    if (!state.keeps_dislikes()) continue;
    state.for_each_disliked(user, [&](Row item) {
      if (!is_removed(item)) deferred.disliked.push_back(item);
    });
    deferred.disliked_ends.push_back(deferred.disliked.size());
  }
}

namespace {

// Each user's part ascending.
void save_sets(SnapshotWriter& file, const std::string& name, std::vector<Row>& rows,
               const std::vector<std::uint64_t>& ends) {
  auto first = rows.begin();
  for (const std::uint64_t end : ends) {
    const auto last = rows.begin() + static_cast<std::ptrdiff_t>(end);
    std::sort(first, last);
    first = last;
  }
  add(file, name, rows);
  add(file, name + ".ends", ends);
}

}  // namespace

void save_histories(SnapshotWriter& file, Deferred& deferred, const UserState& state) {
  add(file, "history", deferred.history);
  add(file, "history.ends", deferred.history_ends);
  add(file, "history.sessions", deferred.sessions);
  if (state.timed()) add(file, "history.times", deferred.times);
  save_sets(file, "seen", deferred.seen, deferred.seen_ends);
  if (state.keeps_dislikes()) save_sets(file, "disliked", deferred.disliked, deferred.disliked_ends);
}

void load_user_state(const SnapshotReader& file, UserState& state, const std::vector<Row>& users,
                     const EmbeddingTable& items) {
  const auto lists = [&](const std::string& name, auto visit) {
    const auto values = file.array<Row>(name);
    const auto ends = read<std::uint64_t>(file, name + ".ends", users.size());
    require(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() ? 0 : ends.back()) == values.size(), name,
            ".ends are out of order");
    std::size_t next = 0;
    for (std::size_t u = 0; u < users.size(); ++u) {
      check_interrupt();
      require(name != "history" || ends[u] - next <= state.history(), "a history is too long");
      for (; next < ends[u]; ++next) visit(users[u], values[next]);
    }
  };
  const auto is_item = [&items](Row item) { return item < items.count() && items.is_live(item); };
  const bool by_session = has_sessions(file);  // or all is one session
  const auto sessions = by_session ? read<std::uint32_t>(file, "history.sessions", file.array<Row>("history").size())
                                   : std::span<const std::uint32_t>();
  const auto times =
      state.timed() ? read<float>(file, "history.times", file.array<Row>("history").size()) : std::span<const float>();
  std::size_t next_entry = 0;
  lists("history", [&](Row user, Row entry) {
    require(entry == 0 || is_item(entry - 1), "a history holds an unknown item");
    const std::uint64_t session = by_session ? sessions[next_entry] : 0;
    const float time = state.timed() ? times[next_entry] : 0.0f;
    require(std::abs(time) <= kMaxTimestamp * 1.001, "a time in a history is out of range");
    state.restore_entry(user, session << 32 | entry, time);
    ++next_entry;
  });
  if (by_session) {
    const auto visits = read<double>(file, "visits", users.size());
    const auto session = read<std::uint32_t>(file, "visits.sessions", users.size());
    for (std::size_t u = 0; u < users.size(); ++u) {
      require(std::isfinite(visits[u]) && session[u] < 1u << 31, "a visit is out of range");
      state.restore_visit(users[u], visits[u], session[u]);
    }
  }
  lists("seen", [&](Row user, Row item) {
    require(is_item(item), "a user has seen an unknown item");
    state.restore_seen(user, item);
  });
  if (!keeps_dislikes(file, state)) return;
  lists("disliked", [&](Row user, Row item) {
    require(is_item(item), "a user dislikes an unknown item");
    state.restore_dislike(user, item);
  });
}

}  // namespace recengine
