// Engine: everything at once from many threads. What is checked under load:
//  - an id that is returned was one of those that could be there, and its score is its own, never that of another item
//    that had or gets its slot: every item's row is a code of its id, and the rate is 0, so that rows keep it;
//  - what a call that has returned changed, the next call of the same thread sees;
//  - a file saved meanwhile loads and agrees with itself.
// Without load: determinism, histories, removal and reuse of slots, interrupts.
#include "engine/engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "storage/interrupt.hpp"

namespace recengine {
namespace {

constexpr double kForever = std::numeric_limits<double>::infinity();
constexpr std::size_t kAll = std::size_t{1} << 40;

// Both kinds of ids run through the same tests: a number, as itself or spelt with many common prefixes.
struct Ints {
  static constexpr IdKind kKind = IdKind::kInt;
};
struct Strings {
  static constexpr IdKind kKind = IdKind::kString;
};

std::string spelt(std::int64_t n) {
  return std::string(static_cast<std::size_t>(n % 7) * 6, 'x') + ':' + std::to_string(n);
}

// One id or a column of them, owned.
class Ids {
 public:
  Ids(IdKind kind, const std::vector<std::int64_t>& numbers) {
    ids_.kind = kind;
    for (const std::int64_t n : numbers) {
      if (kind == IdKind::kInt) {
        ids_.ints.push_back(n);
      } else {
        ids_.bytes += spelt(n);
        ids_.offsets.push_back(ids_.bytes.size());
      }
    }
  }
  IdSpan span() const { return ids_.span(); }
  Id front() const { return id_at(ids_.span(), 0); }

 private:
  IdArray ids_;
};

std::int64_t number_of(const IdArray& ids, std::size_t k) {
  if (ids.kind == IdKind::kInt) return ids.ints[k];
  const std::string text(ids.span().string_at(k));
  return std::stoll(text.substr(text.find(':') + 1));
}

std::vector<std::int64_t> numbers(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), first);
  return all;
}

// A file's name that is this process's own; removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("engine_test-" + std::to_string(getpid()) + "-" + name)) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  std::string path() const { return path_.string(); }
  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path path_;
};

// An item's row: its number plus one in the first coordinate. A search with the first unit vector returns it as the
// score.
constexpr std::size_t kDim = 16;

float code(std::int64_t item) { return static_cast<float>(item + 1); }

std::vector<float> unit() {
  std::vector<float> vector(kDim, 0.0f);
  vector[0] = 1;
  return vector;
}

void set_coded(Engine& engine, IdKind kind, const std::vector<std::int64_t>& items) {
  std::vector<float> rows(items.size() * kDim, 0.0f);
  for (std::size_t k = 0; k < items.size(); ++k) rows[k * kDim] = code(items[k]);
  engine.set_items(Ids(kind, items).span(), rows, nullptr);
}

// Rows stay as they are set: rate 0, born as zeros.
Settings still_settings(Objective objective = Objective::kSoftmax) {
  Settings settings;
  settings.dim = kDim;
  settings.objective = objective;
  settings.learning_rate = 0;
  settings.init_scale = 0;
  settings.negatives = objective == Objective::kSquared ? 0 : 4;
  settings.history = 3;
  settings.popularity_half_life = kForever;
  return settings;
}

// The decayed counts of all items together: with an infinite half-life, the number of events on record.
double total_popularity(Engine& engine) {
  QueryOptions all;
  all.k = kAll;
  const Rankings popular = engine.recommend_history({}, all);
  return std::accumulate(popular.scores.begin(), popular.scores.end(), 0.0);
}

// ---- without load

struct Stream {
  std::vector<std::int64_t> users, items;
  std::vector<float> values, weights;
  std::vector<double> timestamps;
};

Stream random_stream(Objective objective, std::size_t size) {
  std::mt19937 random(5);
  const auto below = [&random](unsigned bound) { return static_cast<std::int64_t>(random() % bound); };
  Stream stream;
  for (std::size_t e = 0; e < size; ++e) {
    stream.users.push_back(below(40));
    stream.items.push_back(below(60));
    stream.values.push_back(objective == Objective::kSquared    ? static_cast<float>(below(5) + 1)
                            : objective == Objective::kLogistic ? static_cast<float>(below(2))
                                                                : 1.0f);
    stream.weights.push_back(static_cast<float>(below(4)) * 0.5f);
    stream.timestamps.push_back(1e9 + static_cast<double>(e) * 10);
  }
  return stream;
}

