// Cooccurrence against a list of slots in doubles; readers beside writers, evictions, windows and removals.
#include "learner/cooccurrence.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "learner/neighbor_scores.hpp"

namespace recengine {
namespace {

constexpr double kNever = INFINITY;

Row below(Row bound, std::mt19937& random) { return static_cast<Row>(random() % bound); }

// The same lists, slot by slot, as multiples by 2^(t / half_life): in doubles, but where nothing decays in floats added
// in the same order, since there counts often tie but for their rounding.
template <class Count>
class Reference {
 public:
  Reference(std::size_t items, std::size_t slots, double half_life)
      : half_life_(half_life), lists_(items, std::vector<Slot>(slots)), events_(items) {}

  void add(Row item, const std::vector<Row>& last, double timestamp) {
    const double unit = std::exp2(timestamp / half_life_);
    events_[item] += unit;
    Count weight = static_cast<Count>(unit);
    for (const Row row : last) {
      if (row != item) {
        put(item, row).before += weight;
        put(row, item).after += weight;
      }
      weight *= Count{0.8f};
    }
  }

  void erase(Row gone) {
    for (auto& list : lists_)
      std::replace_if(list.begin(), list.end(), [gone](Slot& s) { return s.row == gone; }, Slot{});
    std::fill(lists_[gone].begin(), lists_[gone].end(), Slot{});
    events_[gone] = 0;
  }

  double after(Row item, Row row, double now) const { return value(item, row, now, &Slot::after); }
  double before(Row item, Row row, double now) const { return value(item, row, now, &Slot::before); }
  double events(Row item, double now) const { return events_[item] * std::exp2(-now / half_life_); }

 private:
  struct Slot {
    Row row = kNoRow;
    Count after = 0, before = 0;
  };

  Slot& put(Row item, Row row) {
    auto& list = lists_[item];
    const auto holds = [&list](Row wanted) {
      return std::find_if(list.begin(), list.end(), [wanted](const Slot& slot) { return slot.row == wanted; });
    };
    auto slot = holds(row);
    if (slot != list.end()) return *slot;
    slot = holds(kNoRow);
    if (slot == list.end()) {
      slot = std::min_element(list.begin(), list.end(), [](const Slot& one, const Slot& other) {
        return one.after + one.before < other.after + other.before;
      });
    }
    return *slot = Slot{row, 0, 0};
  }

  double value(Row item, Row row, double now, Count Slot::* count) const {
    for (const Slot& slot : lists_[item]) {
      if (slot.row == row) return slot.*count * std::exp2(-now / half_life_);
    }
    return 0;
  }

