// Settings in an engine's file.
#include <algorithm>
#include <stdexcept>

#include "engine/sections.hpp"

namespace recengine {

void save_settings(SnapshotWriter& file, const Settings& settings, float learning_rate) {
  add<std::uint64_t>(
      file, "settings.ints",
      {settings.dim, static_cast<std::uint64_t>(settings.objective), static_cast<std::uint64_t>(settings.optimizer),
       settings.seed, settings.negatives, settings.history});
  add<double>(file, "settings.reals",
              {learning_rate, settings.learning_rate_decay, settings.l2, settings.max_step, settings.init_scale,
               settings.recent_share, settings.history_decay, settings.popularity_half_life});
  add<double>(file, "settings.session", {settings.session_gap});
  save_limits(file, settings.limits);
  if (settings.storage != Storage::kFp32) {  // else the file is as it was before there was a choice
    add<std::uint64_t>(file, "settings.storage", {static_cast<std::uint64_t>(settings.storage)});
  }
  if (settings.user_model == UserModel::kAls) {
    add<double>(file, "settings.als", {settings.als.unobserved_weight, settings.als.l2, settings.als.l2_exponent});
  }
}

namespace {

Storage load_storage(const SnapshotReader& file) {
  if (!file.has("settings.storage")) return Storage::kFp32;
  const std::uint64_t storage = read<std::uint64_t>(file, "settings.storage", 1)[0];
  require(storage <= 1, "a setting is out of range");
  return static_cast<Storage>(storage);
}

// A file without any of the sections was written before there were neighbors, or by an engine that keeps none.
void load_neighbor_settings(const SnapshotReader& file, Settings& settings) {
  const auto sections = {"neighbors.ints",  "neighbors.reals",  "neighbors",        "neighbors.ends",
                         "neighbors.after", "neighbors.before", "neighbors.window", "neighbors.levels"};
  if (std::none_of(sections.begin(), sections.end(), [&file](const char* name) { return file.has(name); })) return;
  const auto ints = read<std::uint64_t>(file, "neighbors.ints", 2);
  require(ints[0] >= 1 && ints[0] <= kMaxNeighbors && ints[1] <= kMaxNeighborsWindow, "a setting is out of range");
  settings.neighbors = static_cast<std::uint32_t>(ints[0]);
  settings.neighbors_window = static_cast<std::uint32_t>(ints[1]);
  settings.neighbors_half_life = read<double>(file, "neighbors.reals", 1)[0];
}

// A file without any of the sections was written before there were rankers, or by an engine that has none.
RankerKind load_ranker_kind(const SnapshotReader& file) {
  const auto sections = {"ranker",          "ranker.weights", "ranker.sums",    "ranker.trends", "ranker.popular",
                         "history.times",   "ranker.names",   "ranker.offsets", "ranker.totals", "ranker.mixtures",
                         "ranker.features", "ranker.network", "ranker.net_sums"};
  if (std::none_of(sections.begin(), sections.end(), [&file](const char* name) { return file.has(name); })) {
    return RankerKind::kNone;
  }
  const std::uint64_t kind = read<std::uint64_t>(file, "ranker", 1)[0];
  require(
      kind == static_cast<std::uint64_t>(RankerKind::kLinear) || kind == static_cast<std::uint64_t>(RankerKind::kMlp),
      "a setting is out of range");
  return static_cast<RankerKind>(kind);
}

void load_feature_names(const SnapshotReader& file, Settings& settings) {
  const auto text = file.array<char>("ranker.names");
  const auto offsets = file.array<std::uint64_t>("ranker.offsets");
  require(!offsets.empty() && offsets.size() <= kMaxItemFeatures + 1 && offsets.front() == 0 &&
              offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()),
          "ranker.offsets are out of order");
  for (std::size_t f = 0; f + 1 < offsets.size(); ++f) {
    settings.item_features.emplace_back(text.begin() + static_cast<std::ptrdiff_t>(offsets[f]),
                                        text.begin() + static_cast<std::ptrdiff_t>(offsets[f + 1]));
    try {
      validate_id(settings.item_features.back());  // UTF-8
      check_feature_names(settings.item_features);
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
  }
}

}  // namespace

Counters load_counters(const SnapshotReader& file) {
  // The number of the next event was not there at first: it was that of all events.
  const bool is_first = file.version() == 1 && file.array<std::uint64_t>("counters").size() == 6;
  const auto values = read<std::uint64_t>(file, "counters", is_first ? 6 : 7);
  require(values[3] <= 2 && values[4] <= 2, "an id kind is out of range");
  return {values[0],
          values[1],
          values[2],
          static_cast<IdKind>(values[3]),
          static_cast<IdKind>(values[4]),
          values[5],
          is_first ? values[0] : values[6]};
}

bool has_sessions(const SnapshotReader& file) {
  const auto sections = {"settings.session", "history.sessions", "visits",
                         "visits.sessions",  "context",          "context.sums"};
  return std::any_of(sections.begin(), sections.end(), [&file](const char* name) { return file.has(name); });
}

Settings load_settings(const SnapshotReader& file) {
  const auto ints = read<std::uint64_t>(file, "settings.ints", 6);
  const auto reals = read<double>(file, "settings.reals", 8);
  require(ints[1] <= 3 && ints[2] <= 1 && ints[4] <= kMaxNegatives && ints[5] <= kMaxHistory,
          "a setting is out of range");
  const auto real = [&reals](std::size_t k) { return static_cast<float>(reals[k]); };
  Settings settings;
  settings.dim = ints[0];
  settings.objective = static_cast<Objective>(ints[1]);
  settings.optimizer = static_cast<Optimizer>(ints[2]);
  settings.seed = ints[3];
  settings.negatives = static_cast<std::uint32_t>(ints[4]);
  settings.history = static_cast<std::uint32_t>(ints[5]);
  settings.learning_rate = real(0);
  settings.learning_rate_decay = real(1);
  settings.l2 = real(2);
  settings.max_step = real(3);
  settings.init_scale = real(4);
  settings.recent_share = real(5);
  settings.history_decay = real(6);
  settings.popularity_half_life = reals[7];
  settings.storage = load_storage(file);
  load_neighbor_settings(file, settings);
  settings.ranker = load_ranker_kind(file);
  if (settings.ranks()) load_feature_names(file, settings);
  if (has_sessions(file)) settings.session_gap = read<double>(file, "settings.session", 1)[0];
  settings.limits = load_limits(file);
  if (file.has("settings.als")) {
    const auto als = read<double>(file, "settings.als", 3);
    settings.user_model = UserModel::kAls;
    settings.als.unobserved_weight = static_cast<float>(als[0]);
    settings.als.l2 = static_cast<float>(als[1]);
    settings.als.l2_exponent = static_cast<float>(als[2]);
  }
  try {
    settings.validate();
  } catch (const std::invalid_argument& error) {
    require(false, error.what());
  }
  return settings;
}

}  // namespace recengine
