// What the sections of a mapped file hold, looked at value by value: as the loaders of sections_*.cpp do.
#include <algorithm>
#include <cmath>

#include "engine/stored_sections.hpp"
#include "kernels/kernels.hpp"
#include "storage/aligned.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr float kMostCoordinate = 1e15f;

// Looks at the rows of a table one after another; ends early where somebody wants to stop.
class Rows {
 public:
  Rows(const EmbeddingTable& table, std::string name, const std::atomic<bool>& stop)
      : table_(table), name_(std::move(name)), stop_(stop) {}

  // check(row, is_live); false if stopped.
  template <class Check>
  bool for_each(Check check) const {
    for (Row row = 0; row < table_.count(); ++row) {
      if (row % 1024 == 0) {
        if (stop_.load(std::memory_order_relaxed)) return false;  // relaxed: it orders nothing
        check_interrupt();
      }
      check(row, table_.is_live(row));
    }
    return true;
  }

  const EmbeddingTable& table() const { return table_; }
  const std::string& name() const { return name_; }

 private:
  const EmbeddingTable& table_;
  const std::string name_;
  const std::atomic<bool>& stop_;
};

bool check_rows(const Rows& rows) {
  const EmbeddingTable& table = rows.table();
  AlignedFloats values(table.stride());
  return rows.for_each([&](Row row, bool is_live) {
    table.rows.load(row, values.data());
    bool is_finite = std::abs(table.bias[row]) < INFINITY, is_zero = table.bias[row] == 0, is_padded = true;
    for (const float value : values) {
      is_finite &= std::abs(value) <= kMostCoordinate;  // also false for NaN
      is_zero &= value == 0;
    }
    for (std::size_t d = table.dim(); d < values.size(); ++d) is_padded &= values[d] == 0;
    require(is_finite, rows.name(), " holds a vector or a bias out of range in slot ", row);
    require(is_padded, rows.name(), " holds something beyond the end of row ", row);
    require(is_live || is_zero, rows.name(), " holds something in free slot ", row);
  });
}

// Every id is valid and leads to its own slot: then none comes twice.
bool check_ids_of(const SnapshotReader& file, const Rows& rows) {
  const auto text = file.array<char>(rows.name() + ".text");
  const auto offsets = file.array<std::uint64_t>(rows.name() + ".offsets");
  require(offsets.front() == 0 && offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()),
          rows.name(), ".offsets are out of order");
  const IdSpan all{rows.table().ids.kind(), rows.table().count(),
                   file.array<std::int64_t>(rows.name() + ".ints").data(), text.data(), offsets.data()};
  const IdIndex index = load_index(file, rows.name(), all, rows.table().size());
  require(index.used() == index.size(), rows.name(), ".index has ", index.used(), " ids, not ", index.size());
  return rows.for_each([&](Row row, bool is_live) {
    const Id id = id_at(all, row);
    if (!is_live) return require(id.number == 0 && id.text.empty(), rows.name(), " has an id in free slot ", row);
    try {
      if (id.kind == IdKind::kString) validate_id(id.text);
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    if (find(index, id) == row) return;
    require(false, rows.name(), " has id ", describe(id), " twice, or its index does not have it");
  });
}

// check(row, position) for each entry, after the part's size has been looked at.
template <class Check>
bool check_lists(const SnapshotReader& file, const Rows& rows, const std::string& name, std::size_t longest,
                 Check check) {
  const auto values = file.array<Row>(name);
  const auto ends = file.array<std::uint64_t>(name + ".ends");
  require(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() ? 0 : ends.back()) == values.size(), name,
          ".ends are out of order");
  std::size_t next = 0;
  return rows.for_each([&](Row row, bool is_live) {
    const std::size_t size = ends[row] - next;
    require(size <= longest && (is_live || size == 0), name, " of slot ", row, " is too long");
    for (const std::size_t first = next; next < ends[row]; ++next) check(row, next, next - first);
  });
}

bool is_item(const EmbeddingTable& items, Row item) { return item < items.count() && items.is_live(item); }

