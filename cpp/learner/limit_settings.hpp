// LimitSettings: what an engine does not take, from whom and how much of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace recengine {

// What happens where there is no room for a new user or item: an error, or those who were least recently learned from
// go.
enum class Eviction : std::uint32_t { kError, kLru };
Eviction parse_eviction(std::string_view name);
std::string_view name_of(Eviction eviction);

struct LimitSettings {
  std::size_t max_users = 0;  // 0: as many as come
  std::size_t max_items = 0;
  Eviction evict = Eviction::kError;
  // Learning steps of a user an hour (user_budget.hpp); 0: as many as come.
  double user_budget = 0;
  // The largest weight of an event, and with objective "squared" value, without sign: one that is larger than all
  // others by many orders leaves sums behind (Adagrad's, the mean's) that take as many events to forget.
  double max_weight = std::numeric_limits<double>::infinity();
  double max_value = std::numeric_limits<double>::infinity();
  // Seconds that a timestamp may be ahead of the machine's clock; infinity: no limit.
  double max_ahead = std::numeric_limits<double>::infinity();

  // Throws std::invalid_argument naming the first value that is out of range.
  void validate() const;
};

inline constexpr std::size_t kMaxCapacity = 4'000'000'000;

}  // namespace recengine
