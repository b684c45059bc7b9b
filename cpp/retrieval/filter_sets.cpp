#include "retrieval/filter_sets.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <thread>
#include <unordered_map>

namespace recengine {

namespace {

void sort_unique(std::vector<Row>& rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

}  // namespace

FilterSets::~FilterSets() {
  for (const NamedSets* named : {&filters_, &groups_}) {
    for_each_set(*named, [](Row, const Bitmap& set) { delete &set; });
  }
}

std::optional<Filter> FilterSets::compile(const FilterExpression& expression, bool strict,
                                          const FilterTerm** unknown) const {
  static const Bitmap kNothing;
  const auto terms = expression.terms();
  std::vector<const Bitmap*> sets(terms.size(), nullptr);
  for (;;) {
    // Acquire: names and pointers of the changes counted so far are in place.
    const std::uint64_t before = changes_.load(std::memory_order_acquire);
    *unknown = nullptr;
    for (std::size_t k = 0; k < terms.size(); ++k) {
      const FilterTerm& term = terms[k];
      if (term.op != FilterOp::kFilter && term.op != FilterOp::kGroup) continue;
      const NamedSets& named = term.op == FilterOp::kFilter ? filters_ : groups_;
      // Acquire: the set was made before; and whoever reads a name or a pointer of a later change, or misses a name
      // because of one, reads its number below.
      sets[k] = term.kind == IdKind::kString ? named.find(std::string_view(term.text)) : named.find(term.number);
      if (sets[k] != nullptr) continue;
      if (*unknown == nullptr && (strict || term.op == FilterOp::kFilter)) *unknown = &term;
      sets[k] = &kNothing;
    }
    if (before % 2 == 0 && changes_.load(std::memory_order_relaxed) == before) break;
    std::this_thread::yield();
  }
  if (*unknown != nullptr) return std::nullopt;
  return Filter(expression, sets);
}

std::vector<std::string_view> FilterSets::filter_names() const {
  std::vector<std::string_view> names;
  for_each_filter([&names](std::string_view name, const Bitmap&) { names.push_back(name); });
  return names;
}

std::size_t FilterSets::memory_bytes() const {
  std::size_t bytes = 0;
  for (const NamedSets* named : {&filters_, &groups_}) {
    bytes += named->names.memory_bytes() + named->sets.memory_bytes();
    for_each_set(*named, [&bytes](Row, const Bitmap& set) { bytes += set.memory_bytes(); });
  }
  return bytes;
}

// The slot of a name; a new one holds no set yet and so is unknown to readers. Under the mutex.
template <class Key>
Row FilterSets::slot_of(NamedSets& named, Key key) {
  const auto take = [this, &named] {
    if (!named.freed.empty() && domain_.passed(named.freed.front().first)) {
      const Row slot = named.freed.front().second;
      named.freed.pop_front();
      return slot;
    }
    const Row slot = named.count.load(std::memory_order_relaxed);
    named.sets.reserve(std::size_t{slot} + 1);
    named.count.store(slot + 1, std::memory_order_release);  // release: with the chunk that holds the slot
    return slot;
  };
  return named.names.insert(key, take).first;
}

Row FilterSets::slot_at(NamedSets& named, const IdSpan& names, std::size_t k) {
  return names.kind == IdKind::kString ? slot_of(named, names.string_at(k)) : slot_of(named, names.ints[k]);
}

// Under the mutex, or while writers are paused.
void FilterSets::publish(Change change) noexcept {
  // Relaxed: ordered before the pointers by their release, for whoever reads one of them.
  changes_.fetch_add(1, std::memory_order_relaxed);
  for (auto& [place, set] : change.sets) {
    // Release: with all its rows. Acquire: the old one is retired whole.
    const Bitmap* old = place->exchange(set.release(), std::memory_order_acq_rel);
    if (old != nullptr) domain_.retire([old] { delete old; });
  }
  // Release: whoever sees the even number sees all the pointers.
  changes_.fetch_add(1, std::memory_order_release);
  while (!change.emptied.empty()) {
    const auto slot = change.emptied.begin();
    forget(groups_, slot->second);
    slot->first = domain_.ticket();  // readers that found the label may still look at the slot
    groups_.freed.splice(groups_.freed.end(), change.emptied, slot);
  }
  domain_.collect();
}

// The slot has no set any more, and now no name.
void FilterSets::forget(NamedSets& named, Row slot) noexcept {
  if (named.names.kind() == IdKind::kString) {
    named.names.erase(named.names.string_at(slot));
  } else {
    named.names.erase(named.names.int_at(slot));
  }
}

// The group's set becomes this one, or goes with its label.
void FilterSets::change_group(Change& change, Row slot, Bitmap members) {
  const bool is_empty = members.size() == 0;
  if (is_empty) change.emptied.emplace_back(0, slot);
  change.sets.emplace_back(&groups_.sets[slot],
                           is_empty ? nullptr : std::make_unique<const Bitmap>(std::move(members)));
}

void FilterSets::set_filter(std::string_view name, std::vector<Row> rows) {
  auto set = std::make_unique<const Bitmap>(std::move(rows));
  const std::lock_guard lock(mutex_);
  Change change;
  change.sets.emplace_back(&filters_.sets[slot_of(filters_, name)], std::move(set));
  publish(std::move(change));
}

bool FilterSets::update_filter(std::string_view name, std::vector<Row> add, std::vector<Row> remove) {
  sort_unique(add);
  sort_unique(remove);
  const std::lock_guard lock(mutex_);
  const Row slot = filters_.names.find(name);
  const Bitmap* old = slot == kNoRow ? nullptr : filters_.sets[slot].load(std::memory_order_acquire);
  if (old == nullptr) return false;
  Change change;
  change.sets.emplace_back(&filters_.sets[slot], std::make_unique<const Bitmap>(old->changed(add, remove)));
  publish(std::move(change));
  return true;
}

bool FilterSets::remove_filter(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const Row slot = filters_.names.find(name);
  if (slot == kNoRow || filters_.sets[slot].load(std::memory_order_relaxed) == nullptr) return false;
  filters_.freed.emplace_back(0, slot);  // first: it may throw
  Change change;
  change.sets.emplace_back(&filters_.sets[slot], nullptr);
  publish(std::move(change));
  forget(filters_, slot);
  filters_.freed.back().first = domain_.ticket();  // readers that found the name may still look at the slot
  return true;
}

void FilterSets::set_groups(std::span<const Row> rows, const IdSpan& labels) {
  std::vector<std::size_t> order(rows.size());
  for (std::size_t k = 0; k < order.size(); ++k) order[k] = k;
  std::stable_sort(order.begin(), order.end(), [rows](std::size_t a, std::size_t b) { return rows[a] < rows[b]; });

  const std::lock_guard lock(mutex_);
  if (!order.empty()) group_of_.resize(std::max<std::size_t>(group_of_.size(), rows[order.back()] + 1), 0);
  struct Rows {
    std::vector<Row> add, remove;  // ascending, as they are visited
  };
  std::unordered_map<Row, Rows> changed;   // by group
  std::vector<std::pair<Row, Row>> moved;  // row, its new group plus one
  for (std::size_t k = 0; k < order.size(); ++k) {
    const Row row = rows[order[k]];
    if (k + 1 < order.size() && rows[order[k + 1]] == row) continue;  // a later label takes its place
    const Row group = slot_at(groups_, labels, order[k]);
    const Row before = group_of_[row];
    if (before == group + 1) continue;
    changed[group].add.push_back(row);
    if (before != 0) changed[before - 1].remove.push_back(row);
    moved.emplace_back(row, group + 1);
  }
  Change change;
  change.sets.reserve(changed.size());
  for (const auto& [group, difference] : changed) {
    static const Bitmap kEmpty;
    const Bitmap* old = groups_.sets[group].load(std::memory_order_acquire);
    change_group(change, group, (old == nullptr ? kEmpty : *old).changed(difference.add, difference.remove));
  }
  for (const auto& [row, group] : moved) group_of_[row] = group;
  publish(std::move(change));
}

FilterSets::Change FilterSets::prepare_removal(std::vector<Row> rows) {
  sort_unique(rows);
  const std::lock_guard lock(mutex_);
  Change change;
  for_each_set(filters_, [&](Row slot, const Bitmap& set) {
    std::vector<Row> leaving;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(leaving), [&set](Row row) { return set.contains(row); });
    if (leaving.empty()) return;
    change.sets.emplace_back(&filters_.sets[slot], std::make_unique<const Bitmap>(set.changed({}, leaving)));
  });
  std::unordered_map<Row, std::vector<Row>> leaving;
  for (const Row row : rows) {
    if (const Row group = group_of(row)) leaving[group - 1].push_back(row);
  }
  for (const auto& [group, members] : leaving) {
    change_group(change, group, groups_.sets[group].load(std::memory_order_acquire)->changed({}, members));
  }
  return change;
}

void FilterSets::finish_removal(Change change, std::span<const Row> rows) noexcept {
  const std::lock_guard lock(mutex_);
  for (const Row row : rows) {
    if (row < group_of_.size()) group_of_[row] = 0;
  }
  if (!change.sets.empty()) publish(std::move(change));
}

bool FilterSets::restore_groups(const IdSpan& labels, std::span<const Row> rows, std::span<const Row> group_of) {
  std::vector<std::vector<Row>> members(labels.size);
  Row highest = 0;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (group_of[k] != 0) members[group_of[k] - 1].push_back(rows[k]);
    highest = std::max(highest, rows[k]);
  }
  const std::lock_guard lock(mutex_);
  if (labels.kind != IdKind::kNone) groups_.names.claim_kind(labels.kind);
  if (!rows.empty()) group_of_.resize(std::size_t{highest} + 1, 0);
  Change change;
  Row next = 0;  // slot
  for (std::size_t k = 0; k < labels.size; ++k) {
    if (members[k].empty()) continue;  // of a file that was written when labels stayed
    if (slot_at(groups_, labels, k) != next) return false;
    for (const Row row : members[k]) group_of_[row] = next + 1;
    change.sets.emplace_back(&groups_.sets[next++], std::make_unique<const Bitmap>(std::move(members[k])));
  }
  publish(std::move(change));
  return true;
}

std::vector<Row> FilterSets::groups_of(std::span<const Row> rows) const {
  const std::lock_guard lock(mutex_);
  std::vector<Row> groups;
  groups.reserve(rows.size());
  for (const Row row : rows) groups.push_back(group_of(row));
  return groups;
}

}  // namespace recengine
