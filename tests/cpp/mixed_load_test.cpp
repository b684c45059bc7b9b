// Everything at once, for a while: learners, queries of every kind, policies with impressions and feedback, ids that
// come and go, changes of filters and settings, offline training, checkpoints, and readers of the newest snapshot,
// copied or mapped and reloaded. Then the folder must hold what the engine held. For sanitizers;
// RECENGINE_MIXED_SECONDS says for how long (2).
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "check.hpp"
#include "durability/folder.hpp"
#include "engine/engine.hpp"
#include "storage/random.hpp"
#include "storage/snapshot.hpp"

using namespace recengine;

namespace {

constexpr std::int64_t kUsers = 300, kItems = 5000;  // so many that items are retrieved by cells, with upkeep

struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / ("recengine-mixed-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

IdSpan span_of(const std::vector<std::int64_t>& ids) {
  return {IdKind::kInt, ids.size(), ids.data(), nullptr, nullptr};
}
Id id_of(std::int64_t number) { return {IdKind::kInt, number, {}}; }

// Calls of one thread, counted.
class Load {
 public:
  Load(Engine& engine, const std::atomic<bool>& stop, std::uint64_t seed)
      : engine_(engine), stop_(stop), random_(seed, 0) {}

  bool goes_on() {
    ++calls;
    return !stop_.load(std::memory_order_relaxed);
  }
  std::int64_t below(std::int64_t bound) { return random_.below(static_cast<std::uint32_t>(bound)); }
  std::vector<std::int64_t> some(std::int64_t bound, std::size_t count) {
    std::vector<std::int64_t> ids(count);
    for (std::int64_t& id : ids) id = below(bound);
    return ids;
  }

  void learn(std::string_view source) {
    for (std::int64_t offset = 0; goes_on(); ++offset) {
      engine_.learn_one(id_of(below(kUsers)), id_of(below(kItems)), offset % 9 == 0 ? -1.0f : 1.0f, 1,
                        static_cast<double>(offset), {source, {&offset, 1}});
      ++events;
      if (offset % 50 != 0) continue;
      const auto users = some(kUsers, 500), items = some(kItems, 500);
      events += engine_.learn_many({span_of(users), span_of(items)}, 2);
    }
  }

  void ask() {
    QueryOptions query;
    query.exclude_seen = true;
    while (goes_on()) {
      check(engine_.recommend(id_of(below(kUsers)), query));
      check(engine_.recommend_history(span_of(some(kItems, 3)), query));
      check(engine_.recommend_many(span_of(some(kUsers, 20)), query));
      const Id item = id_of(below(kItems));
      unless_unknown([&] { check(engine_.similar_items(item, query)); });
      unless_unknown([&] { check(engine_.similar_by_behaviour(item, query)); });
      unless_unknown([&] { engine_.explain(id_of(below(kUsers)), item); });
      engine_.plan(id_of(below(kUsers)), query);
      engine_.statistics();
    }
  }

  void explore() {
    QueryOptions query;
    query.k = 5;
    ExploreOptions options;
    options.candidates = 30;
    const std::vector<Policy> policies{{PolicyKind::kSoftmax, 1.0, PrecisionKind::kDiagonal, 0},
                                       {PolicyKind::kThompson, 1.0, PrecisionKind::kShared, 8},
                                       {PolicyKind::kUcb, 1.0, PrecisionKind::kDiagonal, 0}};
    for (std::size_t n = 0; goes_on(); ++n) {
      options.policy = policies[n % policies.size()];
      options.diversity = n % 5 == 0 ? Diversity{DiversityKind::kMmr, 0.5, 0} : Diversity{};
      const bool is_visitor = n % 7 == 0;
      const auto decision = std::make_shared<const Decision>(
          is_visitor ? engine_.explore_history(span_of(some(kItems, 3)), query, options)
                     : engine_.explore(id_of(below(kUsers)), query, options));
      if (decision->slate.empty()) continue;
      const std::uint64_t number = engine_.impression(decision, kLatest);
      shown = std::max(shown, number);
      unless_unknown([&] {  // of users and items that were removed since, and what has gone for want of room
        engine_.feedback(number, id_at(decision->candidates.span(), decision->slate[0]), 1, kLatest, n % 2 == 0);
        if (n % 2 == 0 && !is_visitor) ++events;
      });
      if (n % 64 == 0) {
        FeedbackSettings settings;
        settings.capacity = 50 + n % 50;
        engine_.set_feedback_settings(settings);
        for (const Impression& each : engine_.impressions().copy()) CHECK(each.decision != nullptr);
      }
    }
  }

  void change() {
    const std::size_t dim = engine_.settings().dim;
    for (std::int64_t n = 0; goes_on(); ++n) {
      const auto items = some(kItems, 40), users = some(kUsers, 3);
      engine_.set_items(span_of(items), std::vector<float>(items.size() * dim, 0.1f), nullptr);
      engine_.set_users(span_of(users), std::vector<float>(users.size() * dim, 0.1f), nullptr);
      unless_unknown([&] { engine_.set_filter("f", span_of(items)); });
      unless_unknown([&] { engine_.set_groups(span_of(items), span_of(some(5, items.size()))); });
      unless_unknown([&] { engine_.set_item_features(span_of(items), std::vector<float>(items.size(), 0.5f)); });
      engine_.set_learning_rate(0.05 + 0.0001 * static_cast<double>(n % 10));
      unless_unknown([&] { engine_.remove_items(span_of(distinct(some(kItems, 30)))); });
      if (n % 4 == 0) unless_unknown([&] { engine_.remove_users(span_of(users)); });
    }
  }

  void train() {
    while (goes_on()) {
      const auto users = some(kUsers, 200), items = some(kItems, 200);
      const FitTables tables = engine_.take_out({span_of(users), span_of(items)});
      engine_.put_back(tables);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  void checkpoint() {
    while (goes_on()) {
      engine_.checkpoint();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  // As another process would.
  void read(const std::filesystem::path& folder) {
    while (goes_on()) {
      const auto snapshots = numbered_files(folder, kSnapshotKind);
      try {
        const auto copy = Engine::load(numbered_file(folder, kSnapshotKind, snapshots.back()).string());
        check(copy->recommend(id_of(below(kUsers)), {}));
        copy->impressions().copy();
      } catch (const std::system_error&) {  // a newer one has come, and it is gone
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // The same of a mapped snapshot, which goes on to the next one while another thread asks.
  void follow(const std::filesystem::path& folder) {
    std::shared_ptr<Engine> mapped = map(folder);
    std::mutex mutex;  // of the pointer
    const auto current = [&] {
      const std::lock_guard lock(mutex);
      return mapped;
    };
    std::thread asker([&] {
      Random random(99, 0);
      while (!stop_.load(std::memory_order_relaxed)) {
        check(current()->recommend(id_of(random.below(static_cast<std::uint32_t>(kUsers))), {}));
      }
    });
    while (goes_on()) {
      try {
        if (std::shared_ptr<Engine> newer = current()->reloaded()) {
          const std::lock_guard lock(mutex);
          mapped.swap(newer);
        }
      } catch (const std::system_error&) {  // a checkpoint has just replaced it
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    asker.join();
  }

  std::uint64_t calls = 0, events = 0, shown = 0;

 private:
  static void check(const Rankings& rankings) {
    CHECK(rankings.ids.size() == rankings.scores.size());
    for (const float score : rankings.scores) CHECK(!std::isnan(score));
  }
  static std::shared_ptr<Engine> map(const std::filesystem::path& folder) {
    for (;;) {
      try {
        return Engine::load_mapped(folder.string(), false);
      } catch (const std::system_error&) {  // the same
      }
    }
  }
  template <class Call>
  static void unless_unknown(Call call) {
    try {
      call();
    } catch (const UnknownId&) {
    }
  }
  static std::vector<std::int64_t> distinct(std::vector<std::int64_t> ids) {
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
  }

  Engine& engine_;
  const std::atomic<bool>& stop_;
  Random random_;
};

void test_mixed_load(std::chrono::duration<double> length) {
  const Folder folder;
  Settings settings;
  settings.dim = 8;
  settings.negatives = 4;
  settings.history = 4;
  settings.ranker = RankerKind::kLinear;
  settings.item_features = {"price"};
  settings.neighbors = 4;
  DurabilityOptions options;
  options.checkpoint_bytes = 300'000;
  const std::string path = folder.path.string();
  std::uint64_t events = 0, next = 0;
  std::vector<std::int64_t> users, items, kept;
  const auto numbers_of = [](Engine& engine) {
    std::vector<std::int64_t> numbers;
    for (const Impression& shown : engine.impressions().copy()) {
      numbers.push_back(static_cast<std::int64_t>(shown.number));
    }
    return numbers;
  };
  {
    const auto engine = Engine::open(path, settings, options);
    std::vector<std::int64_t> all(kItems);
    for (std::int64_t k = 0; k < kItems; ++k) all[static_cast<std::size_t>(k)] = k;
    std::vector<float> rows(all.size() * settings.dim);
    Random random(7, 0);
    for (float& value : rows) value = static_cast<float>(random.below(1000)) / 1000.0f - 0.5f;
    engine->set_items(span_of(all), rows, nullptr);
    std::atomic<bool> stop{false};
    std::vector<Load> loads;
    for (std::uint64_t seed = 0; seed < 10; ++seed) loads.emplace_back(*engine, stop, seed);
    std::vector<std::thread> threads;
    threads.emplace_back([&] { loads[0].learn("zero"); });
    threads.emplace_back([&] { loads[1].learn("one"); });
    threads.emplace_back([&] { loads[2].ask(); });
    threads.emplace_back([&] { loads[3].explore(); });
    threads.emplace_back([&] { loads[4].explore(); });
    threads.emplace_back([&] { loads[5].change(); });
    threads.emplace_back([&] { loads[6].train(); });
    threads.emplace_back([&] { loads[7].checkpoint(); });
    threads.emplace_back([&] { loads[8].read(folder.path); });
    threads.emplace_back([&] { loads[9].follow(folder.path); });
    std::this_thread::sleep_for(length);
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
    CHECK(engine->durability().checkpoint_error.empty());
    CHECK(engine->durability().log_error.empty());
    for (const Load& load : loads) {
      CHECK(load.calls > 0);
      events += load.events;
      next = std::max(next, load.shown);
    }
    CHECK(engine->statistics().events <= events);  // feedback to an item that is gone is joined, not learned
    events = engine->statistics().events;
    users = engine->user_ids().ints;
    items = engine->item_ids().ints;
    kept = numbers_of(*engine);
    CHECK(kept.empty() || kept.back() <= static_cast<std::int64_t>(next));
  }
  const auto engine = Engine::open(path, settings, options);
  CHECK(engine->statistics().events == events);
  auto recovered_users = engine->user_ids().ints, recovered_items = engine->item_ids().ints;
  for (auto* ids : {&users, &items, &recovered_users, &recovered_items}) std::sort(ids->begin(), ids->end());
  CHECK(recovered_users == users);
  CHECK(recovered_items == items);
  CHECK(numbers_of(*engine) == kept);
  for (const float value : engine->item_factors().vectors) CHECK(std::isfinite(value));
}

}  // namespace

int main() {
  const char* const seconds = std::getenv("RECENGINE_MIXED_SECONDS");
  test_mixed_load(std::chrono::duration<double>(seconds == nullptr ? 2.0 : std::atof(seconds)));
  return 0;
}