  const double half_life_;
  std::vector<std::vector<Slot>> lists_;
  std::vector<double> events_;
};

std::vector<Neighbor> neighbors(const Cooccurrence& lists, Row item, double now) {
  std::vector<Neighbor> out(lists.slots());
  out.resize(lists.neighbors(item, now, out.data()));
  return out;
}

template <class Count>
void agree(const Cooccurrence& lists, const Reference<Count>& reference, Row items, double now) {
  for (Row item = 0; item < items; ++item) {
    CHECK_NEAR(lists.count(item, now), reference.events(item, now), 1e-9 * (1 + reference.events(item, now)));
    std::vector<bool> met(items);
    for (const Neighbor& neighbor : neighbors(lists, item, now)) {
      CHECK(neighbor.row < items && neighbor.row != item && !met[neighbor.row]);
      met[neighbor.row] = true;
      const double after = reference.after(item, neighbor.row, now), before = reference.before(item, neighbor.row, now);
      CHECK_NEAR(neighbor.after, after, 1e-30 + 1e-5 * after);
      CHECK_NEAR(neighbor.before, before, 1e-30 + 1e-5 * before);
    }
    for (Row row = 0; row < items; ++row) {
      CHECK(met[row] || reference.after(item, row, now) + reference.before(item, row, now) < 1e-30);
    }
  }
}

template <class Count>
void match_the_reference(std::uint32_t slots, double half_life) {
  constexpr Row kItems = 30;
  std::mt19937 random(slots);
  std::uniform_real_distribution<double> uniform;
  Cooccurrence lists(slots, half_life);
  lists.reserve(kItems);
  Reference<Count> reference(kItems, slots, half_life);
  double now = -100;
  for (int event = 0; event < 600; ++event) {
    now += uniform(random) * (event % 100 == 50 ? 60 * std::min(half_life, 10.0) : 0.3);
    const double late = event % 7 == 0 ? 3 * uniform(random) : 0;
    // Squared: some items far more often than others.
    const auto draw = [&] { return static_cast<Row>(kItems * uniform(random) * uniform(random)); };
    const Row item = draw();
    std::vector<Row> last(static_cast<std::size_t>(9 * uniform(random)));
    std::generate(last.begin(), last.end(), draw);
    lists.add(item, last, now - late);
    reference.add(item, last, now - late);
    if (event % 90 == 89) {
      const Row gone = draw();
      lists.erase_if(kItems, [gone](Row row) { return row == gone; });
      lists.wipe(gone);
      reference.erase(gone);
    }
    if (event % 20 == 19) agree(lists, reference, kItems, now);
  }
}

void streams_match_the_reference() {
  for (const std::uint32_t slots : {1u, 3u, 16u, 29u, 64u, 256u}) {
    match_the_reference<float>(slots, kNever);
    // 0.2: some thousand half-lives, in jumps
    for (const double half_life : {1000.0, 10.0, 0.2}) match_the_reference<double>(slots, half_life);
  }
}

void a_newcomer_takes_the_least_and_starts_from_its_own() {
  Cooccurrence lists(2, kNever);
  lists.reserve(8);
  for (const Row row : {1u, 1u, 1u, 2u, 2u}) lists.add(0, std::array{row}, 0);
  lists.add(0, std::array{Row{3}}, 0);
  std::vector<Neighbor> found = neighbors(lists, 0, 0);
  CHECK(found.size() == 2 && found[0].row == 1 && found[0].before == 3 && found[0].after == 0);
  CHECK(found[1].row == 3 && found[1].before == 1);
  found = neighbors(lists, 1, 0);
  CHECK(found.size() == 1 && found[0].row == 0 && found[0].after == 3 && found[0].before == 0);
}

void any_timestamp_does() {
  for (const double half_life : {1e-3, 1.0, 1e9, kNever}) {
    Cooccurrence lists(4, half_life);
    lists.reserve(8);
    for (const double time : {-1e15, -1.0, 0.0, 1e15, 1e15, -1e15, 5.0}) {
      lists.add(0, std::array{Row{1}, Row{2}}, time);
      for (const Neighbor& neighbor : neighbors(lists, 0, 1e15)) {
        CHECK(std::isfinite(neighbor.after) && std::isfinite(neighbor.before) && neighbor.before > 0);
      }
    }
    const std::vector<Neighbor> found = neighbors(lists, 0, 1e15);
    CHECK(found.size() == 2 && found[0].before >= 2);
  }
}

Cooccurrence::Stored stored(const Cooccurrence& lists, Row item, std::optional<Row> gone = {}) {
  Cooccurrence::Stored list{{}, {}, {}, lists.stored_window(item), lists.level(item)};
  lists.for_each_entry(
      item, [gone](Row row) { return row == gone; },
      [&list](const Cooccurrence::Entry& entry) {
        list.entries.push_back(entry.neighbor);
        list.after.push_back(entry.after);
        list.before.push_back(entry.before);
      });
  return list;
}

void stored_lists_go_on_as_they_were() {
  std::mt19937 random(3);
  Cooccurrence lists(5, 7.0), again(5, 7.0);
  lists.reserve(20);
  again.reserve(20);
  const auto learn = [&random](Cooccurrence& target, int events, double start) {
    for (int e = 0; e < events; ++e) {
      const std::array<Row, 3> last{below(20, random), below(20, random), 4};
      target.add(below(20, random), last, start + e);
    }
  };
  learn(lists, 700, 0);
  lists.erase_if(20, [](Row row) { return row % 6 == 1; });
  for (Row item = 0; item < 20; ++item) again.restore(item, stored(lists, item));
  std::mt19937 same = random;
  learn(lists, 300, 600);
  random = same;
  learn(again, 300, 600);
  for (Row item = 0; item < 20; ++item) {
    const Cooccurrence::Stored one = stored(lists, item), other = stored(again, item);
    CHECK(one.entries == other.entries && one.after == other.after && one.before == other.before);
    CHECK(one.window == other.window && one.level == other.level);
  }
  // What is left out of a stored list is what would be erased.
  std::vector<Cooccurrence::Stored> without;
  for (Row item = 0; item < 20; ++item) without.push_back(stored(lists, item, 4));
  lists.erase_if(20, [](Row row) { return row == 4; });
  for (Row item = 0; item < 20; ++item) {
    const Cooccurrence::Stored one = stored(lists, item);
    CHECK(one.entries == without[item].entries && one.after == without[item].after);
    CHECK(one.before == without[item].before);
  }
}

void scores_add_up() {
  Cooccurrence lists(8, kNever);
  lists.reserve(8);
  lists.add(1, std::array{Row{0}}, 0);
  lists.add(2, std::array{Row{0}, Row{1}}, 0);
  NeighborScores scores;
  const std::array<Row, 2> items{0, 1};
  const std::array<float, 2> weights{0.5f, 2.0f};
  scores.gather(lists, items, weights, {1.0f, 0.25f}, 0);
  // n_0 = 0, n_1 = n_2 = 1
  CHECK_NEAR(scores.of(2), (0.5 * 1 / 1 + 2 * 0.8 / std::sqrt(2.0)) / std::pow(2.0, 0.25), 1e-6);
  CHECK_NEAR(scores.of(0), 2 * 0.25 * 1 / std::sqrt(2.0), 1e-6);
  CHECK_NEAR(scores.of(1), 0.5 * 1 / std::pow(2.0, 0.25), 1e-6);
  CHECK(scores.of(3) == 0 && scores.size() == 3);
  std::size_t visited = 0;
  scores.for_each([&](Row row, float score) {
    CHECK(score == scores.of(row));
    ++visited;
  });
  CHECK(visited == 3);
  scores.gather(lists, std::array{Row{5}}, weights, {}, 0);
  CHECK(scores.size() == 0 && scores.of(2) == 0);
}

// Whole weights without decay: every event is in the sums.
void nothing_is_lost_among_writers() {
  constexpr Row kItems = 12;
  constexpr int kWriters = 3, kEvents = 4000;
  Cooccurrence lists(16, kNever);
  lists.reserve(kItems);
  std::vector<std::vector<std::uint32_t>> chosen(kWriters, std::vector<std::uint32_t>(kItems * kItems));
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      std::mt19937 random(static_cast<unsigned>(w));
      for (int e = 0; e < kEvents; ++e) {
        const Row item = below(kItems, random), last = below(kItems, random);
        lists.add(item, std::array{last}, 0);
        if (item != last) ++chosen[static_cast<std::size_t>(w)][last * kItems + item];
      }
    });
  }
  std::thread reader([&] {
    for (Row item = 0; !stop.load(std::memory_order_relaxed); item = (item + 1) % kItems) {
      for (const Neighbor& neighbor : neighbors(lists, item, 0)) {
        CHECK(neighbor.row < kItems && neighbor.row != item);
        CHECK(neighbor.after == std::floor(neighbor.after) && neighbor.before == std::floor(neighbor.before));
      }
    }
  });
  for (std::thread& thread : threads) thread.join();
  stop.store(true, std::memory_order_relaxed);
  reader.join();
  for (Row item = 0; item < kItems; ++item) {
    for (const Neighbor& neighbor : neighbors(lists, item, 0)) {
      std::uint32_t after = 0, before = 0;
      for (const auto& own : chosen) {
        after += own[item * kItems + neighbor.row];
        before += own[neighbor.row * kItems + item];
      }
      CHECK(neighbor.after == static_cast<float>(after) && neighbor.before == static_cast<float>(before));
    }
  }
}

