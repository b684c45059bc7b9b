// LaggingCodes against the scan of every row: the same rows, the same scores to the bit, while rows are learned and
// replaced, come and go between queries; and beside a learner.
#include "retrieval/lagging_codes.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "made_table.hpp"
#include "retrieval/flat.hpp"

namespace recengine {
namespace {

class Fixture : public MadeTable {
 public:
  Fixture(std::size_t dim, Shape shape, unsigned seed, Storage storage = Storage::kFp32)
      : MadeTable(dim, shape, seed, storage), codes(domain, items) {}

  // A step towards or away from another row, as a learner takes it.
  void step(Row row, float size, const AlignedFloats& direction) {
    const auto pin = domain.pin_writer();
    if (!items.is_live(row)) return;
    const std::size_t n = items.stride();
    AlignedFloats before(n), after(n);
    items.rows.load(row, before.data());
    for (std::size_t d = 0; d < n; ++d) after[d] = before[d] + size * direction[d];
    items.rows.store(row, after.data());
    items.rows.load(row, after.data());  // halves were rounded
    items.rows.add_scaled(before.data(), row, -1);
    const float bias = load_relaxed(&items.bias[row]);
    const float moved_bias = bias + (with_biases ? size : 0.0f);
    store_relaxed(&items.bias[row], moved_bias);
    order_stores();
    const float moved = Movement::norm(active_kernels().square_norm(before.data(), n), n);
    if (items.movement.tracked()) {
      items.movement.add(row, moved + items.movement.bias_weight() * std::abs(moved_bias - bias));
    }
  }
  void steps(int count, float size) {
    for (int i = 0; i < count; ++i) {
      const auto row = static_cast<Row>(random() % items.count());
      step(row, size * normal(random), draw());
    }
  }

  SearchReport check(std::size_t k, const Selection& selection = {}) {
    const auto pin = domain.pin_reader();
    const AlignedFloats query = draw();
    TopK<float> exact(k), found(k);
    scan_flat(items, query.data(), selection, exact);
    const SearchReport report = codes.scan(query.data(), selection, found);
    check_same(exact, found);
    return report;
  }
  // Until all rows have a code.
  void settle() {
    for (int query = 0; query < 100 && check(10).screened < items.count() / 64 * 64; ++query) {
    }
    CHECK(check(10).screened == items.count() / 64 * 64);
  }

