// Saving and loading: an engine's file, section by section.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "engine/engine.hpp"
#include "engine/sections.hpp"
#include "kernels/relaxed.hpp"

namespace recengine {

void Engine::save(const std::string& path) {
  check_writable();
  const Quiet still = quiet();
  const auto pin = domain_.pin_reader();
  try {
    sweep_for_saving();
  } catch (const std::runtime_error&) {
    // The log takes nothing now: who was removed stays remembered, and is left out of the file.
  } catch (const std::invalid_argument&) {  // it is closed
  }
  SnapshotWriter file(path);
  Deferred deferred;
  write_state(file, deferred);
  write_deferred(file, deferred);
  file.commit();
}

// Where removed items are forgotten is part of what replaying the log must do again: slots get new owners from then on.
void Engine::sweep_for_saving() {
  if (removed_items_.empty()) return;
  logged(RecordKind::kSweep, 0, [](PayloadWriter&) {}, [this] { sweep_removed(); });
}

void Engine::write_state(SnapshotWriter& file, Deferred& deferred) {
  const Row users = model_.users.count(), items = model_.items.count();
  const Removed is_removed{removed_items_.empty() ? nullptr : &model_.items};
  save_settings(file, settings_, learning_rate());
  add<std::uint64_t>(file, "counters",
                     {events_.load(std::memory_order_relaxed), queries_.load(std::memory_order_relaxed),
                      ignored_ids_.load(std::memory_order_relaxed), static_cast<std::uint64_t>(model_.users.ids.kind()),
                      static_cast<std::uint64_t>(model_.items.ids.kind()), model_.recent.pushed(),
                      sequence_.load(std::memory_order_relaxed)});
  add<double>(file, "clock", {latest_timestamp_.load(std::memory_order_relaxed)});
  add<float>(file, "globals", {load_relaxed(&model_.global_bias), load_relaxed(&model_.global_accumulator)});
  save_table(file, "users", model_.users, {}, deferred.users);
  save_table(file, "items", model_.items, removed_items_, deferred.items);
  deferred.live_users = live_words(model_.users);
  deferred.live_items = live_words(model_.items);
  add_each<double>(file, "popularity", items, [&](Row item) { return stored_level(model_.popularity.level(item)); });
  add_each<Row>(file, "recent", RecentItems::kWindow, [&](Row slot) {
    const Row item = model_.recent.at(slot);
    return item != kNoRow && is_removed(item) ? kNoRow : item;
  });
  save_visits(file, model_.user_state, users);
  take_histories(model_.user_state, users, is_removed, deferred);
  save_neighbor_levels(file, settings_, model_.cooccurrence, items);
  take_neighbors(model_.cooccurrence, items, is_removed, deferred);
  save_context(file, model_.context);
  if (model_.demand) save_demand(file, *model_.demand, items);
  save_ranker(file, settings_, ranker_, items);
  save_filters(file, filters_, items);
  save_sources(file, sources_);
  if (user_capacity_.evicts() || item_capacity_.evicts()) {
    add<std::uint64_t>(file, "uses", {uses_.load(std::memory_order_relaxed)});
    save_uses(file, "users.uses", user_capacity_, users);
    save_uses(file, "items.uses", item_capacity_, items);
  }
  save_budgets(file, budget_, users);
  deferred.impressions = impressions_.stored();
  deferred.decisions = decisions_.load(std::memory_order_relaxed);
  save_precisions(file, precisions_, items, settings_.dim);
}

void Engine::write_deferred(SnapshotWriter& file, Deferred& deferred) const {
  save_ids(file, "users", deferred.users, deferred.live_users);
  save_ids(file, "items", deferred.items, deferred.live_items);
  save_histories(file, deferred, model_.user_state);
  if (model_.cooccurrence.on()) save_neighbors(file, deferred);
  save_impressions(file, deferred.impressions, deferred.decisions);
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

  const Counters counters = load_counters(file);
  const std::vector<Row> users = load_table(file, "users", counters.user_kind, model.users);
  const std::vector<Row> items = load_table(file, "items", counters.item_kind, model.items);
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
  model.recent.restore(counters.pushed, recent);
  load_user_state(file, model.user_state, users, model.items);
  load_neighbors(file, model.cooccurrence, items, model.items);
  load_context(file, model.context);
  if (model.demand) load_demand(file, *model.demand, items, model.items);
  load_ranker(file, engine->ranker_, items);
  load_filters(file, engine->filters_, items, model.items);
  load_sources(file, engine->sources_);
  if (engine->user_capacity_.evicts() || engine->item_capacity_.evicts()) {
    const std::uint64_t next = read<std::uint64_t>(file, "uses", 1)[0];
    require(next >= 1 && next < std::uint64_t{1} << 63, "the number of uses is out of range");
    load_uses(file, "users.uses", engine->user_capacity_, users, next);
    load_uses(file, "items.uses", engine->item_capacity_, items, next);
    engine->uses_.store(next, std::memory_order_relaxed);
  }
  load_budgets(file, engine->budget_, users);
  load_impressions(file, engine->impressions_, engine->decisions_, model.users.ids, model.items.ids);
  load_precisions(file, engine->precisions_, users, items, engine->settings_.dim);
  engine->require_blank();
  engine->load_numbers(file);
  return engine;
}

// A new owner of a free slot inherits nothing. (Rows and ids have been looked at.)
void Engine::require_blank() const {
  for (Row user = 0; user < model_.users.count(); ++user) {
    if (model_.users.is_live(user)) continue;
    bool is_blank = model_.user_state.seen(user).size() == 0 && model_.user_state.last_visit(user) == 0 &&
                    precisions_.sums(user).empty() && !(user_capacity_.evicts() && user_capacity_.stamp(user) != 0) &&
                    !(budget_.on() && std::isfinite(budget_.full_at(user)));
    model_.user_state.for_each_entry(user, [&is_blank](std::uint64_t, float) { is_blank = false; });
    require(is_blank, "users holds something in free slot ", user);
  }
  for (Row item = 0; item < model_.items.count(); ++item) {
    if (model_.items.is_live(item)) continue;
    bool is_blank = std::isinf(model_.popularity.level(item)) && precisions_.shown(item) == 0 &&
                    !(item_capacity_.evicts() && item_capacity_.stamp(item) != 0);
    if (model_.cooccurrence.on()) {
      is_blank =
          is_blank && model_.cooccurrence.stored_window(item) == 0 && std::isinf(model_.cooccurrence.level(item));
    }
    if (ranker_.on()) {
      for (const double level : model_.demand->trends.levels(item)) is_blank = is_blank && std::isinf(level);
      for (std::size_t f = 0; f < ranker_.features.count(); ++f) {
        is_blank = is_blank && ranker_.features.get(item, f) == 0;
      }
    }
    require(is_blank, "items holds something in free slot ", item);
  }
}

void Engine::load_numbers(const SnapshotReader& file) {
  const Counters counters = load_counters(file);
  const auto globals = read<float>(file, "globals", 2);
  require(std::isfinite(globals[0]) && std::isfinite(globals[1]) && globals[1] >= 0, "a global value is out of range");
  model_.global_bias = globals[0];
  model_.global_accumulator = globals[1];
  const double clock = read<double>(file, "clock", 1)[0];
  require(std::isnan(clock) || std::abs(clock) <= kMaxTimestamp, "the clock is out of range");
  latest_timestamp_.store(clock, std::memory_order_relaxed);
  events_.store(counters.events, std::memory_order_relaxed);
  sequence_.store(counters.sequence, std::memory_order_relaxed);
  queries_.store(counters.queries, std::memory_order_relaxed);
  ignored_ids_.store(counters.ignored_ids, std::memory_order_relaxed);
}

}  // namespace recengine