Settings lively_settings(Objective objective, Storage storage) {
  Settings settings = still_settings(objective);
  settings.storage = storage;
  settings.learning_rate = 0.1f;
  settings.init_scale = 0.05f;
  settings.popularity_half_life = 1e4;
  return settings;
}

void learn_columns(Engine& engine, IdKind kind, const Stream& stream, std::size_t threads = 1) {
  const Ids users(kind, stream.users);
  const Ids items(kind, stream.items);
  const EventColumns events{users.span(), items.span(), stream.values.data(), stream.weights.data(),
                            stream.timestamps.data()};
  CHECK(engine.learn_many(events, threads) == stream.users.size());
}

void learn_singly(Engine& engine, IdKind kind, const Stream& stream) {
  for (std::size_t e = 0; e < stream.users.size(); ++e) {
    engine.learn_one(Ids(kind, {stream.users[e]}).front(), Ids(kind, {stream.items[e]}).front(), stream.values[e],
                     stream.weights[e], stream.timestamps[e]);
  }
}

// One thread: the same events give the same file, byte for byte, learned singly or in a batch, and so does going on
// from a file that was loaded.
void runs_are_reproducible(Storage storage) {
  for (const Objective objective : {Objective::kSoftmax, Objective::kBpr, Objective::kLogistic, Objective::kSquared}) {
    const Settings settings = lively_settings(objective, storage);
    const Stream stream = random_stream(objective, 600);
    const Stream later = random_stream(objective, 200);
    Engine singly(settings);
    Engine batch(settings);
    learn_singly(singly, IdKind::kString, stream);
    learn_columns(batch, IdKind::kString, stream);
    const TemporaryFile first("first");
    const TemporaryFile second("second");
    singly.save(first.path());
    batch.save(second.path());
    CHECK(first.bytes() == second.bytes());

    const std::unique_ptr<Engine> loaded = Engine::load(first.path());
    learn_columns(batch, IdKind::kString, later);
    learn_columns(*loaded, IdKind::kString, later);
    batch.save(first.path());
    loaded->save(second.path());
    CHECK(first.bytes() == second.bytes());
  }
}

void histories_are_the_last_items() {
  Engine engine(still_settings());
  set_coded(engine, IdKind::kInt, numbers(0, 8));
  const Ids user(IdKind::kInt, {1});
  const auto vector = [&] { return engine.user_vectors(user.span())[0]; };
  const auto learn = [&](std::int64_t item) {
    engine.learn_one(user.front(), Ids(IdKind::kInt, {item}).front(), 1, 1, kLatest);
  };
  learn(0);
  CHECK(vector() == code(0));
  learn(1);
  CHECK(vector() == code(1) + 0.5f * code(0));
  learn(2);
  learn(3);
  CHECK(vector() == code(3) + 0.5f * code(2) + 0.25f * code(1));
  engine.remove_items(Ids(IdKind::kInt, {2}).span());
  CHECK(vector() == code(3) + 0.5f * code(1));
  set_coded(engine, IdKind::kInt, {2});  // the same name is another item now
  CHECK(vector() == code(3) + 0.5f * code(1));
  learn(2);
  CHECK(vector() == code(2) + 0.5f * code(3));
  engine.remove_users(user.span());
  CHECK(!engine.has_user(user.front()));
  learn(5);
  CHECK(vector() == code(5));
}

template <class Kind>
void slots_are_reused_clean() {
  Engine engine(still_settings());
  const Ids user(Kind::kKind, {1});
  for (std::int64_t round = 0; round < 12; ++round) {
    const std::vector<std::int64_t> items = numbers(round * 50, 150);
    set_coded(engine, Kind::kKind, items);
    for (std::int64_t k = 0; k < 5; ++k) {
      engine.learn_one(user.front(), Ids(Kind::kKind, {items[static_cast<std::size_t>(k * 7)]}).front(), 1, 1, kLatest);
    }
    QueryOptions all;
    all.k = kAll;
    const Rankings found = engine.search(unit(), false, all);
    CHECK(found.scores.size() == items.size());
    for (std::size_t k = 0; k < found.scores.size(); ++k) {
      CHECK(found.scores[k] == code(number_of(found.ids, k)));
      CHECK(number_of(found.ids, k) == items[items.size() - 1 - k]);
    }
    CHECK(total_popularity(engine) == 5);  // of the items that are left, this round's alone have events
    all.exclude_seen = true;
    CHECK(engine.recommend(user.front(), all).scores.size() == items.size() - 5);
    engine.remove_items(Ids(Kind::kKind, items).span());
    CHECK(engine.num_items() == 0);
    CHECK(engine.search(unit(), false, all).scores.empty());
  }
  CHECK(engine.statistics().item_bytes < std::size_t{1} << 20);  // 150 slots serve all rounds
}

