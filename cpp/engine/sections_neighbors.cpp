// Co-occurrence in an engine's file.
#include <algorithm>
#include <cmath>

#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

void save_neighbor_levels(SnapshotWriter& file, const Settings& settings, const Cooccurrence& lists, Row items) {
  if (!lists.on()) return;
  add<std::uint64_t>(file, "neighbors.ints", {settings.neighbors, settings.neighbors_window});
  add<double>(file, "neighbors.reals", {settings.neighbors_half_life});
  add_each<std::int64_t>(file, "neighbors.window", items, [&](Row item) { return lists.stored_window(item); });
  add_each<double>(file, "neighbors.levels", items, [&](Row item) { return stored_level(lists.level(item)); });
}

void take_neighbors(const Cooccurrence& lists, Row items, const Removed& is_removed, Deferred& deferred) {
  if (!lists.on()) return;
  for (Row item = 0; item < items; ++item) {
    if (item % kRowsPerCheck == 0) check_interrupt();
    lists.for_each_entry(item, is_removed, [&](const Cooccurrence::Entry& entry) {
      deferred.neighbors.push_back(entry.neighbor);
      deferred.after.push_back(entry.after);
      deferred.before.push_back(entry.before);
    });
    deferred.neighbor_ends.push_back(deferred.neighbors.size());
  }
}

void save_neighbors(SnapshotWriter& file, const Deferred& deferred) {
  add(file, "neighbors", deferred.neighbors);
  add(file, "neighbors.ends", deferred.neighbor_ends);
  add(file, "neighbors.after", deferred.after);
  add(file, "neighbors.before", deferred.before);
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

}  // namespace recengine
