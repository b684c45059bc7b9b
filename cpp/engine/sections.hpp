// The sections of an engine's file (docs/file-format.md), by what they hold: each is saved by one function and loaded
// by another, which trusts nothing that it reads.
#pragma once

#include <array>
#include <atomic>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/capacity.hpp"
#include "engine/event_sources.hpp"
#include "engine/ids.hpp"
#include "engine/impressions.hpp"
#include "explore/precisions.hpp"
#include "learner/context_weights.hpp"
#include "learner/cooccurrence.hpp"
#include "learner/settings.hpp"
#include "learner/user_budget.hpp"
#include "learner/user_state.hpp"
#include "ranker/ranker.hpp"
#include "retrieval/filter_sets.hpp"
#include "storage/embedding_table.hpp"
#include "storage/id_index.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/snapshot.hpp"

namespace recengine {

template <class T>
void add(SnapshotWriter& file, const std::string& name, const std::vector<T>& values) {
  file.add<T>(name, std::span<const T>(values));
}

// A section that is written number by number.
template <class T>
class Numbers {
 public:
  Numbers(SnapshotWriter& file, const std::string& name) : file_(file) { file.begin<T>(name); }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;

  void push(T value) {
    run_[size_++] = value;
    if (size_ == run_.size()) write();
  }
  void end() {
    write();
    file_.end();
  }

 private:
  void write() {
    file_.append(std::span<const T>(run_.data(), size_));
    size_ = 0;
    check_interrupt();
  }

