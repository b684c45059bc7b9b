// FilterSets: the named sets of rows that filters refer to: filters, which callers change as they like, and groups, of
// which a row is in one at most.
//
// Sets are published by pointer and never change (storage/bitmap.hpp). One change may concern several sets (a row that
// moves from one group to another); a query sees all of it or nothing: `compile` reads names and pointers again if the
// number of changes has moved in between (a seqlock, Boehm 2012, over pointers instead of data).
//
// Invariants
//  1. A row that is in a set is a live item's, or one whose removal is not finished: `finish_removal` comes before the
//     slot is recycled, so that a new owner inherits nothing.
//  2. A group is there as long as a row is in it: its label goes with the last one.
//
// Thread safety: readers under any pin, without locks; changes under a writer's pin, serialised here;
// `prepare_removal`, `finish_removal` and what serves saving while writers are paused.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "retrieval/filter.hpp"
#include "storage/bitmap.hpp"
#include "storage/chunked.hpp"
#include "storage/epoch.hpp"
#include "storage/id_map.hpp"
#include "storage/process.hpp"

namespace recengine {

class FilterSets {
 public:
  explicit FilterSets(EpochDomain& domain) : domain_(domain), filters_(domain), groups_(domain) {}
  ~FilterSets();  // REQUIRES: nobody uses the sets any more. The domain must outlive them.
  FilterSets(const FilterSets&) = delete;
  FilterSets& operator=(const FilterSets&) = delete;

  // --- reading
  // The filter as it is now, all names at one moment; none, and the term in `unknown`, if a name is not known. A group
  // that nothing is in is `strict`ly unknown, or matches nothing.
  std::optional<Filter> compile(const FilterExpression& expression, bool strict, const FilterTerm** unknown) const;
  bool has_filter(std::string_view name) const { return filters_.find(name) != nullptr; }
  std::vector<std::string_view> filter_names() const;  // valid as long as the pin
  std::size_t memory_bytes() const;
  // The group of each row, a number that stays the group's, 0 for none. Waits for a change that is under way.
  std::vector<Row> groups_of(std::span<const Row> rows) const;

  // --- changing. REQUIRES: a writer's pin, and of rows that they are live items'; of names: validate_id passes.
  void set_filter(std::string_view name, std::vector<Row> rows);
  // False if there is no such filter. A row in both is removed.
  bool update_filter(std::string_view name, std::vector<Row> add, std::vector<Row> remove);
  bool remove_filter(std::string_view name);
  // The row's group is the label at the same place; of a row that comes twice, the last one.
  void set_groups(std::span<const Row> rows, const IdSpan& labels);

  // --- while writers are paused
  using Freed = std::list<std::pair<std::uint64_t, Row>>;  // ticket, slot; oldest first
  struct Change {
    std::vector<std::pair<std::atomic<const Bitmap*>*, std::unique_ptr<const Bitmap>>> sets;  // and what they become
    Freed emptied;  // slots of groups that go; without tickets yet
  };
  // The sets without these rows, made ahead (std::bad_alloc changes nothing) and put in place once they are dead.
  Change prepare_removal(std::vector<Row> rows);
  void finish_removal(Change change, std::span<const Row> rows) noexcept;

  // For saving and loading: visit(name, set) of each filter; the slot of each row's group plus one, 0 for none, with
  // its label in group_names.
  template <class Visit>
  void for_each_filter(Visit visit) const {
    for_each_set(filters_, [&](Row slot, const Bitmap& set) { visit(filters_.names.string_at(slot), set); });
  }
  const IdMap& group_names() const { return groups_.names; }
  Row group_of(Row row) const { return row < group_of_.size() ? group_of_[row] : 0; }
  // False if a label comes twice. REQUIRES: no groups yet; group_of[k], at most labels.size, is that of rows[k].
  bool restore_groups(const IdSpan& labels, std::span<const Row> rows, std::span<const Row> group_of);

 private:
  struct NamedSets {
    explicit NamedSets(EpochDomain& domain) : names(domain) {}

    // Acquire: the set was made before it was published. Null: none of that name, or removed.
    template <class Key>
    const Bitmap* find(Key key) const {
      const Row slot = names.find(key);
      return slot == kNoRow ? nullptr : sets[slot].load(std::memory_order_acquire);
    }

    IdMap names;
    Column<std::atomic<const Bitmap*>> sets;
    std::atomic<Row> count{0};  // slots handed out
    Freed freed;                // GUARDED_BY(mutex_): to be handed out again
  };

  template <class Visit>
  static void for_each_set(const NamedSets& named, Visit visit) {
    const Row count = named.count.load(std::memory_order_acquire);  // with the chunks that hold them
    for (Row slot = 0; slot < count; ++slot) {
      if (const Bitmap* set = named.sets[slot].load(std::memory_order_acquire)) visit(slot, *set);
    }
  }

  template <class Key>
  Row slot_of(NamedSets& named, Key key);
  Row slot_at(NamedSets& named, const IdSpan& names, std::size_t k);
  void change_group(Change& change, Row slot, Bitmap members);
  void publish(Change change) noexcept;
  static void forget(NamedSets& named, Row slot) noexcept;

  EpochDomain& domain_;
  mutable ForkMutex mutex_;                // serialises changes
  std::atomic<std::uint64_t> changes_{0};  // odd while pointers are being replaced
  NamedSets filters_;
  NamedSets groups_;
  std::vector<Row> group_of_;  // GUARDED_BY(mutex_): by row, the group's slot plus one; 0: none
};

}  // namespace recengine
