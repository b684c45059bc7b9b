// Out of memory at the n-th allocation, for every n of a program of all that an engine does: what cannot be done throws
// std::bad_alloc, nothing aborts or hangs, and the engine goes on, consistent with itself and with what it has logged.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"

using namespace recengine;

namespace {

// Allocations until one fails; then `fails` of them do. Of all threads: the engine's own have to cope, too.
std::atomic<long> left{-1}, failing{0};

bool fails_now() {
  if (left.load(std::memory_order_relaxed) < 0) return false;
  if (left.fetch_sub(1, std::memory_order_relaxed) > 0) return false;
  if (failing.fetch_sub(1, std::memory_order_relaxed) > 1) left.store(0, std::memory_order_relaxed);
  return true;
}

void* allocate(std::size_t size, std::size_t alignment) {
  if (fails_now()) throw std::bad_alloc();
  void* const memory =
      std::aligned_alloc(alignment, (std::max<std::size_t>(size, 1) + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The pages of large tables and of the arena do not come from operator new. (Sanitizers have a mmap of their own.)
#ifndef RECENGINE_SANITIZED
extern "C" void* mmap(void* start, std::size_t length, int protection, int flags, int file, off_t offset) noexcept {
  if (fails_now()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return reinterpret_cast<void*>(syscall(SYS_mmap, start, length, protection, flags, file, offset));
}
#endif

// Not inlined: g++ would see `free` of what `new` gave, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return allocate(size, alignof(std::max_align_t));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

// In memory where there is such a file system: thousands of syncs would take minutes.
const std::filesystem::path& folder() {
  static const std::filesystem::path path =
      (std::filesystem::is_directory("/dev/shm") ? std::filesystem::path("/dev/shm")
                                                 : std::filesystem::temp_directory_path()) /
      ("recengine-memory-" + std::to_string(getpid()));
  return path;
}

IdSpan numbers(const std::vector<std::int64_t>& ids) { return {IdKind::kInt, ids.size(), ids.data()}; }
Id number(std::int64_t id) { return {IdKind::kInt, id, {}}; }

Settings settings_of(bool limited) {
  Settings settings;
  settings.dim = 4;
  settings.negatives = 2;
  settings.neighbors = 4;
  settings.ranker = RankerKind::kLinear;
  if (limited) {
    settings.limits.max_users = 6;
    settings.limits.max_items = 70;
    settings.limits.evict = Eviction::kLru;
    settings.limits.user_budget = 100;
  }
  return settings;
}

void open(std::unique_ptr<Engine>& engine, bool limited) {
  // With checkpoints in the background: their thread meets failures too.
  DurabilityOptions options;
  options.checkpoint_bytes = limited ? 4096 : 0;
  engine = Engine::open(folder() / "engine", settings_of(limited), options);
  engine->set_maintenance(false);
}

// Everything is finite, of live items, and what is saved loads again.
void check_whole(Engine& engine) {
  const FactorTable users = engine.user_factors(), items = engine.item_factors();
  for (const FactorTable* table : {&users, &items}) {
    for (const float value : table->vectors) CHECK(std::isfinite(value));
    for (const float value : table->biases) CHECK(std::isfinite(value));
  }
  CHECK(users.ids.size() == engine.num_users() && items.ids.size() == engine.num_items());
  QueryOptions options;
  options.k = 200;
  for (std::int64_t user = 0; user < 8; ++user) {
    const Rankings ranking = engine.recommend(number(user), options);
    CHECK(ranking.ids.size() == engine.num_items());
    for (const std::int64_t item : ranking.ids.ints) CHECK(engine.has_item(number(item)));
    for (const float score : ranking.scores) CHECK(std::isfinite(score));
  }
  engine.save(folder() / "saved");
  const auto again = Engine::load(folder() / "saved");
  CHECK(again->num_users() == engine.num_users() && again->num_items() == engine.num_items());
}

using Step = std::function<void(std::unique_ptr<Engine>&)>;

std::vector<Step> program(bool limited) {
  std::vector<std::int64_t> many_users, many_items;
  std::vector<float> vectors;
  for (std::int64_t e = 0; e < 100; ++e) {
    many_users.push_back(e % 9);
    many_items.push_back(e * 7 % 80);
  }
  for (int k = 0; k < 100 * 4; ++k) vectors.push_back(static_cast<float>(k % 11) / 8);
  const auto learn = [](std::int64_t user, std::int64_t item) {
    return [=](std::unique_ptr<Engine>& engine) { engine->learn_one(number(user), number(item), 1, 1, kLatest); };
  };
  const auto learn_many = [=](std::size_t threads, OnBad on_bad) {
    return [=](std::unique_ptr<Engine>& engine) {
      engine->learn_many({numbers(many_users), numbers(many_items)}, threads, {}, on_bad);
    };
  };
  const auto query = [](std::unique_ptr<Engine>& engine) {
    QueryOptions options;
    options.exclude_seen = true;
    engine->recommend(number(1), options);
    engine->recommend(number(-1), options);
    const std::vector<std::int64_t> users{1, 2, 3};
    engine->recommend_many(numbers(users), options);
    ExploreOptions explore;
    explore.policy.kind = PolicyKind::kThompson;
    explore.policy.parameter = 1;
    if (engine->has_item(number(7))) engine->similar_items(number(7), options);
    const auto decision = std::make_shared<const Decision>(engine->explore(number(1), options, explore));
    engine->impression(decision, kLatest);
  };
  // Of sources that are new, each in its way; what was taken before is skipped.
  const auto deliver = [=](const std::string& name) {
    return [=](std::unique_ptr<Engine>& engine) {
      const std::vector<std::int64_t> offsets{1, 2, 3}, users{1, 2, 40}, items{7, 8, 9};
      engine->learn_one(number(1), number(7), 1, 1, kLatest, {name + " of one", std::span(offsets).first(1)});
      engine->learn_many({numbers(users), numbers(items)}, 1, {name + " of many", offsets});
      const std::vector<float> bad{NAN, NAN, NAN};
      engine->learn_many({numbers(users), numbers(items), bad.data()}, 1, {name + " of none", offsets}, OnBad::kSkip);
    };
  };
  // To what was shown last.
  const auto feed_back = [](bool learns) {
    return [=](std::unique_ptr<Engine>& engine) {
      const std::vector<Impression> shown = engine->impressions().copy();
      if (shown.empty()) return;
      const Decision& decision = *shown.back().decision;
      const std::int64_t item = decision.candidates.ints[decision.slate[0]];
      engine->feedback(shown.back().number, number(item), 1, kLatest, learns);
    };
  };
  const auto remove = [](std::int64_t first, std::int64_t count) {
    return [=](std::unique_ptr<Engine>& engine) {
      std::vector<std::int64_t> ids;
      for (std::int64_t id = first; id < first + count; ++id) {
        if (engine->has_item(number(id))) ids.push_back(id);
      }
      engine->remove_items(numbers(ids));
    };
  };
  return {
      learn(1, 1),
      learn(2, 7),
      learn_many(1, OnBad::kRaise),
      deliver("first"),
      query,
      feed_back(true),
      [=](std::unique_ptr<Engine>& engine) {
        engine->set_items(numbers(many_items), std::span(vectors), nullptr);
        const std::vector<std::int64_t> users{3, 4, 30};
        engine->set_users(numbers(users), std::span(vectors).first(12), nullptr);
      },
      [](std::unique_ptr<Engine>& engine) {
        const std::vector<std::int64_t> items{1, 7, 14}, labels{5, 5, 6};
        engine->set_filter("f", numbers(items));
        engine->update_filter("f", numbers(labels), numbers(items));
        engine->set_groups(numbers(items), numbers(labels));
      },
      [](std::unique_ptr<Engine>& engine) { engine->save(folder() / "other"); },
      [](std::unique_ptr<Engine>& engine) { engine->checkpoint(); },
      [](std::unique_ptr<Engine>& engine) {
        const std::vector<std::int64_t> users{2, 3};
        if (engine->has_user(number(2)) && engine->has_user(number(3))) engine->remove_users(numbers(users));
      },
      remove(0, 10),
      remove(10, 66),
      learn_many(2, OnBad::kSkip),
      deliver("second"),
      query,
      feed_back(false),
      feed_back(true),
      [=](std::unique_ptr<Engine>& engine) {
        engine.reset();
        open(engine, limited);
      },
      learn(50, 90),
      query,
  };
}

// What recovery must give back.
struct Known {
  explicit Known(Engine& engine)
      : users(engine.user_factors().ids.ints),
        items(engine.item_factors().ids.ints),
        events(engine.statistics().events),
        sources(engine.sources()),
        impressions(engine.impressions().copy().size()) {}
  bool operator==(const Known&) const = default;

  std::vector<std::int64_t> users, items;
  std::uint64_t events;
  std::map<std::string, std::int64_t, std::less<>> sources;
  std::size_t impressions;
};

// Where state and log have parted the engine says so, to whoever changes anything; a checkpoint makes it good.
void make_good(Engine& engine) {
  try {
    engine.set_learning_rate(engine.learning_rate());
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()).find("could not be carried out") != std::string::npos);
    engine.checkpoint();
  }
}

// Runs the program with an allocation failing; false if it came to its end before that.
bool survives(bool limited, long nth, long fails) {
  std::filesystem::remove_all(folder());
  std::filesystem::create_directories(folder() / "engine");
  std::unique_ptr<Engine> engine;
  bool failed = false;
  const std::vector<Step> steps = program(limited);
  failing.store(fails);
  left.store(nth);
  for (const Step& step : steps) {
    try {
      if (!engine) open(engine, limited);
      step(engine);
    } catch (const std::bad_alloc&) {
      left.store(-1);
      failed = true;
      if (!engine) {
        open(engine, limited);
      } else if (nth % 2 == 0) {
        engine->checkpoint();  // what was logged and could not be applied, if anything
      } else {
        make_good(*engine);  // no more than that: the log alone must tell the rest
      }
      check_whole(*engine);
    } catch (const UnknownId&) {  // of what an earlier step would have added
    }
  }
  const bool was_met = left.exchange(-1) < 0;
  CHECK(!failed || was_met);
  make_good(*engine);
  const Known known(*engine);
  engine.reset();
  open(engine, limited);
  CHECK(Known(*engine) == known);
  check_whole(*engine);
  return was_met;
}

}  // namespace

// `memory_failure_test all`: every allocation in turn, which takes some minutes; else fewer and fewer of the later
// ones.
int main(int argc, char**) {
  const long share = argc > 1 ? 1'000'000 : check::kSanitized ? 6 : 40;
  for (const bool limited : {false, true}) {
    for (const long fails : {1, 12}) {
      long nth = 0;
      while (survives(limited, nth, fails)) nth += 1 + nth / share;
      CHECK(nth > 300);
    }
  }
  std::filesystem::remove_all(folder());
}