  SnapshotWriter& file_;
  std::array<T, 2048> run_;
  std::size_t size_ = 0;
};

// of(k) for each k < count.
template <class T, class Of>
void add_each(SnapshotWriter& file, const std::string& name, std::size_t count, Of of) {
  Numbers<T> numbers(file, name);
  for (std::size_t k = 0; k < count; ++k) numbers.push(of(static_cast<Row>(k)));
  numbers.end();
}

// Removed items that user states still remember: they have no place in a file.
struct Removed {
  const EmbeddingTable* items = nullptr;  // null: there are none
  bool operator()(Row item) const { return items != nullptr && !items->is_live(item); }
};

// What is taken while learners wait, in one pass over what they change, and written section by section when they go on.
struct Deferred {
  IdArray users, items;
  std::vector<std::uint64_t> live_users, live_items;
  // Of each user
  std::vector<Row> history, seen;  // as the sections are, but that the items seen are in any order
  std::vector<std::uint32_t> sessions;
  std::vector<float> times;
  std::vector<std::uint64_t> history_ends, seen_ends;
  std::vector<Row> disliked;  // if they are kept, as those seen
  std::vector<std::uint64_t> disliked_ends;
  // Of each item
  std::vector<Row> neighbors;
  std::vector<float> after, before;
  std::vector<std::uint64_t> neighbor_ends;
  Impressions::Stored impressions;
  std::uint64_t decisions = 0;
};

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

// --- sections_settings.cpp
void save_settings(SnapshotWriter& file, const Settings& settings, float learning_rate);
// Whether the file was written since there are sessions and learned weights.
bool has_sessions(const SnapshotReader& file);
Settings load_settings(const SnapshotReader& file);

struct Counters {
  std::uint64_t events, queries, ignored_ids;
  IdKind user_kind, item_kind;
  std::uint64_t pushed, sequence;
};
Counters load_counters(const SnapshotReader& file);

// --- sections_limits.cpp
void save_limits(SnapshotWriter& file, const LimitSettings& limits);
LimitSettings load_limits(const SnapshotReader& file);
void save_uses(SnapshotWriter& file, const std::string& name, const Capacity& capacity, Row rows);
// REQUIRES: the table has been loaded. Stamps are below `next`.
void load_uses(const SnapshotReader& file, const std::string& name, Capacity& capacity, const std::vector<Row>& rows,
               std::uint64_t next);
void save_budgets(SnapshotWriter& file, const UserBudget& budget, Row users);
void load_budgets(const SnapshotReader& file, UserBudget& budget, const std::vector<Row>& users);

// --- sections_tables.cpp
// All slots: what the arrays of a file are in the order of. What free ones hold is as a new table has it.
std::vector<Row> all_slots(const EmbeddingTable& table);
// All but the ids, which `ids` gets. `removed`: slots that are free but for those who remember them.
void save_table(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table,
                const std::vector<Row>& removed, IdArray& ids);
// The ids, and the way from them to slots. REQUIRES: what save_table gave, and the bits of live slots then.
void save_ids(SnapshotWriter& file, const std::string& name, const IdArray& ids, std::span<const std::uint64_t> live);
// What save_ids wrote, for ids that may be wrong.
IdIndex load_index(const SnapshotReader& file, const std::string& name, const IdSpan& ids, std::size_t live);
std::vector<std::uint64_t> live_words(const EmbeddingTable& table);
// Fills the table with what has been checked; returns the slots that the file's arrays are in the order of: all, or in
// a file of version 1 those that are live.
std::vector<Row> load_table(const SnapshotReader& file, const std::string& name, IdKind kind, EmbeddingTable& table);

// --- sections_users.cpp
void save_visits(SnapshotWriter& file, const UserState& state, Row users);
void take_histories(const UserState& state, Row users, const Removed& is_removed, Deferred& deferred);
void save_histories(SnapshotWriter& file, Deferred& deferred, const UserState& state);
// Before version 4 no file did.
inline bool keeps_dislikes(const SnapshotReader& file, const UserState& state) {
  return state.keeps_dislikes() && file.version() >= 4;
}
void load_user_state(const SnapshotReader& file, UserState& state, const std::vector<Row>& users,
                     const EmbeddingTable& items);

// --- sections_neighbors.cpp
void save_neighbor_levels(SnapshotWriter& file, const Settings& settings, const Cooccurrence& lists, Row items);
void take_neighbors(const Cooccurrence& lists, Row items, const Removed& is_removed, Deferred& deferred);
void save_neighbors(SnapshotWriter& file, const Deferred& deferred);
void load_neighbors(const SnapshotReader& file, Cooccurrence& lists, const std::vector<Row>& items,
                    const EmbeddingTable& table);

// --- sections_ranker.cpp
void save_context(SnapshotWriter& file, const ContextWeights& context);
void load_context(const SnapshotReader& file, ContextWeights& context);
void save_demand(SnapshotWriter& file, const Demand& demand, Row items);
void load_demand(const SnapshotReader& file, Demand& demand, const std::vector<Row>& items,
                 const EmbeddingTable& table);
// Of it what is not of single items.
void load_demand_parts(const SnapshotReader& file, Demand& demand, const EmbeddingTable& table);
void save_ranker(SnapshotWriter& file, const Settings& settings, const Ranker& ranker, Row items);
void load_ranker(const SnapshotReader& file, Ranker& ranker, const std::vector<Row>& items);
// Of it what is not of single items.
void load_ranker_weights(const SnapshotReader& file, Ranker& ranker);

// --- sections_filters.cpp
void save_filters(SnapshotWriter& file, const FilterSets& filters, Row items);
void load_filters(const SnapshotReader& file, FilterSets& filters, const std::vector<Row>& items,
                  const EmbeddingTable& table);

// --- sections_sources.cpp
void save_sources(SnapshotWriter& file, const EventSources& sources);
void load_sources(const SnapshotReader& file, EventSources& sources);

// Of a snapshot of a folder: the number of the first record that is not in it, and the folder's identity.
inline void save_position(SnapshotWriter& file, std::uint64_t number, std::uint64_t identity) {
  add<std::uint64_t>(file, "log", {number, identity});
}

// --- sections_explore.cpp
void save_impressions(SnapshotWriter& file, const Impressions::Stored& stored, std::uint64_t decisions);
void load_impressions(const SnapshotReader& file, Impressions& impressions, std::atomic<std::uint64_t>& decisions,
                      const IdMap& users, const IdMap& items);
void save_precisions(SnapshotWriter& file, const Precisions& precisions, Row items, std::size_t dim);
void load_precisions(const SnapshotReader& file, Precisions& precisions, const std::vector<Row>& users,
                     const std::vector<Row>& items, std::size_t dim);

}  // namespace recengine
