// Settings: every hyper-parameter of an engine. Names, meaning and defaults are those of the Python class.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "learner/als_settings.hpp"
#include "learner/limit_settings.hpp"
#include "storage/row_table.hpp"

namespace recengine {

enum class Objective : std::uint32_t { kSoftmax, kBpr, kLogistic, kSquared };
enum class UserModel : std::uint32_t { kLearned, kAls };
enum class Optimizer : std::uint32_t { kAdagrad, kSgd };
enum class RankerKind : std::uint32_t { kNone, kLinear, kMlp };

// A user's last items that a ranker looks at.
inline constexpr std::uint32_t kRankerHistory = 64;

// Of an event, in seconds, without sign: over any half-life far from overflow.
inline constexpr double kMaxTimestamp = 1e15;

struct Settings {
  std::size_t dim = 64;
  Objective objective = Objective::kSoftmax;
  Optimizer optimizer = Optimizer::kAdagrad;
  std::uint64_t seed = 0;
  float learning_rate = 0.1f;
  float learning_rate_decay = 0.0f;  // rate after n events: learning_rate / (1 + decay * n)
  float l2 = 0.0f;
  float max_step = 1.0f;    // no coordinate moves further in one step
  float init_scale = 0.1f;  // rows are born uniform in (-init_scale, init_scale)
  std::uint32_t negatives = 64;
  float recent_share = 0.5f;  // of the softmax negatives: drawn from recent events instead of uniformly
  std::uint32_t history = 32;
  float history_decay = 0.5f;   // the weights of the history before any are learned
  double session_gap = 3600.0;  // seconds; a longer pause ends a session
  UserModel user_model = UserModel::kLearned;
  AlsSettings als;  // of user_model kAls
  // Seconds; infinity: never forgets. 0: of several, weighed as is learned (Demand); without a ranker kHalfLife.
  double popularity_half_life = 0;
  Storage storage = Storage::kFp32;            // of the rows of users and items
  std::uint32_t neighbors = 0;                 // slots of an item's list of neighbours; 0: no co-occurrence is kept
  std::uint32_t neighbors_window = 8;          // last items that an event is counted with
  double neighbors_half_life = 120 * 86400.0;  // seconds; infinity: never forgets

  RankerKind ranker = RankerKind::kNone;  // what orders the candidates that retrieval and others found

  std::vector<std::string> item_features;  // names of the caller's own, for the ranker

  LimitSettings limits;

  bool ranks() const { return ranker != RankerKind::kNone; }
  static constexpr double kHalfLife = 14 * 86400.0;
  double half_life() const { return popularity_half_life > 0 ? popularity_half_life : kHalfLife; }
  // How many of a user's last items are remembered.
  std::uint32_t remembered() const {
    return std::max({history, neighbors == 0 ? 0 : neighbors_window, ranks() ? kRankerHistory : 0});
  }

  // Throws std::invalid_argument naming the first value that is out of range.
  void validate() const;
};

inline constexpr std::size_t kMaxDim = 65536;
inline constexpr std::uint32_t kMaxHistory = 1024;
inline constexpr std::uint32_t kMaxNegatives = 65536;
inline constexpr std::uint32_t kMaxNeighbors = 256;
inline constexpr std::uint32_t kMaxNeighborsWindow = 64;
inline constexpr std::size_t kMaxItemFeatures = 16;
inline constexpr std::size_t kMaxFeatureName = 64;  // bytes

Objective parse_objective(std::string_view name);
UserModel parse_user_model(std::string_view name);
Optimizer parse_optimizer(std::string_view name);
Storage parse_storage(std::string_view name);
RankerKind parse_ranker(std::string_view name);
std::string_view name_of(Objective objective);
std::string_view name_of(UserModel user_model);
std::string_view name_of(Optimizer optimizer);
std::string_view name_of(Storage storage);
std::string_view name_of(RankerKind ranker);

// REQUIRES-checks shared with the setters of a running engine; throw std::invalid_argument.
void check_learning_rate(double rate);

}  // namespace recengine
