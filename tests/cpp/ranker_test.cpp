// Ranker: logarithms against float64 on every instruction set, what its parts hold, and everything at once from many
// threads. (Signals, scores and steps are checked in tests/test_ranker.py.)
#include "ranker/ranker.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "kernels/kernels.hpp"

namespace recengine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check_logarithms(const Kernels& kernels) {
  constexpr std::size_t kCount = 4096;
  AlignedFloats before(kCount);
  for (std::size_t k = 0; k < kCount; ++k) before[k] = std::exp(60 * static_cast<float>(k) / kCount - 20) - 1e-9f;
  for (const float scale : {1.0f, 1 / 0.003f}) {
    AlignedFloats x = before;
    kernels.log1p_scaled(x.data(), scale, kCount);
    for (std::size_t k = 0; k < kCount; ++k) {
      const double expected = std::log1p(double{scale} * double{before[k]});
      CHECK_NEAR(double{x[k]}, expected, std::max(expected, 1.0) * 0x1p-22);
    }
  }
  AlignedFloats edges(kRowPadding, 0.0f);
  edges[1] = -5;
  edges[2] = std::numeric_limits<float>::quiet_NaN();
  edges[3] = kInfinity;
  edges[4] = -kInfinity;
  kernels.log1p_scaled(edges.data(), 1, kRowPadding);
  for (const std::size_t k : {0, 1, 2, 4}) CHECK(edges[k] == 0);
  CHECK_NEAR(edges[3], 88.597f, 0.01f);
}

void popular_items_are_the_highest_that_were_offered() {
  std::vector<float> levels(500);
  for (std::size_t k = 0; k < levels.size(); ++k) levels[k] = static_cast<float>(k * 7919 % 500);
  const auto predict = [&levels](std::span<const Row> rows, float* out) {
    for (std::size_t j = 0; j < rows.size(); ++j) out[j] = levels[rows[j]];
  };
  PopularItems popular;
  for (Row row = 0; row < 500; ++row) {
    popular.offer(row, predict);
    popular.offer(row, predict);  // what is there does not come in again
  }
  std::vector<Row> held;
  popular.for_each([&held](Row row) { held.push_back(row); });
  CHECK(held.size() == PopularItems::kSize);
  for (const Row row : held) CHECK(levels[row] >= 500 - static_cast<float>(PopularItems::kSize));
  popular.erase_if([](Row row) { return row % 2 == 0; });
  popular.for_each([](Row row) { CHECK(row % 2 == 1); });
}