// Asks for a stop as soon as something was learned.
class OnceLearned : public Interrupt {
 public:
  explicit OnceLearned(const Engine& engine) : engine_(engine) {}
  bool requested() override { return engine_.num_users() > 0; }

 private:
  const Engine& engine_;
};

void an_interrupt_stops_between_events() {
  for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
    Engine engine(still_settings());
    const Stream stream = [] {
      Stream many;
      many.users = numbers(0, 20000);
      many.items.assign(20000, 7);
      return many;
    }();
    const Ids users(IdKind::kInt, stream.users);
    const Ids items(IdKind::kInt, stream.items);
    OnceLearned interrupt(engine);
    const InterruptScope scope(interrupt);
    const std::size_t applied = engine.learn_many({users.span(), items.span()}, threads);
    CHECK(0 < applied && applied < stream.users.size());
    CHECK(engine.num_users() == applied);
    CHECK(std::abs(total_popularity(engine) - static_cast<double>(applied)) <= 1e-3 * static_cast<double>(applied));
    CHECK(engine.statistics().events == applied);
    if (threads == 1) CHECK(engine.has_user(Ids(IdKind::kInt, {static_cast<std::int64_t>(applied) - 1}).front()));
  }
}

// All events belong to one user, and so to one thread: whichever that is, the interrupt reaches it.
void an_interrupt_reaches_every_thread() {
  for (std::int64_t user = 0; user < 6; ++user) {
    Engine engine(still_settings());
    const Ids users(IdKind::kInt, std::vector<std::int64_t>(200000, user));
    const Ids items(IdKind::kInt, std::vector<std::int64_t>(200000, 7));
    OnceLearned interrupt(engine);
    const InterruptScope scope(interrupt);
    CHECK(engine.learn_many({users.span(), items.span()}, 3) < 200000);
  }
}

// ---- under load

// Runs each function again and again in its own thread until the time is up, and at least once.
void run_for(std::chrono::milliseconds duration, const std::vector<std::function<void(unsigned round)>>& loops) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (const auto& loop : loops) {
    threads.emplace_back([&stop, &loop] {
      unsigned round = 0;
      do loop(round++);
      while (!stop.load(std::memory_order_relaxed));
    });
  }
  std::this_thread::sleep_for(duration);
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

constexpr std::int64_t kStable = 200;  // items 0 .. 199 stay; those from kChurned on come and go
constexpr std::int64_t kChurned = 1000;
constexpr std::int64_t kChurnedIds = 400;
constexpr std::int64_t kUsers = 300;

bool is_item(std::int64_t item) {
  return (0 <= item && item < kStable) || (kChurned <= item && item < kChurned + kChurnedIds);
}

// A stable item has its code. A churned one is seen with its own, or with nothing yet or any more: a learner may put
// back the zeros that it has read.
void check_coded(std::int64_t item, float score) {
  CHECK(is_item(item));
  CHECK(score == code(item) || (score == 0 && item >= kChurned));
}

void check_search(const Rankings& found) {
  for (std::size_t k = 0; k < found.scores.size(); ++k) check_coded(number_of(found.ids, k), found.scores[k]);
  CHECK(std::is_sorted(found.scores.rbegin(), found.scores.rend()));
}

// Ids of the universe, each once a query.
void check_rankings(const Rankings& rankings, std::size_t k) {
  std::size_t at = 0;
  for (const std::size_t count : rankings.counts) {
    CHECK(count <= k);
    std::vector<std::int64_t> items;
    for (std::size_t r = 0; r < count; ++r) items.push_back(number_of(rankings.ids, at + r));
    CHECK(std::all_of(items.begin(), items.end(), is_item));
    CHECK(std::is_sorted(rankings.scores.begin() + static_cast<std::ptrdiff_t>(at),
                         rankings.scores.begin() + static_cast<std::ptrdiff_t>(at + count), std::greater<>()));
    std::sort(items.begin(), items.end());
    CHECK(std::adjacent_find(items.begin(), items.end()) == items.end());
    at += count;
  }
  CHECK(at == rankings.scores.size() && at == rankings.ids.size());
}

