// Filters and groups in an engine's file.
#include <algorithm>
#include <stdexcept>

#include "engine/ids.hpp"
#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

void save_filters(SnapshotWriter& file, const FilterSets& filters, Row items) {
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

  // In the order in which items have them: which slot a label got is nobody's business.
  IdArray labels;
  std::vector<Row> place;  // of each slot among the labels, plus one; 0: not met yet
  Numbers<Row> groups(file, "groups.items");
  for (Row item = 0; item < items; ++item) {
    const Row group = filters.group_of(item);
    if (group > place.size()) place.resize(group, 0);
    if (group != 0 && place[group - 1] == 0) {
      labels.append(filters.group_names(), group - 1);
      place[group - 1] = static_cast<Row>(labels.size());
    }
    groups.push(group == 0 ? 0 : place[group - 1]);
  }
  groups.end();
  add<std::uint64_t>(file, "groups.kind", {static_cast<std::uint64_t>(filters.group_names().kind())});
  add(file, "groups.ints", labels.ints);
  file.add<char>("groups.text", std::span<const char>(labels.bytes));
  add(file, "groups.offsets", labels.offsets);
}

namespace {

// Names as they come from the caller: valid ids; whether one comes twice shows when they are taken in.
void check_names(const IdSpan& names, std::string_view what) {
  try {
    for (std::size_t k = 0; names.kind == IdKind::kString && k < names.size; ++k) validate_id(names.string_at(k));
  } catch (const std::invalid_argument& error) {
    require(false, what, ": ", error.what());
  }
}

}  // namespace

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
  for (std::size_t k = 0; k < items.size(); ++k) {
    require(groups[k] <= labels.size, "an item is of an unknown group");
    require(groups[k] == 0 || table.is_live(items[k]), "a free slot is of a group");
  }
  require(filters.restore_groups(labels, items, groups), "a group comes twice");
}

}  // namespace recengine