// A neighbour r always comes with a multiple of .8^(r % 8): a count that went with another entry shows.
void evictions_never_show_another_ones_count() {
  Cooccurrence lists(8, kNever);
  lists.reserve(512);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::mt19937 random(5);
    for (int e = 0; e < 30000; ++e) {
      const Row row = 1 + below(500, random);
      std::array<Row, 8> last{};  // item 0 itself, which counts nothing, and then the neighbour
      last[row % 8] = row;
      lists.add(0, std::span(last).first(row % 8 + 1), 0);
    }
    stop.store(true, std::memory_order_relaxed);
  });
  while (!stop.load(std::memory_order_relaxed)) {
    for (const Neighbor& neighbor : neighbors(lists, 0, 0)) {
      const double times = neighbor.before / std::pow(0.8, neighbor.row % 8);
      CHECK(neighbor.after == 0 && times > 0.99);
      CHECK_NEAR(times, std::round(times), 1e-3);
    }
  }
  writer.join();
}

// A list that moves on from window to window is read as what it was before an event or after it.
void windows_move_under_readers() {
  constexpr int kEvents = 20000;
  constexpr double kStep = 16;  // half-lives between two events: each is 2^16 of the one before
  Cooccurrence lists(64, 1.0);
  lists.reserve(128);
  for (Row row = 1; row < 60; ++row) lists.add(0, std::array{row}, 0);
  std::atomic<int> begun{0}, done{0};
  std::thread writer([&] {
    for (int e = 1; e <= kEvents; ++e) {
      begun.store(e, std::memory_order_seq_cst);
      lists.add(0, std::array{Row{1}}, kStep * e);
      done.store(e, std::memory_order_seq_cst);
    }
  });
  for (int low = 0; low < kEvents;) {
    low = done.load(std::memory_order_seq_cst);
    std::array<Neighbor, 64> found;
    const std::uint32_t count = lists.neighbors(0, kStep * low, found.data());
    const int high = begun.load(std::memory_order_seq_cst);
    for (std::uint32_t k = 0; k < count; ++k) {
      if (found[k].row != 1) {
        const double ratio = found[k].before / std::exp2(-kStep * low);
        CHECK(ratio > 0 && ratio <= 1.001);
        // What is asked for a time long before the list's window is capped (at 1e30 times what is stored): it is less.
        if (high - low <= 4) CHECK_NEAR(ratio, 1.0, 1e-3);
        continue;
      }
      CHECK(found[k].before >= 0.99f && found[k].before <= 1.01 * std::exp2(kStep * (high - low)));
    }
  }
  writer.join();
}