bool check_users(const SnapshotReader& file, const Rows& users, const Model& model) {
  const UserState& state = model.user_state;
  const auto history = file.array<Row>("history");
  const auto times = state.timed() ? file.array<float>("history.times") : std::span<const float>();
  const auto seen = file.array<Row>("seen");
  const auto visits = file.array<double>("visits");
  const auto sessions = file.array<std::uint32_t>("visits.sessions");
  const auto entry = [&](Row, std::size_t at, std::size_t) {
    require(history[at] == 0 || is_item(model.items, history[at] - 1), "a history holds an unknown item");
    require(times.empty() || std::abs(times[at]) <= kMaxTimestamp * 1.001, "a time in a history is out of range");
  };
  const auto item = [&](Row, std::size_t at, std::size_t place) {
    require(is_item(model.items, seen[at]), "a user has seen an unknown item");
    require(place == 0 || seen[at - 1] < seen[at], "what a user has seen is out of order");
  };
  const auto dislike = [&, disliked = keeps_dislikes(file, state)
                                          ? file.array<Row>("disliked")
                                          : std::span<const Row>()](Row, std::size_t at, std::size_t place) {
    require(is_item(model.items, disliked[at]), "a user dislikes an unknown item");
    require(place == 0 || disliked[at - 1] < disliked[at], "what a user dislikes is out of order");
  };
  const auto visit = [&](Row user, bool is_live) {
    require(std::isfinite(visits[user]) && sessions[user] < StoredUsers::kDisliked &&
                (is_live || (visits[user] == 0 && sessions[user] == 0)),
            "a visit is out of range");
  };
  return check_lists(file, users, "history", state.history(), entry) &&
         check_lists(file, users, "seen", seen.size(), item) &&
         (!keeps_dislikes(file, state) || check_lists(file, users, "disliked", seen.size(), dislike)) &&
         users.for_each(visit);
}

bool check_neighbors(const SnapshotReader& file, const Rows& items, const Cooccurrence& lists) {
  if (!lists.on()) return true;
  const auto entries = file.array<Row>("neighbors");
  const auto after = file.array<float>("neighbors.after"), before = file.array<float>("neighbors.before");
  const auto windows = file.array<std::int64_t>("neighbors.window");
  const auto levels = file.array<double>("neighbors.levels");
  const auto ends = file.array<std::uint64_t>("neighbors.ends");
  std::vector<Row> sorted;
  const auto neighbor = [&](Row item, std::size_t at, std::size_t) {
    const Row entry = entries[at];
    require(entry == 0 || (is_item(items.table(), entry - 1) && entry - 1 != item), "an item has an unknown neighbor");
    require(after[at] >= 0 && after[at] < INFINITY && before[at] >= 0 && before[at] < INFINITY,
            "a neighbor's count is out of range");
  };
  const auto list = [&](Row item, bool is_live) {
    const std::size_t first = item == 0 ? 0 : ends[item - 1];
    require(lists.can_restore(windows[item], ends[item] - first), "neighbors.window holds a value out of range");
    require(is_live || (windows[item] == 0 && std::isinf(levels[item])), "neighbors holds something in a free slot");
    sorted.assign(entries.begin() + static_cast<std::ptrdiff_t>(first),
                  entries.begin() + static_cast<std::ptrdiff_t>(ends[item]));
    std::erase(sorted, Row{0});
    std::sort(sorted.begin(), sorted.end());
    require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "an item has a neighbor twice");
  };
  return check_lists(file, items, "neighbors", lists.slots(), neighbor) && items.for_each(list);
}

bool check_items(const SnapshotReader& file, const Rows& items, const Model& model, const Ranker& ranker) {
  const auto popularity = file.array<double>("popularity");
  const std::size_t num_features = ranker.features.count();
  const auto trends = ranker.on() ? file.array<double>("ranker.trends") : std::span<const double>();
  const auto features = ranker.on() ? file.array<float>("ranker.features") : std::span<const float>();
  return check_neighbors(file, items, model.cooccurrence) && items.for_each([&](Row item, bool is_live) {
    require(popularity[item] != 0 && (is_live || std::isinf(popularity[item])), "a popularity is out of range");
    for (std::size_t h = 0; ranker.on() && h < Trends::kCount; ++h) {
      const double level = trends[item * Trends::kCount + h];
      require(level != 0 && (is_live || std::isinf(level)), "a trend is out of range");
    }
    for (std::size_t f = 0; ranker.on() && f < num_features; ++f) {
      const float feature = features[item * num_features + f];
      require(std::abs(feature) <= 1e15f && (is_live || feature == 0), "an item feature is out of range");
    }
  });
}

}  // namespace

bool check_stored(const SnapshotReader& file, const Model& model, const Ranker& ranker, const std::atomic<bool>& stop) {
  const Rows users(model.users, "users", stop), items(model.items, "items", stop);
  return check_rows(users) && check_rows(items) && check_ids_of(file, users) && check_ids_of(file, items) &&
         check_users(file, users, model) && check_items(file, items, model, ranker);
}

}  // namespace recengine
