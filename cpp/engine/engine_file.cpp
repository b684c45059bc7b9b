// Saving and loading: the sections of an engine's file. docs/file-format.md lists them.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "engine/engine.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/fence.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/snapshot.hpp"

namespace recengine {

namespace {

template <class T>
void add(SnapshotWriter& file, const std::string& name, const std::vector<T>& values) {
  file.add<T>(name, std::span<const T>(values));
}

// Thrown where a section holds what no engine wrote; load adds the file's name.
class Damage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Parts>
void require(bool condition, const Parts&... what) {
  if (!condition) throw Damage(message(what...));
}

template <class T>
std::span<const T> read(const SnapshotReader& file, const std::string& name, std::size_t length) {
  const auto values = file.array<T>(name);
  require(values.size() == length, name, " holds ", values.size(), " values, not ", length);
  return values;
}

void save_settings(SnapshotWriter& file, const Settings& settings, float learning_rate) {
  add<std::uint64_t>(
      file, "settings.ints",
      {settings.dim, static_cast<std::uint64_t>(settings.objective), static_cast<std::uint64_t>(settings.optimizer),
       settings.seed, settings.negatives, settings.history});
  add<double>(file, "settings.reals",
              {learning_rate, settings.learning_rate_decay, settings.l2, settings.max_step, settings.init_scale,
               settings.recent_share, settings.history_decay, settings.popularity_half_life});
  add<double>(file, "settings.session", {settings.session_gap});
  if (settings.storage != Storage::kFp32) {  // else the file is as it was before there was a choice
    add<std::uint64_t>(file, "settings.storage", {static_cast<std::uint64_t>(settings.storage)});
  }
  if (settings.user_model == UserModel::kAls) {
    add<double>(file, "settings.als", {settings.als.unobserved_weight, settings.als.l2, settings.als.l2_exponent});
  }
}

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
  const auto sections = {"ranker",          "ranker.weights", "ranker.sums",    "ranker.trends",
                         "ranker.popular",  "history.times",  "ranker.names",   "ranker.offsets",
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

// Whether the file was written since there are sessions and learned weights.
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

std::vector<Row> live_rows(const EmbeddingTable& table) {
  std::vector<Row> rows;
  for (Row row = 0; row < table.count(); ++row) {
    if (table.is_live(row)) rows.push_back(row);
  }
  return rows;
}

// Rows as the table holds them: a half that was converted comes back as it was.
template <class Element>
void save_vectors(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table,
                  const std::vector<Row>& rows) {
  AlignedFloats padded(table.stride());
  AlignedVector<Element> elements(table.stride());
  file.begin<Element>(name);
  for (const Row row : rows) {
    check_interrupt();
    table.rows.load(row, padded.data());
    row_kernels<Element>().store(elements.data(), padded.data(), padded.size());
    file.append(std::span<const Element>(elements).first(table.dim()));
  }
  file.end();
}

template <class Element>
void load_vectors(const SnapshotReader& file, const std::string& name, std::span<const Row> slots,
                  EmbeddingTable& table) {
  const auto vectors = read<Element>(file, name, slots.size() * table.dim());
  AlignedFloats padded(table.stride());
  AlignedVector<Element> elements(table.stride(), Element{});
  for (std::size_t k = 0; k < slots.size(); ++k) {
    check_interrupt();
    std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>(k * table.dim()), table.dim(), elements.begin());
    row_kernels<Element>().load(padded.data(), elements.data(), padded.size());
    try {
      check_finite(padded, name);
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    table.rows.store(slots[k], padded.data());
  }
}

void save_table(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table,
                const std::vector<Row>& rows) {
  IdArray ids;
  for (const Row row : rows) ids.append(table.ids, row);
  add(file, name + ".slots", rows);
  add(file, name + ".free", table.free_slots());
  add(file, name + ".ints", ids.ints);
  file.add<char>(name + ".text", std::span<const char>(ids.bytes));
  add(file, name + ".offsets", ids.offsets);
  const auto save = table.storage() == Storage::kFp32 ? save_vectors<float> : save_vectors<Half>;
  save(file, name + ".vectors", table, rows);
  file.begin<float>(name + ".scalars");
  for (const Row row : rows) {
    const std::array<float, 3> scalars{load_relaxed(&table.bias[row]), load_relaxed(&table.accumulators[row].row),
                                       load_relaxed(&table.accumulators[row].bias)};
    file.append(std::span<const float>(scalars));
  }
  file.end();
}

// Fills the table with what has been checked; returns the live slots.
std::vector<Row> load_table(const SnapshotReader& file, const std::string& name, IdKind kind, EmbeddingTable& table) {
  const auto slots = file.array<Row>(name + ".slots");
  const auto free = file.array<Row>(name + ".free");
  const std::size_t size = slots.size();
  const std::size_t count = size + free.size();
  require(count < kNoRow, name, " has too many slots");
  std::vector<bool> used(count);
  const auto claim = [&](Row slot) {
    require(slot < count && !used[slot], name, " has slot ", slot, " twice or out of range");
    used[slot] = true;
  };
  std::for_each(slots.begin(), slots.end(), claim);
  std::for_each(free.begin(), free.end(), claim);

  const auto scalars = read<float>(file, name + ".scalars", size * 3);
  for (std::size_t k = 0; k < scalars.size(); ++k) {
    require(std::isfinite(scalars[k]) && (k % 3 == 0 || scalars[k] >= 0), name, ".scalars holds a value out of range");
  }
  const auto ints = read<std::int64_t>(file, name + ".ints", kind == IdKind::kInt ? size : 0);
  const auto text = file.array<char>(name + ".text");
  const auto offsets = read<std::uint64_t>(file, name + ".offsets", kind == IdKind::kString ? size + 1 : 1);
  require(offsets.front() == 0 && offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()), name,
          ".offsets are out of order");
  const IdSpan ids{kind, size, ints.data(), text.data(), offsets.data()};

  table.restore_slots(static_cast<Row>(count), {free.begin(), free.end()});
  const auto load = table.storage() == Storage::kFp32 ? load_vectors<float> : load_vectors<Half>;
  load(file, name + ".vectors", slots, table);
  table.ids.reserve(size);
  if (kind != IdKind::kNone) table.ids.claim_kind(kind);
  for (std::size_t k = 0; k < size; ++k) {
    check_interrupt();
    const Row slot = slots[k];
    try {
      if (kind == IdKind::kString) validate_id(ids.string_at(k));
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    const bool fresh = with_key(id_at(ids, k), [&](auto key) { return table.restore_id(key, slot); });
    require(fresh, name, " has id ", describe(id_at(ids, k)), " twice");
    store_relaxed(&table.bias[slot], scalars[3 * k]);
    store_relaxed(&table.accumulators[slot].row, scalars[3 * k + 1]);
    store_relaxed(&table.accumulators[slot].bias, scalars[3 * k + 2]);
    full_fence();
    table.mark_replaced(slot);
  }
  return {slots.begin(), slots.end()};
}

void save_user_state(SnapshotWriter& file, const UserState& state, const std::vector<Row>& users) {
  std::vector<Row> history, seen;
  std::vector<std::uint32_t> sessions, session;
  std::vector<std::uint64_t> history_ends, seen_ends;
  std::vector<double> visits;
  std::vector<float> times;
  for (const Row user : users) {
    check_interrupt();
    state.for_each_entry(user, [&](std::uint64_t entry, float time) {
      if (state.timed()) times.push_back(time);
      history.push_back(UserState::item_of(entry));
      sessions.push_back(UserState::session_of(entry));
    });
    visits.push_back(state.last_visit(user));
    session.push_back(state.session(user));
    history_ends.push_back(history.size());
    const auto first = static_cast<std::ptrdiff_t>(seen.size());
    state.seen(user).for_each([&seen](Row item) { seen.push_back(item); });
    std::sort(seen.begin() + first, seen.end());
    seen_ends.push_back(seen.size());
  }
  add(file, "history", history);
  add(file, "history.ends", history_ends);
  add(file, "history.sessions", sessions);
  if (state.timed()) add(file, "history.times", times);
  add(file, "visits", visits);
  add(file, "visits.sessions", session);
  add(file, "seen", seen);
  add(file, "seen.ends", seen_ends);
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
}

void save_neighbors(SnapshotWriter& file, const Settings& settings, const Cooccurrence& lists,
                    const std::vector<Row>& items) {
  if (!lists.on()) return;
  add<std::uint64_t>(file, "neighbors.ints", {settings.neighbors, settings.neighbors_window});
  add<double>(file, "neighbors.reals", {settings.neighbors_half_life});
  std::vector<Row> entries;
  std::vector<std::uint64_t> ends;
  std::vector<float> after, before;
  std::vector<std::int64_t> windows;
  std::vector<double> levels;
  for (const Row item : items) {
    check_interrupt();
    const Cooccurrence::Stored list = lists.stored(item);
    entries.insert(entries.end(), list.entries.begin(), list.entries.end());
    after.insert(after.end(), list.after.begin(), list.after.end());
    before.insert(before.end(), list.before.begin(), list.before.end());
    ends.push_back(entries.size());
    windows.push_back(list.window);
    levels.push_back(list.level);
  }
  add(file, "neighbors", entries);
  add(file, "neighbors.ends", ends);
  add(file, "neighbors.after", after);
  add(file, "neighbors.before", before);
  add(file, "neighbors.window", windows);
  add(file, "neighbors.levels", levels);
}

void load_neighbors(const SnapshotReader& file, Cooccurrence& lists, const std::vector<Row>& items,
                    const EmbeddingTable& table) {
  if (!lists.on()) return;
  const auto ends = read<std::uint64_t>(file, "neighbors.ends", items.size());
  const auto windows = read<std::int64_t>(file, "neighbors.window", items.size());
  const auto levels = read<double>(file, "neighbors.levels", items.size());
  const auto entries = file.array<Row>("neighbors");
  const auto after = read<float>(file, "neighbors.after", entries.size());
  const auto before = read<float>(file, "neighbors.before", entries.size());
  require(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() ? 0 : ends.back()) == entries.size(),
          "neighbors.ends are out of order");
  const auto is_count = [](float count) { return count >= 0 && count < INFINITY; };
  Cooccurrence::Stored list;
  std::vector<Row> sorted;
  for (std::size_t k = 0; k < items.size(); ++k) {
    check_interrupt();
    const std::size_t first = k == 0 ? 0 : ends[k - 1], size = ends[k] - first;
    require(size <= lists.slots(), "an item has too many neighbors");
    require(!std::isnan(levels[k]) && levels[k] < INFINITY, "neighbors.levels holds a value out of range");
    require(lists.can_restore(windows[k], size), "neighbors.window holds a value out of range");
    const auto part = [first, size](auto values) { return values.subspan(first, size); };
    for (const Row entry : part(entries)) {
      require(entry == 0 || (entry - 1 < table.count() && table.is_live(entry - 1) && entry - 1 != items[k]),
              "an item has an unknown neighbor");
    }
    require(std::all_of(part(after).begin(), part(after).end(), is_count) &&
                std::all_of(part(before).begin(), part(before).end(), is_count),
            "a neighbor's count is out of range");
    sorted.assign(part(entries).begin(), part(entries).end());
    sorted.erase(std::remove(sorted.begin(), sorted.end(), 0), sorted.end());
    std::sort(sorted.begin(), sorted.end());
    require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "an item has a neighbor twice");
    list.entries.assign(part(entries).begin(), part(entries).end());
    list.after.assign(part(after).begin(), part(after).end());
    list.before.assign(part(before).begin(), part(before).end());
    list.window = windows[k];
    list.level = levels[k];
    lists.restore(items[k], list);
  }
}

void save_context(SnapshotWriter& file, const ContextWeights& context) {
  std::vector<float> values, sums;
  for (const LearnedScalar& scalar : context.scalars()) {
    values.push_back(load_relaxed(&scalar.value));
    sums.push_back(load_relaxed(&scalar.sum));
  }
  add(file, "context", values);
  add(file, "context.sums", sums);
}

void load_context(const SnapshotReader& file, ContextWeights& context) {
  if (!has_sessions(file)) return;
  const std::size_t size = context.scalars().size();
  const auto values = read<float>(file, "context", size);
  const auto sums = read<float>(file, "context.sums", size);
  std::vector<LearnedScalar> scalars;
  for (std::size_t k = 0; k < size; ++k) scalars.push_back({values[k], sums[k]});
  require(std::all_of(scalars.begin(), scalars.end(), ContextWeights::is_valid), "a context weight is out of range");
  context.restore(scalars);
}

void save_ranker(SnapshotWriter& file, const Settings& settings, const Ranker& ranker, const std::vector<Row>& items) {
  if (!ranker.on()) return;
  add<std::uint64_t>(file, "ranker", {static_cast<std::uint64_t>(settings.ranker)});
  std::vector<float> values, sums;
  for (const LearnedScalar& scalar : ranker.weights.scalars()) {
    values.push_back(load_relaxed(&scalar.value));
    sums.push_back(load_relaxed(&scalar.sum));
  }
  add(file, "ranker.weights", values);
  add(file, "ranker.sums", sums);
  if (ranker.network) {
    add(file, "ranker.network", ranker.network->values());
    add(file, "ranker.net_sums", ranker.network->sums());
  }
  std::vector<double> trends;
  for (const Row item : items) {
    const Trends::Levels levels = ranker.trends.levels(item);
    trends.insert(trends.end(), levels.begin(), levels.end());
  }
  add(file, "ranker.trends", trends);
  std::vector<Row> popular;
  for (std::size_t slot = 0; slot < PopularItems::kSize; ++slot) popular.push_back(ranker.popular.entry(slot));
  add(file, "ranker.popular", popular);
  std::string text;
  std::vector<std::uint64_t> offsets{0};
  for (const std::string& name : settings.item_features) {
    text += name;
    offsets.push_back(text.size());
  }
  file.add<char>("ranker.names", std::span<const char>(text));
  add(file, "ranker.offsets", offsets);
  std::vector<float> features;
  for (const Row item : items) {
    for (std::size_t f = 0; f < ranker.features.count(); ++f) features.push_back(ranker.features.get(item, f));
  }
  add(file, "ranker.features", features);
}

void load_ranker(const SnapshotReader& file, Ranker& ranker, const std::vector<Row>& items,
                 const EmbeddingTable& table) {
  if (!ranker.on()) return;
  const std::size_t size = ranker.weights.scalars().size();
  const auto values = read<float>(file, "ranker.weights", size);
  const auto sums = read<float>(file, "ranker.sums", size);
  std::vector<LearnedScalar> scalars;
  for (std::size_t k = 0; k < size; ++k) scalars.push_back({values[k], sums[k]});
  require(std::all_of(scalars.begin(), scalars.end(), LinearWeights::is_valid), "a ranker's weight is out of range");
  ranker.weights.restore(scalars);
  if (ranker.network) {
    const auto parameters = read<float>(file, "ranker.network", ranker.network->num_parameters());
    const auto squares = read<float>(file, "ranker.net_sums", ranker.network->num_parameters());
    for (const float value : parameters) {
      require(std::abs(value) <= Network::kMostWeight, "a ranker's weight is out of range");
    }
    for (const float sum : squares) require(sum >= 0 && sum <= kMaxAccumulator, "a ranker's sum is out of range");
    ranker.network->restore(parameters, squares);
  }
  const auto trends = read<double>(file, "ranker.trends", items.size() * Trends::kCount);
  for (std::size_t k = 0; k < items.size(); ++k) {
    Trends::Levels levels;
    std::copy_n(trends.begin() + static_cast<std::ptrdiff_t>(k * Trends::kCount), Trends::kCount, levels.begin());
    for (const double level : levels) require(!std::isnan(level) && level < INFINITY, "a trend is out of range");
    ranker.trends.restore(items[k], levels);
  }
  const auto popular = read<Row>(file, "ranker.popular", PopularItems::kSize);
  for (std::size_t slot = 0; slot < popular.size(); ++slot) {
    const Row entry = popular[slot];
    require(entry == 0 || (entry - 1 < table.count() && table.is_live(entry - 1)), "an unknown item is popular");
    ranker.popular.restore(slot, entry);
  }
  const std::size_t count = ranker.features.count();
  const auto features = read<float>(file, "ranker.features", items.size() * count);
  for (std::size_t k = 0; k < features.size(); ++k) {
    require(std::abs(features[k]) <= 1e15f, "an item feature is out of range");
    ranker.features.set(items[k / count], k % count, features[k]);
  }
}

void save_filters(SnapshotWriter& file, const FilterSets& filters, const std::vector<Row>& items) {
  std::string text;
  std::vector<std::uint64_t> offsets{0}, ends;
  std::vector<Row> rows;
  filters.for_each_filter([&](std::string_view name, const Bitmap& set) {
    check_interrupt();
    text += name;
    offsets.push_back(text.size());
    set.for_each([&rows](Row row) { rows.push_back(row); });
    ends.push_back(rows.size());
  });
  file.add<char>("filters.text", std::span<const char>(text));
  add(file, "filters.offsets", offsets);
  add(file, "filters.rows", rows);
  add(file, "filters.ends", ends);

  IdArray labels;
  std::vector<Row> place;  // of each slot among the groups, plus one
  filters.for_each_group([&](Row slot) {
    labels.append(filters.group_names(), slot);
    place.resize(slot + 1);
    place[slot] = static_cast<Row>(labels.size());
  });
  std::vector<Row> groups;
  for (const Row item : items) {
    const Row group = filters.group_of(item);
    groups.push_back(group == 0 ? 0 : place[group - 1]);
  }
  add<std::uint64_t>(file, "groups.kind", {static_cast<std::uint64_t>(filters.group_names().kind())});
  add(file, "groups.ints", labels.ints);
  file.add<char>("groups.text", std::span<const char>(labels.bytes));
  add(file, "groups.offsets", labels.offsets);
  add(file, "groups.items", groups);
}

// Names as they come from the caller: valid ids; whether one comes twice shows when they are taken in.
void check_names(const IdSpan& names, std::string_view what) {
  try {
    for (std::size_t k = 0; names.kind == IdKind::kString && k < names.size; ++k) validate_id(names.string_at(k));
  } catch (const std::invalid_argument& error) {
    require(false, what, ": ", error.what());
  }
}

void load_filters(const SnapshotReader& file, FilterSets& filters, const std::vector<Row>& items,
                  const EmbeddingTable& table) {
  const auto sections = {"filters.text", "filters.offsets", "filters.rows",   "filters.ends", "groups.kind",
                         "groups.ints",  "groups.text",     "groups.offsets", "groups.items"};
  const auto is_there = [&file](const char* name) { return file.has(name); };
  if (std::none_of(sections.begin(), sections.end(), is_there)) return;  // written before there were filters
  const auto text = file.array<char>("filters.text");
  const auto ends = file.array<std::uint64_t>("filters.ends");
  const auto offsets = read<std::uint64_t>(file, "filters.offsets", ends.size() + 1);
  const auto rows = file.array<Row>("filters.rows");
  require(offsets.front() == 0 && offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()),
          "filters.offsets are out of order");
  require(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() ? 0 : ends.back()) == rows.size(),
          "filters.ends are out of order");
  for (const Row row : rows) require(row < table.count() && table.is_live(row), "a filter holds an unknown item");
  const IdSpan names{IdKind::kString, ends.size(), nullptr, text.data(), offsets.data()};
  check_names(names, "filters.text");
  for (std::size_t k = 0; k < ends.size(); ++k) {
    check_interrupt();
    const std::size_t first = k == 0 ? 0 : ends[k - 1];
    filters.set_filter(names.string_at(k), {rows.begin() + static_cast<std::ptrdiff_t>(first),
                                            rows.begin() + static_cast<std::ptrdiff_t>(ends[k])});
  }
  require(filters.filter_names().size() == names.size, "a filter comes twice");

  const std::uint64_t kind = read<std::uint64_t>(file, "groups.kind", 1)[0];
  require(kind <= 2, "the kind of the groups is out of range");
  const auto ints = file.array<std::int64_t>("groups.ints");
  const auto group_text = file.array<char>("groups.text");
  const auto group_offsets = file.array<std::uint64_t>("groups.offsets");
  require(!group_offsets.empty() && group_offsets.front() == 0 && group_offsets.back() == group_text.size() &&
              std::is_sorted(group_offsets.begin(), group_offsets.end()),
          "groups.offsets are out of order");
  const bool strings = static_cast<IdKind>(kind) == IdKind::kString;
  const IdSpan labels{static_cast<IdKind>(kind), strings ? group_offsets.size() - 1 : ints.size(), ints.data(),
                      group_text.data(), group_offsets.data()};
  require(strings ? ints.empty() : group_offsets.size() == 1, "groups are both ints and strings");
  require(labels.size == 0 || labels.kind != IdKind::kNone, "groups are of no kind");
  check_names(labels, "groups.text");
  const auto groups = read<Row>(file, "groups.items", items.size());
  for (const Row group : groups) require(group <= labels.size, "an item is of an unknown group");
  require(filters.restore_groups(labels, items, groups), "a group comes twice");
}

}  // namespace

