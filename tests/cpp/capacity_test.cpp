// Limits with many threads at once: learners, single events and batches, evictions, rows set, removals, queries and
// checkpoints. There are never more rows than there may be, and recovery finds the same ids.
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "learner/user_budget.hpp"
#include "storage/random.hpp"

using namespace recengine;

namespace {

constexpr std::size_t kUsers = 50, kItems = 90;
constexpr int kRounds = check::kSanitized ? 15 : 60;

IdSpan numbers(const std::vector<std::int64_t>& ids) { return {IdKind::kInt, ids.size(), ids.data()}; }
Id number(std::int64_t id) { return {IdKind::kInt, id, {}}; }

std::vector<std::int64_t> drawn(Random& random, std::size_t count, std::uint32_t below) {
  std::vector<std::int64_t> ids;
  for (std::size_t k = 0; k < count; ++k) ids.push_back(random.below(below));
  return ids;
}

Settings limited(Eviction evict) {
  Settings settings;
  settings.dim = 8;
  settings.negatives = 3;
  settings.neighbors = 8;
  settings.limits.max_users = kUsers;
  settings.limits.max_items = kItems;
  settings.limits.evict = evict;
  settings.limits.user_budget = 1000;
  return settings;
}

void test_threads(Eviction evict) {
  const auto folder = std::filesystem::temp_directory_path() / ("recengine-capacity-" + std::to_string(getpid()));
  std::filesystem::remove_all(folder);
  std::unique_ptr<Engine> engine = Engine::open(folder, limited(evict), {SyncMode::kOs, 1u << 16, false, {}});
  std::atomic<bool> stop{false};
  // What there is no room for is refused, or skipped; what another has evicted meanwhile is unknown.
  const auto guarded = [](auto work) {
    try {
      work();
    } catch (const std::invalid_argument&) {
    } catch (const UnknownId&) {
    }
  };
  std::vector<std::thread> learners;
  for (std::uint64_t t = 0; t < 3; ++t) {
    learners.emplace_back([&, t] {
      Random random(t, 0);
      for (int round = 0; round < kRounds; ++round) {
        const auto users = drawn(random, 300, 400), items = drawn(random, 300, 200);
        guarded([&] { engine->learn_many({numbers(users), numbers(items)}, 2, {}, OnBad::kSkip); });
        guarded([&] { engine->learn_one(number(users[0] + 500), number(items[1]), 1, 1, kLatest); });
        if (t == 0) {
          const std::vector<float> rows(20 * 8, 0.5f);
          const auto set = drawn(random, 20, 200);
          guarded([&] { engine->set_items(numbers(set), std::span(rows), nullptr); });
        }
        if (t == 1 && evict == Eviction::kError) {
          for (const std::int64_t id : drawn(random, 10, 400)) {
            const std::vector<std::int64_t> one{id};
            guarded([&] { engine->remove_users(numbers(one)); });
          }
        }
        if (t == 2 && round % 10 == 0) engine->checkpoint();
      }
    });
  }
  std::thread watcher([&] {
    QueryOptions options;
    while (!stop.load()) {
      // A batch that learns from a user whom somebody removes meanwhile brings the user back.
      if (evict == Eviction::kLru) CHECK(engine->num_users() <= kUsers);
      CHECK(engine->num_items() <= kItems);
      for (const float score : engine->recommend(number(7), options).scores) CHECK(std::isfinite(score));
    }
  });
  for (std::thread& thread : learners) thread.join();
  stop.store(true);
  watcher.join();
  const FactorTable users = engine->user_factors(), items = engine->item_factors();
  CHECK(users.ids.size() > kUsers / 2 && items.ids.size() > kItems / 2);
  engine->checkpoint();
  engine.reset();
  engine = Engine::open(folder, limited(evict), {SyncMode::kOs, 0, false, {}});
  CHECK(engine->user_factors().ids.ints == users.ids.ints && engine->item_factors().ids.ints == items.ids.ints);
  engine.reset();
  std::filesystem::remove_all(folder);
}

// No step is granted twice, whoever asks at once.
void test_budget() {
  UserBudget budget(1000);
  budget.reserve(4);
  std::atomic<int> granted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int k = 0; k < 1000; ++k) granted += budget.take(2, 1.7e9) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(granted.load() == 1000);
  CHECK(budget.take(2, 1.7e9 + 3.6) && !budget.take(2, 1.7e9 + 3.6));
  CHECK(budget.take(3, 1.7e9));
}

}  // namespace

int main() {
  test_budget();
  test_threads(Eviction::kLru);
  test_threads(Eviction::kError);
}
