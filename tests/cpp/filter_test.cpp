// Filters of an engine under load: queries beside learners, whole replacements, updates, moves between groups, and
// items that come and go. What is checked:
//  - a ranking with a filter is one of the sets that were published, never a part or a mixture;
//  - an item that moves between two groups is in exactly one of them for every query;
//  - an item that comes, into whatever slot, is in no filter and no group.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"

namespace recengine {
namespace {

constexpr std::int64_t kStable = 5000;  // items 0 .. kStable - 1 stay
constexpr std::int64_t kChurned = 100000;
constexpr std::size_t kDim = 4;
using Numbers = std::vector<std::int64_t>;

IdSpan span(const Numbers& ids) { return {IdKind::kInt, ids.size(), ids.data(), nullptr, nullptr}; }
Id id(std::int64_t number) { return {IdKind::kInt, number, {}}; }

FilterExpression filter(const char* name) { return FilterExpression({FilterOp::kFilter, IdKind::kString, 0, name}); }
FilterExpression group(std::int64_t label) { return FilterExpression({FilterOp::kGroup, IdKind::kInt, label, {}}); }

Settings small() {
  Settings settings;
  settings.dim = kDim;
  settings.history = 0;
  settings.negatives = 4;
  return settings;
}

// Item n has the vector (n, 0, 0, 0); a query for the first axis ranks by number.
void add(Engine& engine, const Numbers& ids) {
  std::vector<float> vectors(ids.size() * kDim, 0.0f);
  for (std::size_t k = 0; k < ids.size(); ++k) vectors[k * kDim] = static_cast<float>(ids[k]);
  engine.set_items(span(ids), vectors, nullptr);
}

Numbers matching(Engine& engine, const FilterExpression& expression) {
  QueryOptions options;
  options.k = 1000000;
  options.filter = &expression;
  const std::vector<float> axis{1, 0, 0, 0};
  Numbers found = engine.search(axis, false, options).ids.ints;
  std::sort(found.begin(), found.end());
  return found;
}

// The sets that take turns under one name: the rows n of [0, kStable) with n % kTurns == turn, and some of them alone.
constexpr std::int64_t kTurns = 3;
Numbers turn_items(std::int64_t turn) {
  Numbers items;
  const std::int64_t step = turn == 0 ? kTurns : kTurns * 100;  // one dense, two sparse
  for (std::int64_t n = turn; n < kStable; n += step) items.push_back(n);
  return items;
}

void everything_at_once() {
  Engine engine(small());
  Numbers stable(kStable);
  std::iota(stable.begin(), stable.end(), 0);
  add(engine, stable);
  engine.set_filter("turns", span(turn_items(0)));
  engine.set_filter("pairs", span({}));
  engine.set_filter("all", span(stable));
  engine.set_groups(span(stable), span(Numbers(kStable, 7)));
  engine.set_groups(span({0}), span({8}));

  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  const auto start = [&](auto work) {
    threads.emplace_back([&stop, work] {
      for (unsigned round = 0; !stop.load(std::memory_order_relaxed); ++round) work(round);
    });
  };
  start([&](unsigned round) { engine.set_filter("turns", span(turn_items(round % kTurns))); });
  // Items far apart, so that half an update would show.
  start([&](unsigned round) {
    const Numbers pair{round % 100, kStable - 1 - round % 100};
    engine.update_filter("pairs", span(pair), span({}));
    engine.update_filter("pairs", span({}), span(pair));
  });
  start([&](unsigned round) { engine.set_groups(span({10, 4000}), span(Numbers(2, 7 + round % 2))); });
  start([&](unsigned round) {
    const Numbers ids{kChurned + round % 500, kChurned + 500 + round % 500};
    add(engine, ids);
    for (const auto& expression : {filter("all"), group(7) | group(8) | filter("turns")}) {
      const Numbers found = matching(engine, expression);
      CHECK(found.empty() || found.back() < kStable);
    }
    engine.update_filter("all", span(ids), span({}));
    engine.set_groups(span(ids), span({8, 8}));
    CHECK(matching(engine, filter("all") & group(8)).back() == ids.back());
    engine.remove_items(span(ids));
  });
  start([&](unsigned round) {
    const std::string name = "passing" + std::to_string(round % 4);
    engine.set_filter(name, span({round % kStable}));
    CHECK(matching(engine, filter(name.c_str())) == Numbers{round % kStable});
    engine.remove_filter(name);
    bool known = true;
    try {
      matching(engine, filter(name.c_str()));
    } catch (const UnknownId&) {
      known = false;
    }
    CHECK(!known);
  });
  for (int reader = 0; reader < 2; ++reader) {
    start([&](unsigned) {
      const Numbers turn = matching(engine, filter("turns"));
      CHECK(turn == turn_items(turn.front()));
      const Numbers pair = matching(engine, filter("pairs"));
      CHECK(pair.empty() || (pair.size() == 2 && pair[0] + pair[1] == kStable - 1));
      CHECK(matching(engine, filter("turns") & ~filter("turns")).empty());
      const Numbers moving = matching(engine, group(8) & ~group(7));
      const bool there = std::binary_search(moving.begin(), moving.end(), 10);
      CHECK(there == std::binary_search(moving.begin(), moving.end(), 4000));
      CHECK(matching(engine, (group(7) & group(8)) & filter("all")).empty());
    });
  }
  start([&](unsigned round) {
    for (unsigned k = 0; k < 50; ++k) engine.learn_one(id(round % 20), id((round * 50 + k) % kStable), 1, 0, kLatest);
  });
  std::this_thread::sleep_for(std::chrono::seconds(2));
  stop = true;
  for (std::thread& thread : threads) thread.join();

  CHECK(matching(engine, group(7) | group(8)) == stable);
  CHECK(matching(engine, filter("all")) == stable);
  CHECK((engine.filter_names() == std::vector<std::string>{"all", "pairs", "turns"}));
}

// Rows that move between two groups, as fast as can be: readers find each in exactly one of them.
void moves_are_seen_whole() {
  EpochDomain domain;
  FilterSets sets(domain);
  std::vector<Row> rows(20);
  std::iota(rows.begin(), rows.end(), 0);
  const auto move_to = [&](std::int64_t label) {
    const auto pin = domain.pin_writer();
    sets.set_groups(rows, span(Numbers(rows.size(), label)));
  };
  move_to(1);
  move_to(2);
  std::atomic<bool> stop{false};
  std::thread mover([&] {
    for (int k = 0; !stop.load(std::memory_order_relaxed); ++k) move_to(1 + k % 2);
  });
  for (int k = 0; k < 200000; ++k) {
    const auto pin = domain.pin_reader();
    const FilterTerm* unknown = nullptr;
    CHECK(!sets.compile(group(1) & group(2), false, &unknown)->admits(7));
    CHECK(sets.compile(group(2) | group(1), false, &unknown)->admits(7));
  }
  stop = true;
  mover.join();
}

// Slots are used again and again; no owner finds a bit of the one before.
void slots_are_not_inherited() {
  Engine engine(small());
  std::mt19937 random(3);
  for (std::int64_t round = 0; round < 40; ++round) {
    Numbers ids(300);
    std::iota(ids.begin(), ids.end(), round * 1000);
    add(engine, ids);
    if (round == 0) {
      engine.set_filter("dense", span(ids));
      engine.set_filter("sparse", span({ids[5], ids[250]}));
      engine.set_groups(span(ids), span(Numbers(ids.size(), 1)));
    } else {
      CHECK(matching(engine, filter("dense") | filter("sparse") | group(1)).empty());
      CHECK(matching(engine, ~filter("dense")) == ids);
      engine.update_filter("dense", span(ids), span({}));
      engine.update_filter("sparse", span({ids[random() % 300]}), span({}));
      engine.set_groups(span(ids), span(Numbers(ids.size(), 1)));
    }
    CHECK(matching(engine, filter("dense")) == ids);
    std::shuffle(ids.begin(), ids.end(), random);
    const auto half = ids.begin() + 150;
    engine.remove_items(span(Numbers(ids.begin(), half)));
    CHECK(matching(engine, filter("dense") & group(1)).size() == 150);
    engine.remove_items(span(Numbers(half, ids.end())));
  }
  CHECK(engine.num_items() == 0);
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::slots_are_not_inherited();
  recengine::moves_are_seen_whole();
  recengine::everything_at_once();
}