void Engine::save(const std::string& path) {
  const auto pause = domain_.pause_writers();
  const auto pin = domain_.pin_reader();
  sweep_removed();
  const std::vector<Row> users = live_rows(model_.users);
  const std::vector<Row> items = live_rows(model_.items);
  SnapshotWriter file(path);
  save_settings(file, settings_, learning_rate());
  add<std::uint64_t>(file, "counters",
                     {events_.load(std::memory_order_relaxed), queries_.load(std::memory_order_relaxed),
                      ignored_ids_.load(std::memory_order_relaxed), static_cast<std::uint64_t>(model_.users.ids.kind()),
                      static_cast<std::uint64_t>(model_.items.ids.kind()), model_.recent.pushed(),
                      sequence_.load(std::memory_order_relaxed)});
  add<double>(file, "clock", {latest_timestamp_.load(std::memory_order_relaxed)});
  add<float>(file, "globals", {load_relaxed(&model_.global_bias), load_relaxed(&model_.global_accumulator)});
  save_table(file, "users", model_.users, users);
  save_table(file, "items", model_.items, items);
  std::vector<double> levels;
  for (const Row item : items) levels.push_back(model_.popularity.level(item));
  add(file, "popularity", levels);
  std::vector<Row> window;
  for (std::uint32_t slot = 0; slot < RecentItems::kWindow; ++slot) window.push_back(model_.recent.at(slot));
  add(file, "recent", window);
  save_user_state(file, model_.user_state, users);
  save_neighbors(file, settings_, model_.cooccurrence, items);
  save_context(file, model_.context);
  save_ranker(file, settings_, ranker_, items);
  save_filters(file, filters_, items);
  file.commit();
}

