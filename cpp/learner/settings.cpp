#include "learner/settings.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "storage/message.hpp"

namespace recengine {

namespace {

template <class Value>
[[noreturn]] void refuse(std::string_view name, std::string_view expected, const Value& value) {
  throw std::invalid_argument(message(name, " must be ", expected, ", not ", value));
}

constexpr std::array<std::pair<std::string_view, Objective>, 4> kObjectives{{{"softmax", Objective::kSoftmax},
                                                                             {"bpr", Objective::kBpr},
                                                                             {"logistic", Objective::kLogistic},
                                                                             {"squared", Objective::kSquared}}};
constexpr std::array<std::pair<std::string_view, UserModel>, 2> kUserModels{
    {{"learned", UserModel::kLearned}, {"als", UserModel::kAls}}};
constexpr std::array<std::pair<std::string_view, Optimizer>, 2> kOptimizers{
    {{"adagrad", Optimizer::kAdagrad}, {"sgd", Optimizer::kSgd}}};
constexpr std::array<std::pair<std::string_view, Storage>, 2> kStorages{
    {{"fp32", Storage::kFp32}, {"fp16", Storage::kFp16}}};
constexpr std::array<std::pair<std::string_view, Eviction>, 2> kEvictions{
    {{"error", Eviction::kError}, {"lru", Eviction::kLru}}};
constexpr std::array<std::pair<std::string_view, RankerKind>, 3> kRankers{
    {{"none", RankerKind::kNone}, {"linear", RankerKind::kLinear}, {"mlp", RankerKind::kMlp}}};

template <class Table>
auto parse(const Table& table, std::string_view what, std::string_view name) {
  std::string expected = "one of";
  for (const auto& [known, value] : table) {
    if (known == name) return value;
    expected += message(" '", known, "'");
  }
  refuse(what, expected, message("'", name, "'"));
}

template <class Table, class Value>
std::string_view name_in(const Table& table, Value value) {
  for (const auto& [name, known] : table) {
    if (known == value) return name;
  }
  return "unknown";
}

void check_range(std::string_view name, double value, double low, double high, std::string_view expected) {
  if (!(value >= low && value <= high)) refuse(name, expected, value);  // also refuses NaN
}

}  // namespace

Objective parse_objective(std::string_view name) { return parse(kObjectives, "objective", name); }
UserModel parse_user_model(std::string_view name) { return parse(kUserModels, "user_model", name); }
Optimizer parse_optimizer(std::string_view name) { return parse(kOptimizers, "optimizer", name); }
Storage parse_storage(std::string_view name) { return parse(kStorages, "storage", name); }
Eviction parse_eviction(std::string_view name) { return parse(kEvictions, "evict", name); }
RankerKind parse_ranker(std::string_view name) { return parse(kRankers, "ranker", name); }
std::string_view name_of(Objective objective) { return name_in(kObjectives, objective); }
std::string_view name_of(UserModel user_model) { return name_in(kUserModels, user_model); }
std::string_view name_of(Optimizer optimizer) { return name_in(kOptimizers, optimizer); }
std::string_view name_of(Storage storage) { return name_in(kStorages, storage); }
std::string_view name_of(Eviction eviction) { return name_in(kEvictions, eviction); }
std::string_view name_of(RankerKind ranker) { return name_in(kRankers, ranker); }

void check_learning_rate(double rate) { check_range("learning_rate", rate, 0, 1e6, "a finite number of at least 0"); }

void LimitSettings::validate() const {
  if (max_users > kMaxCapacity) refuse("max_users", message("at most ", kMaxCapacity), max_users);
  if (max_items > kMaxCapacity) refuse("max_items", message("at most ", kMaxCapacity), max_items);
  if (!(user_budget >= 0 && user_budget <= 1e9)) {
    refuse("user_budget", "a positive number of steps an hour, at most 1e9", user_budget);
  }
  if (!(max_weight > 0)) refuse("max_weight", "positive", max_weight);
  if (!(max_value > 0)) refuse("max_value", "positive", max_value);
  if (!(max_ahead >= 0)) refuse("max_ahead", "a number of seconds of at least 0", max_ahead);
}

void Settings::validate() const {
  if (dim < 1 || dim > kMaxDim) refuse("dim", message("between 1 and ", kMaxDim), dim);
  check_learning_rate(learning_rate);
  check_range("learning_rate_decay", learning_rate_decay, 0, 1, "between 0 and 1");
  check_range("l2", l2, 0, 1e6, "a finite number of at least 0");
  check_range("max_step", max_step, 1e-12, 1e6, "between 1e-12 and 1e6");
  check_range("init_scale", init_scale, 0, 1e6, "a finite number of at least 0");
  check_range("recent_share", recent_share, 0, 0.999f, "between 0 and 0.999");
  check_range("history_decay", history_decay, 0, 1, "between 0 and 1");
  if (popularity_half_life != 0 && !(popularity_half_life >= 1e-3))
    refuse("popularity_half_life", "at least 0.001 seconds", popularity_half_life);
  if (!(neighbors_half_life >= 1e-3)) refuse("neighbors_half_life", "at least 0.001 seconds", neighbors_half_life);
  if (neighbors > kMaxNeighbors) refuse("neighbors", message("at most ", kMaxNeighbors), neighbors);
  if (neighbors_window < 1 || neighbors_window > kMaxNeighborsWindow) {
    refuse("neighbors_window", message("between 1 and ", kMaxNeighborsWindow), neighbors_window);
  }
  if (!(session_gap >= 0)) refuse("session_gap", "a number of seconds of at least 0", session_gap);
  als.validate();
  limits.validate();
  if (user_model == UserModel::kAls && dim > kMaxAlsDim) {
    refuse("dim", message("at most ", kMaxAlsDim, " for user_model 'als'"), dim);
  }
  if (negatives > kMaxNegatives) refuse("negatives", message("at most ", kMaxNegatives), negatives);
  if (history > kMaxHistory) refuse("history", message("at most ", kMaxHistory), history);
  const bool is_choice = objective == Objective::kSoftmax || objective == Objective::kBpr;
  if (ranks() && !is_choice) {
    refuse("ranker", message("None for objective '", name_of(objective), "'"), message("'", name_of(ranker), "'"));
  }
  if (!item_features.empty() && !ranks()) refuse("item_features", "empty without a ranker", item_features.front());
  if (item_features.size() > kMaxItemFeatures) {
    refuse("item_features", message("at most ", kMaxItemFeatures, " names"), item_features.size());
  }
  for (std::size_t f = 0; f < item_features.size(); ++f) {
    const std::string& name = item_features[f];
    const auto before = item_features.begin() + static_cast<std::ptrdiff_t>(f);
    if (name.empty() || name.size() > kMaxFeatureName) {
      refuse("item_features", message("names of 1 to ", kMaxFeatureName, " bytes"), message("'", name, "'"));
    }
    if (std::find(item_features.begin(), before, name) != before) {
      refuse("item_features", "distinct names", message("twice '", name, "'"));
    }
  }
  if (is_choice && negatives == 0)
    refuse("negatives", message("at least 1 for objective '", name_of(objective), "'"), 0);
  if (objective == Objective::kSquared && negatives != 0) refuse("negatives", "0 for objective 'squared'", negatives);
}

}  // namespace recengine
