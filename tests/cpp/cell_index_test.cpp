// CellIndex against the scan of every row, of floats or of halves: the same rows, the same scores to the bit, on tables
// of many shapes, through drift, insertion, removal and upkeep; and beside learners.
#include "retrieval/cell_index.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#include "check.hpp"
#include "made_table.hpp"
#include "retrieval/centres.hpp"
#include "retrieval/flat.hpp"

namespace recengine {
namespace {

class Fixture : public MadeTable {
 public:
  Fixture(std::size_t dim, Shape shape, unsigned seed, Storage storage = Storage::kFp32)
      : MadeTable(dim, shape, seed, storage), index(domain, items) {}

  void maintain() {
    std::atomic<bool> stop{false};
    for (int step = 0; step < 100 && index.maintain(2, stop); ++step) {
    }
  }

  SearchReport check(std::size_t k, const Selection& selection = {}) {
    const auto pin = domain.pin_reader();
    const AlignedFloats query = draw_query();
    TopK<float> exact(k), found(k);
    scan_flat(items, query.data(), selection, exact);
    const SearchReport report = index.search(query.data(), selection, CellIndex::kAllCells, found);
    CHECK(report.certified);
    check_same(exact, found);
    return report;
  }

  // Many queries at once, against one after the other.
  void check_many(std::size_t count, std::size_t k, const Selection& selection = {}) {
    const auto pin = domain.pin_reader();
    AlignedFloats queries(count * items.stride());
    for (std::size_t q = 0; q < count; ++q) {
      const AlignedFloats query = draw_query();
      std::copy(query.begin(), query.end(), queries.begin() + static_cast<std::ptrdiff_t>(q * items.stride()));
    }
    const std::vector<Selection> selections(count, selection);
    std::vector<TopK<float>> found(count, TopK<float>(k));
    index.search_many(queries.data(), selections, found.data());
    for (std::size_t q = 0; q < count; ++q) {
      TopK<float> exact(k);
      scan_flat(items, queries.data() + q * items.stride(), selection, exact);
      check_same(exact, found[q]);
    }
  }