  LaggingCodes codes;
};

void equals_the_scan() {
  unsigned seed = 0;
  for (const Shape shape : kShapes) {
    for (const std::size_t dim : {7u, 16u, 64u, 130u}) {
      for (const std::int64_t count : {1, 63, 64, 1000, 3000}) {
        if (check::kSanitized && (dim != 64 || count == 3000)) continue;
        ++seed;
        Fixture table(dim, shape, seed, seed % 4 < 2 ? Storage::kFp32 : Storage::kFp16);
        table.with_biases = seed % 2 == 0;
        table.fill(count);
        table.settle();
        for (const float size : {1e-6f, 0.01f, 1.0f}) {
          for (int query = 0; query < 10; ++query) {
            table.steps(30, size);
            table.check(static_cast<std::size_t>(query) * 7);
          }
        }
        const std::vector<Row> excluded = {0, 5, 9};
        table.check(10, {nullptr, excluded, nullptr});
      }
    }
  }
}

// Rows that are learned, set anew, removed and given to other items, while codes are begun and ended.
void stays_exact_through_change() {
  for (const Shape shape : {Shape::kGaussian, Shape::kSkewed, Shape::kClustered}) {
    Fixture table(24, shape, 77, shape == Shape::kSkewed ? Storage::kFp16 : Storage::kFp32);
    table.fill(4000);
    std::int64_t next = 4000;
    for (int round = 0; round < (check::kSanitized ? 20 : 80); ++round) {
      for (int change = 0; change < 60; ++change) {
        const auto id = static_cast<std::int64_t>(table.random() % static_cast<unsigned>(next));
        switch (table.random() % 8) {
          case 0:
            table.remove(id);
            break;
          case 1:
            table.write(next++);
            break;
          case 2:
            table.write(id);
            break;
          default:
            table.steps(3, 0.05f);
        }
      }
      table.check(20);
      table.check(1);
      if (round % 16 == 8) table.codes.end();
    }
    CHECK(table.codes.begun());
  }
}

// What it is for: rows that move a little need not be looked at, however many they are.
void follows_few_rows() {
  if (check::kSanitized) return;  // it counts what is scored
  Fixture table(64, Shape::kGaussian, 3);
  table.fill(8192);
  table.settle();
  std::size_t scored = 0;
  for (int query = 0; query < 50; ++query) {
    table.steps(2000, 0.01f);
    const SearchReport report = table.check(10);
    CHECK(report.screened == 8192);
    scored += report.scored;
  }
  CHECK(scored / 50 < 800);
}

// Rows that were replaced are coded again, few or many; one of a very negative bias, which hides it, changes nothing.
void codes_replaced_rows_again() {
  if (check::kSanitized) return;  // it counts what is scored
  Fixture table(64, Shape::kGaussian, 4);
  table.with_biases = false;
  table.fill(8192);
  table.settle();
  for (const std::int64_t replaced : {1, 700, 8192}) {
    for (std::int64_t id = 0; id < replaced; ++id) table.write(id, table.draw(), id == 0 ? -1e9f : 0.0f);
    std::size_t scored = 0;
    for (int query = 0; query < 60; ++query) scored = table.check(10).scored;
    CHECK(scored < 800);
  }
}

// Queries much longer or shorter than the first one, while biases move: after some of them rows that move a little need
// not be looked at again.
void fits_the_length_of_queries() {
  Fixture table(64, Shape::kGaussian, 5);
  table.fill(check::kSanitized ? 500 : 8192);
  const auto ask = [&table](float length) {
    const auto pin = table.domain.pin_reader();
    AlignedFloats query = table.draw();
    for (float& value : query) value *= length;
    TopK<float> exact(10), found(10);
    scan_flat(table.items, query.data(), {}, exact);
    const SearchReport report = table.codes.scan(query.data(), {}, found);
    Fixture::check_same(exact, found);
    return report.scored;
  };
  for (const float length : {1e-5f, 1.0f, 1e2f}) {
    for (int query = 0; query < 150; ++query) {
      table.steps(5, 0.01f);
      ask(length);
    }
    table.steps(check::kSanitized ? 100 : 4000, 0.001f);
    const std::size_t scored = ask(length);
    if (!check::kSanitized && length >= 1) CHECK(scored < 1500);  // shorter ones score nothing but biases
  }
}

// A learner, who finds what it has raised to the top at once, beside others who only ask, one who replaces rows, and
// one who begins and ends. Afterwards every answer is exact.
void stress(Storage storage, int rounds) {
  Fixture table(16, Shape::kSkewed, 6, storage);
  table.fill(5000);
  const AlignedFloats up = [] {
    AlignedFloats row(16, 0.0f);
    row[3] = 1;
    return row;
  }();
  std::atomic<bool> stop{false};
  std::thread learner([&] {
    std::mt19937 random(1);
    for (int round = 0; round < rounds; ++round) {
      const auto row = static_cast<Row>(random() % 4000);
      table.step(row, 1e4f, up);
      {
        const auto pin = table.domain.pin_reader();
        TopK<float> top(3);
        AlignedFloats query(16, 0.0f);
        query[3] = 1;
        table.codes.scan(query.data(), {}, top);
        bool found = false;
        for (const auto& [score, found_row] : top.take_sorted()) found |= found_row == row;
        CHECK(found);
      }
      table.step(row, -1e4f, up);
      for (int other = 0; other < 50; ++other) table.step(static_cast<Row>(random() % 4000), 1e-3f, up);
    }
  });
  std::thread replacer([&] {
    std::mt19937 random(2);
    AlignedFloats row(16, 0.0f);
    while (!stop.load()) {
      row[random() % 16] = static_cast<float>(random() % 100) * 0.01f;
      table.write(static_cast<std::int64_t>(4000 + random() % 1000), row, 0.0f);
      if (random() % 1000 == 0) table.codes.end();
    }
  });
  const auto ask = [&](unsigned seed) {
    std::mt19937 random(seed);
    while (!stop.load()) {
      AlignedFloats query(16, 0.0f);
      for (float& value : query) value = static_cast<float>(random() % 100) - 50;
      const auto pin = table.domain.pin_reader();
      TopK<float> top(20);
      table.codes.scan(query.data(), {}, top);
      auto best = top.take_sorted();
      std::sort(best.begin(), best.end(), [](const auto& one, const auto& other) { return one.row < other.row; });
      for (std::size_t i = 1; i < best.size(); ++i) CHECK(best[i - 1].row != best[i].row);
      CHECK(best.size() == 20);
    }
  };
  std::thread one(ask, 99u), other(ask, 100u);
  learner.join();
  stop.store(true);
  replacer.join();
  one.join();
  other.join();
  for (int query = 0; query < 50; ++query) table.check(10);
}

}  // namespace
}  // namespace recengine

int main() {
  using namespace recengine;
  equals_the_scan();
  stays_exact_through_change();
  follows_few_rows();
  codes_replaced_rows_again();
  fits_the_length_of_queries();
  stress(Storage::kFp32, check::kSanitized ? 200 : 1000);
  stress(Storage::kFp16, check::kSanitized ? 100 : 300);
  std::printf("ok\n");
}