// Users stay within a class of items, items come and go and take each other's slots: neighbours are of the same class.
void slots_change_hands_without_their_neighbors() {
  Settings settings;
  settings.dim = 4;
  settings.negatives = 1;
  settings.history = 3;
  settings.neighbors = 16;
  Engine engine(settings);
  const auto id = [](unsigned number) { return Id{IdKind::kInt, number, {}}; };
  const auto draw = [](std::mt19937& random, Row group) { return 1000 * group + below(60, random); };
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      while (!stop.load(std::memory_order_relaxed)) {
        const Row group = below(3, random);
        engine.learn_one(id(10 * group + t), id(draw(random, group)), 1, 1, kLatest);
      }
    });
  }
  threads.emplace_back([&] {
    std::mt19937 random(7);
    while (!stop.load(std::memory_order_relaxed)) {
      const Row item = draw(random, below(3, random));
      try {
        for (const std::int64_t other : engine.similar_by_behaviour(id(item), {}).ids.ints) {
          CHECK(other / 1000 == item / 1000 && other != item);
        }
      } catch (const UnknownId&) {  // it is gone just now
      }
    }
  });
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    IdArray gone;
    gone.kind = IdKind::kInt;
    gone.ints.push_back(draw(random, below(3, random)));
    try {
      engine.remove_items(gone.span());
    } catch (const UnknownId&) {  // it has not come back yet
    }
  }
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace recengine

int main() {
  using namespace recengine;
  streams_match_the_reference();
  a_newcomer_takes_the_least_and_starts_from_its_own();
  any_timestamp_does();
  stored_lists_go_on_as_they_were();
  scores_add_up();
  nothing_is_lost_among_writers();
  evictions_never_show_another_ones_count();
  windows_move_under_readers();
  slots_change_hands_without_their_neighbors();
}
