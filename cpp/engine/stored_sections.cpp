#include "engine/stored_sections.hpp"

#include <bit>
#include <cmath>
#include <memory>

#include "storage/id_index.hpp"

namespace recengine {

namespace {

StoredLists lists_of(const SnapshotReader& file, const std::string& name, std::size_t rows) {
  return {file.array<Row>(name), read<std::uint64_t>(file, name + ".ends", rows)};
}

// Of each item, at a stride: looked at now, since they decide the order of lists.
std::span<const double> levels_of(const SnapshotReader& file, const std::string& name, std::size_t size) {
  const auto levels = read<double>(file, name, size);
  bool is_valid = true;
  for (const double level : levels) is_valid &= level < INFINITY;  // also false for NaN
  require(is_valid, name, " holds a value out of range");
  return levels;
}

}  // namespace

void adopt_user_state(const SnapshotReader& file, UserState& state, std::size_t items) {
  const std::size_t users = file.array<float>("users.biases").size();
  StoredUsers stored;
  stored.history = lists_of(file, "history", users);
  const std::size_t entries = stored.history.values.size();
  stored.sessions = read<std::uint32_t>(file, "history.sessions", entries);
  if (state.timed()) stored.times = read<float>(file, "history.times", entries);
  stored.visits = read<double>(file, "visits", users);
  stored.visited = read<std::uint32_t>(file, "visits.sessions", users);
  stored.seen = lists_of(file, "seen", users);
  if (keeps_dislikes(file, state)) stored.disliked = lists_of(file, "disliked", users);
  stored.items = static_cast<Row>(items);
  state.adopt(stored);
}

void adopt_item_state(const SnapshotReader& file, Model& model, Ranker& ranker) {
  const std::size_t items = file.array<float>("items.biases").size();
  model.popularity.adopt(levels_of(file, "popularity", items));
  if (model.cooccurrence.on()) {
    Cooccurrence::StoredAll stored{lists_of(file, "neighbors", items), {}, {}, {}, {}, static_cast<Row>(items)};
    stored.after = read<float>(file, "neighbors.after", stored.entries.values.size());
    stored.before = read<float>(file, "neighbors.before", stored.entries.values.size());
    stored.windows = read<std::int64_t>(file, "neighbors.window", items);
    stored.levels = levels_of(file, "neighbors.levels", items);
    model.cooccurrence.adopt(stored);
  }
  if (ranker.on()) {
    model.demand->trends.adopt(levels_of(file, "ranker.trends", items * Trends::kCount));
    ranker.features.adopt(read<float>(file, "ranker.features", items * ranker.features.count()));
  }
}

void adopt_table(const SnapshotReader& file, const std::string& name, IdKind kind, EmbeddingTable& table) {
  const auto biases = file.array<float>(name + ".biases");
  const std::size_t count = biases.size();
  require(count < kNoRow, name, " has too many slots");
  require(kind != IdKind::kNone || count == 0, name, " are of no kind");
  const auto live = read<std::uint64_t>(file, name + ".live", count / 64 + 1);
  require(live.back() >> (count % 64) == 0, name, ".live has a slot out of range");
  std::size_t num_live = 0;
  for (const std::uint64_t word : live) num_live += static_cast<std::size_t>(std::popcount(word));
  const std::size_t size = count * table.stride();
  const auto rows = table.storage() == Storage::kFp32 ? std::as_bytes(read<float>(file, name + ".vectors", size))
                                                      : std::as_bytes(read<Half>(file, name + ".vectors", size));
  const auto ints = read<std::int64_t>(file, name + ".ints", kind == IdKind::kInt ? count : 0);
  const auto offsets = read<std::uint64_t>(file, name + ".offsets", kind == IdKind::kString ? count + 1 : 1);
  const IdSpan ids{kind, count, ints.data(), file.array<char>(name + ".text").data(), offsets.data()};
  table.ids.adopt(std::make_unique<const IdIndex>(load_index(file, name, ids, num_live)));
  table.adopt({rows, biases, live});
}

}  // namespace recengine