void weights_stay_within_bounds() {
  LinearWeights weights(kSignals);
  std::vector<float> slopes(kSignals, 1.0f), values(kSignals);
  for (int step = 0; step < 10'000; ++step) weights.step(true, slopes.data());
  weights.load(true, values.data());
  for (const float value : values) CHECK(value <= 0 && value >= -LinearWeights::kMostWeight);
  CHECK(values[kScoreSignal] == 0 && values[kDemand] == 0 && values[kAfterLast] < 0);
  const std::vector<float> before = values;
  slopes = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 1e16f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  weights.step(true, slopes.data());
  weights.load(true, values.data());
  CHECK(values == before);
  weights.load(false, values.data());
  CHECK(values[kScoreSignal] == 1 && values[kDemand] == 1 && values[kAfterLast] == 0);
}

Id id(std::int64_t number) { return {IdKind::kInt, number, {}}; }

struct Numbers {
  explicit Numbers(const std::vector<std::int64_t>& numbers) {
    ids.kind = IdKind::kInt;
    ids.ints = numbers;
  }
  IdSpan span() const { return ids.span(); }
  IdArray ids;
};

Settings settings_of(RankerKind kind, Storage storage) {
  Settings settings;
  settings.dim = 16;
  settings.negatives = 8;
  settings.history = 8;
  settings.neighbors = 16;
  settings.ranker = kind;
  settings.storage = storage;
  settings.item_features = {"price"};
  settings.session_gap = 50;
  return settings;
}

// Learners, queries of every kind, removals and saving: what comes back is finite, sorted and asked for.
void everything_at_once(RankerKind kind, Storage storage) {
  constexpr std::int64_t kUsers = 40, kItems = 300;
  Engine engine(settings_of(kind, storage));
  const std::string path =
      (std::filesystem::temp_directory_path() / ("ranker_test-" + std::to_string(getpid()))).string();
  std::atomic<std::int64_t> clock{0};
  std::atomic<bool> stop{false};
  const auto check = [](const Rankings& found, std::size_t most) {
    CHECK(found.scores.size() <= most);
    for (std::size_t k = 0; k < found.scores.size(); ++k) {
      CHECK(std::isfinite(found.scores[k]));
      CHECK(k == 0 || found.scores[k] <= found.scores[k - 1]);
    }
  };
  const auto learn = [&](std::mt19937& draw) {
    std::vector<std::int64_t> users, items;
    std::vector<double> times;
    std::vector<float> values;
    for (int k = 0; k < 200; ++k) {
      users.push_back(draw() % kUsers);
      items.push_back(draw() % kItems);
      times.push_back(static_cast<double>(clock.fetch_add(1)));
      values.push_back(draw() % 20 == 0 ? -1.0f : 1.0f);
    }
    const Numbers user_ids(users), item_ids(items);
    engine.learn_many({user_ids.span(), item_ids.span(), values.data(), nullptr, times.data()}, 2);
    engine.learn_one(id(draw() % kUsers), id(draw() % kItems), 1, 1, kLatest);
  };
  const auto query = [&](std::mt19937& draw) {
    const float added = 0.5f;
    QueryOptions options;
    options.k = 1 + draw() % 40;
    options.exclude_seen = draw() % 2 == 0;
    options.context = {&added, 1};
    const std::int64_t user = draw() % kUsers;
    check(engine.recommend(id(user), options), options.k);
    const Numbers session({1, 2, static_cast<std::int64_t>(draw() % kItems)});
    check(engine.recommend_history(session.span(), options), options.k);
    const Rankings many = engine.recommend_many(Numbers({user, user, 7}).span(), options);
    for (const float score : many.scores) CHECK(std::isfinite(score));
    const std::int64_t item = draw() % kItems;
    try {
      check(engine.rank(id(user), Numbers({item}).span(), {}), 1);
      const Explanation explanation = engine.explain(id(user), id(item));
      for (const ExplanationPart& part : explanation.parts) CHECK(std::isfinite(part.contribution));
      const std::vector<float> feature{static_cast<float>(draw() % 3)};
      engine.set_item_features(Numbers({item}).span(), feature);
    } catch (const UnknownId&) {  // removed, or not there yet
    }
  };
  const auto remove = [&](std::mt19937& draw) {
    try {
      engine.remove_items(Numbers({static_cast<std::int64_t>(draw() % kItems)}).span());
      engine.remove_users(Numbers({static_cast<std::int64_t>(draw() % kUsers)}).span());
    } catch (const UnknownId&) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  const auto save = [&](std::mt19937&) {
    engine.save(path);
    const auto loaded = Engine::load(path);
    check(loaded->recommend(id(1), {}), 10);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  std::vector<std::function<void(std::mt19937&)>> roles{learn, learn, query, query, remove, save};
  std::vector<std::thread> threads;
  for (std::size_t role = 0; role < roles.size(); ++role) {
    threads.emplace_back([&, role] {
      std::mt19937 draw(static_cast<unsigned>(role));
      while (!stop.load(std::memory_order_relaxed)) roles[role](draw);
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
  std::filesystem::remove(path);
  for (const float weight : engine.ranker_weights()) CHECK(std::abs(weight) <= LinearWeights::kMostWeight);
}

// On one thread, in a batch or one by one: the same weights, the same bits.
void runs_are_reproducible(RankerKind kind) {
  std::mt19937 draw(3);
  std::vector<std::int64_t> users, items;
  std::vector<double> times;
  for (int k = 0; k < 2000; ++k) {
    users.push_back(draw() % 30);
    items.push_back(draw() % 80);
    times.push_back(k * 7.0);
  }
  Engine batch(settings_of(kind, Storage::kFp32)), single(settings_of(kind, Storage::kFp32));
  const Numbers user_ids(users), item_ids(items);
  batch.learn_many({user_ids.span(), item_ids.span(), nullptr, nullptr, times.data()}, 1);
  for (std::size_t k = 0; k < users.size(); ++k) single.learn_one(id(users[k]), id(items[k]), 1, 1, times[k]);
  CHECK(batch.ranker_weights() == single.ranker_weights());
  for (std::int64_t user = 0; user < 30; ++user) {
    CHECK(batch.recommend(id(user), {}).scores == single.recommend(id(user), {}).scores);
  }
}

}  // namespace
}  // namespace recengine

int main() {
  using namespace recengine;
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    check_logarithms(active_kernels());
  }
  select_kernels("");
  popular_items_are_the_highest_that_were_offered();
  weights_stay_within_bounds();
  for (const RankerKind kind : {RankerKind::kLinear, RankerKind::kMlp}) {
    runs_are_reproducible(kind);
    everything_at_once(kind, kind == RankerKind::kMlp ? Storage::kFp16 : Storage::kFp32);
  }
}