std::unique_ptr<Engine> Engine::load(const std::string& path) {
  const SnapshotReader file(path);
  try {
    return load_from(file);
  } catch (const Damage& damage) {
    throw FormatError(message(path, ": damaged engine file: ", damage.what()));
  }
}

std::unique_ptr<Engine> Engine::load_from(const SnapshotReader& file) {
  auto engine = std::make_unique<Engine>(load_settings(file));
  Model& model = engine->model_;
  const auto pin = engine->domain_.pin_writer();

  const auto counters = read<std::uint64_t>(file, "counters", 7);
  require(counters[3] <= 2 && counters[4] <= 2, "an id kind is out of range");
  const std::vector<Row> users = load_table(file, "users", static_cast<IdKind>(counters[3]), model.users);
  const std::vector<Row> items = load_table(file, "items", static_cast<IdKind>(counters[4]), model.items);
  const auto levels = read<double>(file, "popularity", items.size());
  for (std::size_t k = 0; k < items.size(); ++k) {
    require(!std::isnan(levels[k]) && levels[k] < INFINITY, "a popularity is out of range");
    model.popularity.restore(items[k], levels[k]);
  }
  const auto window = read<Row>(file, "recent", RecentItems::kWindow);
  std::array<Row, RecentItems::kWindow> recent;
  std::copy(window.begin(), window.end(), recent.begin());
  for (const Row item : recent) {
    require(item == kNoRow || (item < model.items.count() && model.items.is_live(item)),
            "the window holds an unknown item");
  }
  model.recent.restore(counters[5], recent);
  load_user_state(file, model.user_state, users, model.items);
  load_neighbors(file, model.cooccurrence, items, model.items);
  load_context(file, model.context);
  load_ranker(file, engine->ranker_, items, model.items);
  load_filters(file, engine->filters_, items, model.items);

  const auto globals = read<float>(file, "globals", 2);
  require(std::isfinite(globals[0]) && std::isfinite(globals[1]) && globals[1] >= 0, "a global value is out of range");
  model.global_bias = globals[0];
  model.global_accumulator = globals[1];
  const double clock = read<double>(file, "clock", 1)[0];
  require(std::isnan(clock) || std::abs(clock) <= kMaxTimestamp, "the clock is out of range");
  engine->latest_timestamp_.store(clock, std::memory_order_relaxed);
  engine->events_.store(counters[0], std::memory_order_relaxed);
  engine->sequence_.store(counters[6], std::memory_order_relaxed);
  engine->queries_.store(counters[1], std::memory_order_relaxed);
  engine->ignored_ids_.store(counters[2], std::memory_order_relaxed);
  return engine;
}

}  // namespace recengine