  CellIndex index;
};

void equals_the_scan() {
  unsigned seed = 0;
  for (const Shape shape : kShapes) {
    for (const std::size_t dim : {1u, 7u, 16u, 64u, 130u}) {
      for (const std::int64_t count : {1, 5, 17, 300, 4500}) {
        if (count == 4500 && dim != 16 && dim != 64) continue;
        if (check::kSanitized && (dim != 64 || (count == 4500 && shape != Shape::kClustered))) continue;
        ++seed;
        Fixture table(dim, shape, seed, seed % 4 < 2 ? Storage::kFp32 : Storage::kFp16);
        table.with_biases = seed % 2 == 0;
        table.fill(count);
        for (const std::size_t k : {std::size_t{0}, std::size_t{1}, std::size_t{10}, std::size_t{400}}) table.check(k);
        table.maintain();
        CHECK((count >= 4096) == (table.index.num_clusters() > 0));
        for (int query = 0; query < 10; ++query) table.check(10);
        table.check(1);
        table.check(8000);
        for (const std::size_t together : {0u, 1u, 5u, 16u}) table.check_many(together, 10);
      }
    }
  }
}

void equals_the_scan_of_large_tables() {
  for (const auto& [shape, dim, count] : {std::tuple{Shape::kSkewed, 8u, 200'000}, {Shape::kClustered, 512u, 6'000}}) {
    Fixture table(dim, shape, 3);
    table.fill(count);
    table.check(10);
    table.maintain();
    for (int query = 0; query < 20; ++query) table.check(10);
    table.check_many(16, 10);
  }
}

void stays_exact_through_change() {
  for (const Shape shape : {Shape::kGaussian, Shape::kSkewed, Shape::kClustered}) {
    Fixture table(24, shape, 77, shape == Shape::kSkewed ? Storage::kFp16 : Storage::kFp32);
    table.fill(5000);
    table.maintain();
    std::mt19937 random(5);
    std::int64_t next = 5000;
    for (int round = 0; round < (check::kSanitized ? 8 : 15); ++round) {
      for (int change = 0; change < 200; ++change) {
        const auto id = static_cast<std::int64_t>(random() % static_cast<unsigned>(next));
        switch (random() % 4) {
          case 0:
            table.remove(id);
            break;
          case 1:
            table.write(next++);
            break;
          default:
            table.write(id);  // moved somewhere else altogether, or back again
        }
      }
      for (int query = 0; query < 5; ++query) table.check(20);
      table.check_many(16, 20);
      if (round % 7 == 6) table.maintain();
    }
  }
}

// Removals and clusters of very uneven size: what is emptied is merged, what is crowded is split, and nothing is lost.
void splits_and_merges() {
  constexpr std::int64_t kFirst = check::kSanitized ? 6000 : 12000, kMore = check::kSanitized ? 6000 : 20000;
  Fixture table(16, Shape::kClustered, 9);
  table.fill(kFirst);
  table.maintain();
  for (std::int64_t id = 0; id < kFirst; ++id) {
    if (id % 16 != 0) table.remove(id);
  }
  table.maintain();
  for (int query = 0; query < 10; ++query) table.check(10);
  for (std::int64_t id = kFirst; id < kFirst + kMore; ++id) table.write(id);
  for (int query = 0; query < 3; ++query) table.check(10);
  table.maintain();
  for (int query = 0; query < 10; ++query) table.check(10);
  CHECK(table.index.num_clusters() > (check::kSanitized ? 20 : 60));
}

void visits_few_clusters_where_it_can() {
  Fixture table(64, Shape::kClustered, 3);
  table.with_biases = false;
  if (check::kSanitized) return;  // it counts what is visited
  table.fill(12000);
  table.maintain();
  table.write(7, table.draw(), -1e9f);  // hidden by its bias: that spoils nothing for the others
  for (int query = 0; query < 20; ++query) {
    const SearchReport report = table.check(10);
    CHECK(report.visited < report.cells / 2);
    CHECK(report.screened < 6000);
    CHECK(report.scored < 2000);
  }
}

void says_what_it_left_out() {
  Fixture table(32, Shape::kEqualNorms, 4);
  table.fill(10000);
  table.maintain();
  const auto pin = table.domain.pin_reader();
  std::size_t uncertified = 0;
  for (int query = 0; query < 50; ++query) {
    const AlignedFloats x = table.draw();
    TopK<float> few(10), all(10);
    const SearchReport report = table.index.search(x.data(), {}, 2, few);
    CHECK(report.visited <= 2);
    table.index.search(x.data(), {}, CellIndex::kAllCells, all);
    const auto capped = few.take_sorted(), exact = all.take_sorted();
    CHECK(capped.size() == 10);
    const bool same = std::equal(capped.begin(), capped.end(), exact.begin(),
                                 [](const auto& a, const auto& b) { return a.row == b.row && a.score == b.score; });
    CHECK(same || !report.certified);
    uncertified += report.certified ? 0 : 1;
  }
  CHECK(uncertified > 0);
}

// Writers, queries and upkeep at once. Each thread that has written a row finds it at once where it now is the best;
// when all have stopped, every answer is exact.
void stress(Storage storage, int rounds) {
  Fixture table(16, Shape::kSkewed, 6, storage);
  table.fill(6000);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      std::mt19937 random(writer);
      std::normal_distribution<float> normal;
      AlignedFloats row(16), query(16);
      for (int round = 0; round < rounds; ++round) {
        for (float& value : row) value = normal(random);
        const auto id = static_cast<std::int64_t>(random() % 5000 * 2 + writer);
        const float bias = 1e6f + static_cast<float>(round);
        table.write(id, row, bias);
        {
          const auto pin = table.domain.pin_reader();
          TopK<float> top(8);  // the other writer's may be better, and change during the scan
          for (float& value : query) value = normal(random);
          table.index.search(query.data(), {}, CellIndex::kAllCells, top);
          bool found = false;
          const Row mine = table.items.ids.find(id);
          for (const auto& [score, found_row] : top.take_sorted()) found |= found_row == mine;
          CHECK(found);
        }
        table.write(id, row, 0.0f);
        // Rows that both write: what is left is a mix that neither measured.
        for (std::int64_t shared = 20'000; shared < 20'016; ++shared) {
          for (float& value : row) value = 100 * normal(random);
          table.write(shared, row, 0.0f);
        }
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop.load()) table.index.maintain(1, stop);
  });
  threads.emplace_back([&] {
    std::mt19937 random(99);
    while (!stop.load()) {
      AlignedFloats query(16, 0.0f);
      for (float& value : query) value = static_cast<float>(random() % 100) - 50;
      const auto pin = table.domain.pin_reader();
      TopK<float> top(20);
      if (random() % 2 == 0) {
        table.index.search(query.data(), {}, CellIndex::kAllCells, top);
      } else {
        table.index.search_many(query.data(), std::vector<Selection>(1), &top);
      }
      auto best = top.take_sorted();
      std::sort(best.begin(), best.end(), [](const auto& a, const auto& b) { return a.row < b.row; });
      for (std::size_t i = 1; i < best.size(); ++i) CHECK(best[i - 1].row != best[i].row);
      CHECK(best.size() == 20);
    }
  });
  threads[0].join();
  threads[1].join();
  stop.store(true);
  threads[2].join();
  threads[3].join();
  for (int query = 0; query < 50; ++query) table.check(10);
  table.maintain();
  for (int query = 0; query < 50; ++query) table.check(10);
  table.check_many(16, 10);
}

// Against the definition, in doubles; of equally near centres any will do, but for rounding.
void finds_the_nearest_centre() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const std::size_t count : {1u, 2u, 15u, 16u, 17u, 32u, 33u, 300u}) {
    constexpr std::size_t kStride = 16, kVectors = 75;
    Centres centres{kStride, {}, {}};
    AlignedFloats vectors(kVectors * kStride), centre(kStride);
    for (float& value : vectors) value = normal(random);
    for (std::size_t j = 0; j < count; ++j) {
      for (float& value : centre) value = normal(random);
      centres.push(centre.data());
    }
    const auto square_distance = [&](std::size_t v, std::size_t j) {
      double sum = 0;
      for (std::size_t d = 0; d < kStride; ++d) {
        const double gap = double{vectors[v * kStride + d]} - double{centres.row(j)[d]};
        sum += gap * gap;
      }
      return sum;
    };
    std::vector<std::uint32_t> nearest(kVectors);
    nearest_centres(centres, vectors.data(), kVectors, nearest.data());
    for (std::size_t v = 0; v < kVectors; ++v) {
      CHECK(nearest[v] < count);
      for (std::size_t j = 0; j < count; ++j) CHECK(square_distance(v, nearest[v]) <= square_distance(v, j) + 1e-4);
    }
  }
}

}  // namespace
}  // namespace recengine

int main() {
  using namespace recengine;
  finds_the_nearest_centre();
  equals_the_scan();
  if (!check::kSanitized) equals_the_scan_of_large_tables();
  stays_exact_through_change();
  splits_and_merges();
  visits_few_clusters_where_it_can();
  says_what_it_left_out();
  stress(Storage::kFp32, check::kSanitized ? 200 : 600);
  stress(Storage::kFp16, check::kSanitized ? 100 : 200);
  std::printf("ok\n");
}