template <class Kind>
void mixed_load() {
  Engine engine(still_settings());
  set_coded(engine, Kind::kKind, numbers(0, kStable));
  const TemporaryFile file(Kind::kKind == IdKind::kInt ? "ints" : "strings");
  std::atomic<std::uint64_t> learned{0};

  const auto learner = [&](unsigned first) {
    return [&engine, &learned, random = std::mt19937(first)](unsigned) mutable {
      for (int e = 0; e < 64; ++e) {
        const Ids user(Kind::kKind, {static_cast<std::int64_t>(random() % kUsers)});
        const Ids item(Kind::kKind, {static_cast<std::int64_t>(random() % kStable)});
        engine.learn_one(user.front(), item.front(), 1, 1, 1e9);
        learned.fetch_add(1, std::memory_order_relaxed);
      }
    };
  };
  const auto batches = [&](unsigned round) {
    std::mt19937 random(round);
    std::vector<std::int64_t> users(600), items(600);
    for (auto& user : users) user = random() % kUsers;
    for (auto& item : items) item = random() % kStable;
    const Ids user_ids(Kind::kKind, users);
    const Ids item_ids(Kind::kKind, items);
    learned.fetch_add(engine.learn_many({user_ids.span(), item_ids.span()}, 2), std::memory_order_relaxed);
  };
  // The only thread that adds and removes churned items: it knows which are there.
  const auto churner = [&](unsigned round) {
    const std::vector<std::int64_t> items = numbers(kChurned + round % 5 * (kChurnedIds / 5), kChurnedIds / 5);
    const Ids ids(Kind::kKind, items);
    set_coded(engine, Kind::kKind, items);
    const std::vector<float> vectors = engine.item_vectors(ids.span());
    for (std::size_t k = 0; k < items.size(); ++k) check_coded(items[k], vectors[k * kDim]);
    QueryOptions among;
    among.k = kAll;
    among.among = ids.span();
    CHECK(engine.search(unit(), false, among).scores.size() == items.size());
    engine.remove_items(ids.span());
    CHECK(!engine.has_item(ids.front()));
    CHECK(engine.num_items() == kStable);
    QueryOptions all;
    all.k = kAll;
    const Rankings left = engine.search(unit(), false, all);
    CHECK(left.scores.size() == kStable);
    CHECK_THROWS(UnknownId, engine.item_vectors(ids.span()));
  };
  const auto user_churner = [&](unsigned round) {
    const Ids user(Kind::kKind, {kUsers + round % 20});
    engine.learn_one(user.front(), Ids(Kind::kKind, {3}).front(), 1, 1, kLatest);
    learned.fetch_add(1, std::memory_order_relaxed);
    CHECK(engine.user_vectors(user.span())[0] == code(3));
    engine.remove_users(user.span());
    CHECK(!engine.has_user(user.front()));
  };
  const auto searcher = [&](unsigned round) {
    QueryOptions options;
    options.k = 1 + round % 300;
    check_search(engine.search(unit(), false, options));
    check_rankings(engine.search(unit(), true, options), options.k);
    const IdArray items = engine.item_ids();
    for (std::size_t k = 0; k < items.size(); ++k) CHECK(is_item(number_of(items, k)));
    const FactorTable factors = engine.item_factors();
    for (std::size_t k = 0; k < factors.ids.size(); ++k)
      check_coded(number_of(factors.ids, k), factors.vectors[k * kDim]);
  };
  const auto recommender = [&](unsigned round) {
    QueryOptions options;
    options.k = 1 + round % 50;
    options.exclude_seen = round % 2 == 0;
    const std::int64_t user = round % (kUsers + 40);
    check_rankings(engine.recommend(Ids(Kind::kKind, {user}).front(), options), options.k);
    const Ids users(Kind::kKind, numbers(user, 40));
    check_rankings(engine.recommend_many(users.span(), options), options.k);
    const Ids session(Kind::kKind, {1, kChurned + round % kChurnedIds, 2});
    check_rankings(engine.recommend_history(session.span(), options), options.k);
    check_rankings(engine.rank(Ids(Kind::kKind, {user}).front(), Ids(Kind::kKind, {5, 6, 7}).span()), 3);
    try {
      QueryOptions five;
      five.k = 5;
      check_rankings(engine.similar_items(Ids(Kind::kKind, {kChurned + round % kChurnedIds}).front(), five), 5);
    } catch (const UnknownId&) {
      // Removed, or not yet there.
    }
    CHECK(engine.statistics().items >= kStable);
  };
  const auto saver = [&](unsigned) {
    engine.save(file.path());
    const std::unique_ptr<Engine> loaded = Engine::load(file.path());
    QueryOptions all;
    all.k = kAll;
    check_search(loaded->search(unit(), false, all));
    const auto events = static_cast<double>(loaded->statistics().events);
    CHECK(std::abs(total_popularity(*loaded) - events) <= 1e-3 * events);
  };
  run_for(std::chrono::milliseconds(1200),
          {learner(1), learner(2), batches, churner, user_churner, searcher, recommender, saver});

  const auto events = static_cast<double>(learned.load());
  CHECK(engine.statistics().events == learned.load());
  CHECK(std::abs(total_popularity(engine) - events) <= 1e-3 * events);
}

