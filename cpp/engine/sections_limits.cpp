// What an engine does not take, in its file, and what it keeps for that: when rows were used, what users may still do.
#include <cmath>
#include <limits>

#include "engine/sections.hpp"

namespace recengine {

void save_limits(SnapshotWriter& file, const LimitSettings& limits) {
  add<double>(
      file, "settings.limits",
      {static_cast<double>(limits.max_users), static_cast<double>(limits.max_items), static_cast<double>(limits.evict),
       limits.user_budget, limits.max_ahead, limits.max_weight, limits.max_value});
}

// A file without it was written before there were limits, by an engine without any.
LimitSettings load_limits(const SnapshotReader& file) {
  LimitSettings limits;
  if (!file.has("settings.limits")) return limits;
  const auto values = read<double>(file, "settings.limits", 7);
  for (const double most : values.first(2)) {
    require(most >= 0 && most <= static_cast<double>(kMaxCapacity) && most == std::floor(most),
            "a setting is out of range");
  }
  require(values[2] == 0 || values[2] == 1, "a setting is out of range");
  limits.max_users = static_cast<std::size_t>(values[0]);
  limits.max_items = static_cast<std::size_t>(values[1]);
  limits.evict = values[2] == 0 ? Eviction::kError : Eviction::kLru;
  limits.user_budget = values[3];
  limits.max_ahead = values[4];
  limits.max_weight = values[5];
  limits.max_value = values[6];
  return limits;
}

void save_uses(SnapshotWriter& file, const std::string& name, const Capacity& capacity, Row rows) {
  if (!capacity.evicts()) return;
  add_each<std::uint64_t>(file, name, rows, [&](Row row) { return capacity.stamp(row); });
}

void load_uses(const SnapshotReader& file, const std::string& name, Capacity& capacity, const std::vector<Row>& rows,
               std::uint64_t next) {
  if (!capacity.evicts()) return;
  const auto stamps = read<std::uint64_t>(file, name, rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    require(stamps[k] < next, name, " are out of range");
    capacity.touch(rows[k], stamps[k]);
  }
}

void save_budgets(SnapshotWriter& file, const UserBudget& budget, Row users) {
  if (!budget.on()) return;
  add_each<double>(file, "users.budget", users, [&](Row user) { return budget.full_at(user); });
}

void load_budgets(const SnapshotReader& file, UserBudget& budget, const std::vector<Row>& users) {
  if (!budget.on()) return;
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  const auto full_at = read<double>(file, "users.budget", users.size());
  for (std::size_t u = 0; u < users.size(); ++u) {
    require(full_at[u] == kNever || std::abs(full_at[u]) <= 2 * kMaxTimestamp, "a budget is out of range");
    budget.restore(users[u], full_at[u]);
  }
}

}  // namespace recengine