// Items are added while others search: one that arrives in the middle of a scan is found with its own score or not at
// all.
void growth_under_search() {
  Engine engine(still_settings());
  set_coded(engine, IdKind::kInt, numbers(0, 2000));
  std::atomic<std::int64_t> next{2000};
  const auto grower = [&](unsigned) {
    const std::int64_t item = next.load(std::memory_order_relaxed);
    if (item >= 60000) return std::this_thread::yield();
    set_coded(engine, IdKind::kInt, {item});
    next.store(item + 1, std::memory_order_release);
  };
  const auto check = [](const Rankings& found) {
    for (std::size_t k = 0; k < found.scores.size(); ++k) {
      CHECK(found.scores[k] == code(number_of(found.ids, k)) || found.scores[k] == 0);
    }
  };
  const auto searcher = [&](unsigned) {
    const std::int64_t before = next.load(std::memory_order_acquire);
    QueryOptions options;
    options.k = 100;
    const Rankings found = engine.search(unit(), false, options);
    check(found);
    CHECK(number_of(found.ids, 0) >= before - 1);  // whatever was added before the search is seen by it
    // Somebody whose only item is 0 (code 1): the batch kernel, with the codes as scores again.
    engine.learn_one(Ids(IdKind::kInt, {1}).front(), Ids(IdKind::kInt, {0}).front(), 1, 1, kLatest);
    if (engine.user_vectors(Ids(IdKind::kInt, {1}).span())[0] == 1.75f) {
      Rankings batch = engine.recommend_many(Ids(IdKind::kInt, {1, 1, 1}).span(), options);
      for (float& score : batch.scores) score /= 1.75f;
      check(batch);
    }
  };
  run_for(std::chrono::milliseconds(1000), {grower, searcher, searcher});
}

// With a real learning rate nothing can be known about the rows but that they stay finite and that vectors can be read.
void learning_under_load(Storage storage) {
  for (const Objective objective : {Objective::kSoftmax, Objective::kSquared}) {
    Engine engine(lively_settings(objective, storage));
    const Stream stream = random_stream(objective, 2000);
    const auto learn = [&](unsigned) { learn_columns(engine, IdKind::kString, stream, 2); };
    const auto query = [&](unsigned round) {
      QueryOptions options;
      const Rankings found = engine.recommend(Ids(IdKind::kString, {round % 40}).front(), options);
      for (const float score : found.scores) CHECK(std::isfinite(score));
    };
    const auto remove = [&](unsigned round) {
      const std::int64_t item = round % 60;
      if (engine.has_item(Ids(IdKind::kString, {item}).front()))
        engine.remove_items(Ids(IdKind::kString, {item}).span());
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    };
    run_for(std::chrono::milliseconds(500), {learn, learn, query, query, remove});
    for (const float value : engine.item_factors().vectors) CHECK(std::isfinite(value));
    for (const float value : engine.user_factors().vectors) CHECK(std::isfinite(value));
  }
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::runs_are_reproducible(recengine::Storage::kFp32);
  recengine::runs_are_reproducible(recengine::Storage::kFp16);
  recengine::histories_are_the_last_items();
  recengine::slots_are_reused_clean<recengine::Ints>();
  recengine::slots_are_reused_clean<recengine::Strings>();
  recengine::an_interrupt_stops_between_events();
  recengine::an_interrupt_reaches_every_thread();
  recengine::growth_under_search();
  recengine::mixed_load<recengine::Ints>();
  recengine::mixed_load<recengine::Strings>();
  recengine::learning_under_load(recengine::Storage::kFp32);
  recengine::learning_under_load(recengine::Storage::kFp16);
}
