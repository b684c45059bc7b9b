// The graph against a scan of all rows: recall on friendly and on skewed data, what removal, drift and duplicates leave
// behind, filters, and everything at once in threads.
#include "retrieval/graph.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "retrieval/flat.hpp"
#include "storage/random.hpp"

namespace recengine {
namespace {

constexpr std::size_t kMany = check::kSanitized ? 400 : 4000;  // items of a test
constexpr std::size_t kDim = 16;
constexpr std::size_t kTop = 10;

float gaussian(Random& random) {
  return std::sqrt(-2 * std::log(random.uniform() + 1e-7f)) * std::cos(6.2831853f * random.uniform());
}

std::vector<float> gaussians(Random& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = gaussian(random);
  return values;
}

// Rows of equal length: the inner product orders them as the distance does.
std::vector<float> unit_rows(Random& random, std::size_t count) {
  std::vector<float> rows = gaussians(random, count * kDim);
  for (std::size_t i = 0; i < count; ++i) {
    float* const row = rows.data() + i * kDim;
    const float length = std::sqrt(std::inner_product(row, row + kDim, row, 0.0f));
    for (std::size_t d = 0; d < kDim; ++d) row[d] /= length;
  }
  return rows;
}

// As a factorisation leaves them: few directions that matter, lengths that span a factor of a hundred.
std::vector<float> skewed_rows(Random& random, std::size_t count) {
  constexpr std::size_t kRank = 8;
  const std::vector<float> basis = gaussians(random, kRank * kDim);
  std::vector<float> rows(count * kDim);
  for (std::size_t i = 0; i < count; ++i) {
    const float length = std::exp(gaussian(random));
    for (std::size_t r = 0; r < kRank; ++r) {
      const float weight = length * (std::abs(gaussian(random)) + 0.2f * gaussian(random));
      for (std::size_t d = 0; d < kDim; ++d) rows[i * kDim + d] += weight * basis[r * kDim + d];
    }
    for (std::size_t d = 0; d < kDim; ++d) rows[i * kDim + d] += 0.1f * length * gaussian(random);
  }
  return rows;
}

struct Items {
  EpochDomain domain;
  EmbeddingTable table{domain, kDim, {0, 0}};

  void store(Row row, const float* vector, float bias = 0) {
    AlignedFloats padded(table.stride(), 0.0f);
    std::copy_n(vector, kDim, padded.begin());
    table.rows.store(row, padded.data());
    store_relaxed(&table.bias[row], bias);
  }
  Row add(std::int64_t id, const float* vector, float bias = 0) {
    const Row row = table.find_or_insert(id);
    store(row, vector, bias);
    return row;
  }
  void add_all(const std::vector<float>& vectors) {
    for (std::size_t i = 0; i < vectors.size() / kDim; ++i) add(static_cast<std::int64_t>(i), &vectors[i * kDim]);
  }
};

std::vector<Row> rows_of(TopK<float>& top) {
  std::vector<Row> rows;
  for (const Scored<float>& found : top.take_sorted()) rows.push_back(found.row);
  return rows;
}

std::vector<Row> search(const Graph& graph, const float* query, std::size_t ef, std::size_t k,
                        const Selection& selection = {}) {
  TopK<float> top(k);
  graph.search(query, ef, selection, top);
  return rows_of(top);
}

std::vector<Row> exact(const EmbeddingTable& table, const float* query, std::size_t k,
                       const Selection& selection = {}) {
  TopK<float> top(k);
  scan_flat(table, query, selection, top);
  return rows_of(top);
}

double recall(const EmbeddingTable& table, const Graph& graph, const std::vector<float>& queries, std::size_t ef) {
  std::size_t found = 0;
  std::size_t all = 0;
  AlignedFloats query(table.stride(), 0.0f);
  for (std::size_t q = 0; q < queries.size() / kDim; ++q) {
    std::copy_n(&queries[q * kDim], kDim, query.begin());
    const std::vector<Row> truth = exact(table, query.data(), kTop);
    const std::vector<Row> rows = search(graph, query.data(), ef, kTop);
    for (const Row row : rows) found += std::count(truth.begin(), truth.end(), row) != 0 ? 1u : 0u;
    all += truth.size();
  }
  return static_cast<double>(found) / static_cast<double>(all);
}

void check_sound(const GraphAudit& audit, std::size_t linked) {
  CHECK(audit.linked == linked);
  CHECK(audit.missing == 0);
  CHECK(audit.unreachable == 0);
  CHECK(audit.invalid == 0);
}

void relink_until_done(Graph& graph, std::size_t rows) {
  for (int round = 0; round < 10; ++round) {
    std::size_t changed = 0;
    for (std::size_t looked = 0; looked < rows; looked += 100) changed += graph.relink_drifted(100);
    if (changed == 0) return;
  }
  CHECK(false);
}

double recall_of_fresh_build(const EmbeddingTable& table, const std::vector<float>& queries, std::size_t ef) {
  Graph fresh(table, {});
  fresh.build(1);
  return recall(table, fresh, queries, ef);
}

void links_change_in_place() {
  std::array<LinkList::Place, 4> places{};
  const LinkList list(places.data(), places.size());
  const auto links = [&] {
    std::vector<Row> rows;
    list.for_each([&](Row row) { rows.push_back(row); });
    return rows;
  };
  CHECK(links().empty());
  CHECK(list.append(0) && list.append(7) && list.append(9) && list.append(2));
  CHECK(!list.append(3));
  CHECK(list.contains(0) && list.contains(2) && !list.contains(3));
  list.erase(7);
  CHECK(links() == std::vector<Row>{0, 2, 9});
  list.erase(9);
  list.erase(9);
  CHECK(links() == std::vector<Row>{0, 2});
  const std::vector<Row> fresh{5};
  list.assign(fresh);
  CHECK(links() == fresh);
  list.erase(5);
  CHECK(links().empty());
}

void options_are_checked() {
  const Items items;
  for (const std::size_t m : {std::size_t{0}, std::size_t{1}, Graph::kMaxM + 1}) {
    CHECK_THROWS(std::invalid_argument, Graph(items.table, {.m = m}));
  }
  for (const std::size_t ef : {std::size_t{0}, Graph::kMaxEf + 1}) {
    CHECK_THROWS(std::invalid_argument, Graph(items.table, {.ef_construction = ef}));
  }
}

void few_items() {
  Items items;
  Graph graph(items.table, {});
  const AlignedFloats query(items.table.stride(), 1.0f);
  graph.build(2);
  CHECK(search(graph, query.data(), 10, 10).empty());
  check_sound(graph.audit(), 0);
  graph.remove(0);
  CHECK(!graph.update(0));
  const std::vector<float> vector(kDim, 1.0f);
  const Row row = items.add(0, vector.data());
  graph.insert(row);
  CHECK(search(graph, query.data(), 10, 10) == std::vector<Row>{row});
  check_sound(graph.audit(), 1);
  graph.insert(row);
  CHECK(graph.size() == 1);
  items.table.erase(std::int64_t{0});
  graph.remove(row);
  graph.remove(row);
  CHECK(graph.size() == 0);
  CHECK(search(graph, query.data(), 10, 10).empty());
  items.table.recycle({row});
  const Row again = items.add(1, vector.data(), 0.5f);
  CHECK(again == row);
  graph.insert(again);
  CHECK(search(graph, query.data(), 1, 1) == std::vector<Row>{row});
  check_sound(graph.audit(), 1);
}

void finds_the_nearest() {
  Random random(1, 0);
  Items items;
  items.add_all(unit_rows(random, kMany));
  const std::vector<float> queries = unit_rows(random, 100);
  Graph graph(items.table, {});
  graph.build(1);
  check_sound(graph.audit(), kMany);
  CHECK(recall(items.table, graph, queries, 100) > 0.95);
  CHECK(recall(items.table, graph, queries, 400) > 0.995);
  CHECK(recall(items.table, graph, queries, kMany) == 1.0);
}

// Links by the inner product itself reach .6 to .8 here, whatever ef is.
void lengths_do_not_break_it() {
  Random random(2, 0);
  Items items;
  items.add_all(skewed_rows(random, kMany));
  const std::vector<float> queries = gaussians(random, 100 * kDim);
  Graph graph(items.table, {});
  graph.build(1);
  check_sound(graph.audit(), kMany);
  CHECK(recall(items.table, graph, queries, 400) > 0.9);
}

void biases_count() {
  Random random(3, 0);
  Items items;
  const std::vector<float> vectors = unit_rows(random, kMany);
  for (std::size_t i = 0; i < kMany; ++i) {
    items.add(static_cast<std::int64_t>(i), &vectors[i * kDim], 0.3f * gaussian(random));
  }
  Graph graph(items.table, {});
  graph.build(1);
  CHECK(recall(items.table, graph, unit_rows(random, 100), 200) > 0.95);
}

void builds_are_reproducible() {
  Random random(4, 0);
  Items items;
  items.add_all(skewed_rows(random, 1000));
  Graph first(items.table, {.m = 4, .ef_construction = 10, .seed = 5});
  Graph second(items.table, {.m = 4, .ef_construction = 10, .seed = 5});
  first.build(1);
  second.build(1);
  CHECK(first.memory_bytes() == second.memory_bytes());
  AlignedFloats query(items.table.stride(), 0.0f);
  for (int q = 0; q < 50; ++q) {
    for (std::size_t d = 0; d < kDim; ++d) query[d] = gaussian(random);
    CHECK(search(first, query.data(), 5, 5) == search(second, query.data(), 5, 5));
  }
}

void threads_build_it_too() {
  Random random(5, 0);
  Items items;
  items.add_all(unit_rows(random, kMany));
  const std::vector<float> queries = unit_rows(random, 100);
  Graph graph(items.table, {});
  graph.build(3);
  graph.audit();
  check_sound(graph.audit(), kMany);
  CHECK(recall(items.table, graph, queries, 100) > recall_of_fresh_build(items.table, queries, 100) - 0.01);
}

// Equal rows make each other redundant; all stay reachable, and a search wide enough finds every one.
void duplicates_stay_reachable() {
  Random random(6, 0);
  Items items;
  std::vector<float> vectors = unit_rows(random, kMany);
  for (std::size_t i = kMany / 4; i < kMany / 2; ++i) std::copy_n(&vectors[0], kDim, &vectors[i * kDim]);
  for (std::size_t i = kMany / 2; i < kMany * 3 / 4; ++i) std::fill_n(&vectors[i * kDim], kDim, 0.0f);
  items.add_all(vectors);
  Graph graph(items.table, {});
  graph.build(1);
  graph.audit();
  check_sound(graph.audit(), kMany);
  AlignedFloats query(items.table.stride(), 0.0f);
  std::copy_n(&vectors[0], kDim, query.begin());
  CHECK(search(graph, query.data(), kMany, kMany) == exact(items.table, query.data(), kMany));
  CHECK(search(graph, query.data(), kMany, kMany / 4 + 1) == exact(items.table, query.data(), kMany / 4 + 1));
}

void zero_rows_only() {
  Items items;
  items.add_all(std::vector<float>(300 * kDim, 0.0f));
  Graph graph(items.table, {});
  graph.build(1);
  graph.audit();
  check_sound(graph.audit(), 300);
  const AlignedFloats query(items.table.stride(), 1.0f);
  CHECK(search(graph, query.data(), 300, 300).size() == 300);
}

void filters_find_what_matches() {
  Random random(7, 0);
  Items items;
  items.add_all(skewed_rows(random, kMany));
  Graph graph(items.table, {});
  graph.build(1);
  graph.audit();
  check_sound(graph.audit(), kMany);
  AlignedFloats query(items.table.stride(), 0.0f);
  for (const std::size_t admitted : {std::size_t{0}, std::size_t{1}, std::size_t{7}, kMany / 2}) {
    std::vector<Row> excluded(kMany);
    std::iota(excluded.begin(), excluded.end(), Row{0});
    for (std::size_t i = 0; i < admitted; ++i) {
      excluded.erase(excluded.begin() + random.below(static_cast<std::uint32_t>(excluded.size())));
    }
    const Selection selection{nullptr, excluded};
    for (std::size_t d = 0; d < kDim; ++d) query[d] = gaussian(random);
    const std::vector<Row> rows = search(graph, query.data(), 100, 10, selection);
    CHECK(rows.size() == std::min<std::size_t>(10, admitted));
    if (admitted <= 100) CHECK(rows == exact(items.table, query.data(), 10, selection));
    for (const Row row : rows) CHECK(selection.admits(row));
  }
}

void removal_leaves_nobody_behind() {
  Random random(8, 0);
  Items items;
  const std::vector<float> vectors = skewed_rows(random, kMany);
  items.add_all(vectors);
  const std::vector<float> queries = gaussians(random, 400 * kDim);
  Graph graph(items.table, {});
  graph.build(1);
  std::vector<Row> removed;
  for (std::int64_t id = 0; id < static_cast<std::int64_t>(kMany); ++id) {
    if (random.uniform() < 0.7f) continue;
    const Row row = items.table.erase(id);
    graph.remove(row);
    removed.push_back(row);
  }
  const std::size_t left = kMany - removed.size();
  check_sound(graph.audit(), left);
  const double fresh = recall_of_fresh_build(items.table, queries, 100);
  CHECK(recall(items.table, graph, queries, 100) > fresh - 0.01);
  relink_until_done(graph, kMany);
  const GraphAudit swept = graph.audit();
  check_sound(swept, left);
  CHECK(swept.stale == 0);
  CHECK(recall(items.table, graph, queries, 100) > fresh - 0.01);

  // New owners of the slots.
  for (const Row row : removed) items.table.recycle({row});
  for (std::size_t i = 0; i < removed.size(); ++i) {
    const Row row = items.add(static_cast<std::int64_t>(kMany + i), &vectors[(i * 7 % kMany) * kDim]);
    CHECK(row == removed[i]);
    graph.insert(row);
  }
  graph.audit();
  check_sound(graph.audit(), kMany);
  CHECK(recall(items.table, graph, queries, 100) > recall_of_fresh_build(items.table, queries, 100) - 0.01);
}

// All is removed, entry and seeds included, then half comes back.
void removal_of_everything() {
  Random random(9, 0);
  Items items;
  items.add_all(unit_rows(random, 500));
  Graph graph(items.table, {});
  graph.build(1);
  for (Row row = 0; row < 500; ++row) graph.remove(row);
  CHECK(graph.size() == 0);
  const AlignedFloats query(items.table.stride(), 1.0f);
  CHECK(search(graph, query.data(), 500, 500).empty());
  for (Row row = 0; row < 500; row += 2) graph.insert(row);
  for (Row row = 1; row < 500; row += 2) items.table.erase(std::int64_t{row});
  graph.audit();
  check_sound(graph.audit(), 250);
  CHECK(search(graph, query.data(), 500, 500) == exact(items.table, query.data(), 500));
}

void drift_is_followed() {
  Random random(10, 0);
  Items items;
  std::vector<float> vectors = skewed_rows(random, kMany);
  items.add_all(vectors);
  const std::vector<float> queries = gaussians(random, 400 * kDim);
  Graph graph(items.table, {});
  graph.build(1);
  CHECK(graph.relink_drifted(kMany) == 0);
  const std::vector<float> steps = skewed_rows(random, kMany);
  for (std::size_t i = 0; i < kMany; ++i) {
    const float* const step = &steps[i * kDim];
    float* const row = &vectors[i * kDim];
    const float scale =
        std::sqrt(std::inner_product(row, row + kDim, row, 0.0f) / std::inner_product(step, step + kDim, step, 0.0f));
    for (std::size_t d = 0; d < kDim; ++d) row[d] += scale * step[d] * (i % 2 == 0 ? 1.0f : -1.0f);
    items.store(static_cast<Row>(i), row);
  }
  const double fresh = recall_of_fresh_build(items.table, queries, 100);
  CHECK(recall(items.table, graph, queries, 100) < fresh - 0.01);  // or the test would show nothing
  relink_until_done(graph, kMany);
  check_sound(graph.audit(), kMany);
  CHECK(recall(items.table, graph, queries, 100) > fresh - 0.01);
}

void small_moves_are_left_alone() {
  Random random(11, 0);
  Items items;
  std::vector<float> vectors = unit_rows(random, 200);
  items.add_all(vectors);
  Graph graph(items.table, {});
  graph.build(1);
  for (float& value : vectors) value *= 1.01f;
  for (Row row = 0; row < 200; ++row) items.store(row, &vectors[row * kDim]);
  for (Row row = 0; row < 200; ++row) CHECK(!graph.update(row));
  for (float& value : vectors) value *= -1.0f;
  for (Row row = 0; row < 200; ++row) items.store(row, &vectors[row * kDim]);
  for (Row row = 0; row < 200; ++row) CHECK(graph.update(row));
}

// Everything at once; what is returned is always a live item that the selection admits, and the audit finds a sound
// graph when it is over.
void stress() {
  constexpr std::int64_t kItems = 600;
  constexpr int kRounds = 400;
  Items items;
  Random random(12, 0);
  const std::vector<float> vectors = skewed_rows(random, kItems);
  for (std::int64_t id = 0; id < kItems / 2; ++id) items.add(id, &vectors[static_cast<std::size_t>(id) * kDim]);
  Graph graph(items.table, {.m = 4, .ef_construction = 16});
  graph.build(1);
  std::atomic<bool> done{false};
  std::atomic<std::size_t> answers{0};
  std::vector<std::thread> readers;
  for (std::uint64_t t = 0; t < 2; ++t) {
    readers.emplace_back([&, t] {
      Random own(13, t);
      AlignedFloats query(items.table.stride(), 0.0f);
      while (!done.load()) {
        const EpochDomain::Pin pin = items.domain.pin_reader();
        for (std::size_t d = 0; d < kDim; ++d) query[d] = gaussian(own);
        const std::vector<Row> rows = search(graph, query.data(), 20, kTop);
        for (const Row row : rows) CHECK(row < items.table.count());
        answers.fetch_add(rows.size());
      }
    });
  }
  std::vector<std::thread> writers;
  // New items, and items that leave again: each thread has ids of its own.
  for (std::uint64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      Random own(14, t);
      for (int i = 0; i < kRounds; ++i) {
        const EpochDomain::Pin pin = items.domain.pin_writer();
        const auto id = static_cast<std::int64_t>(kItems / 2 + 2 * own.below(kItems / 4) + t);
        const Row row = items.table.find_or_insert(id);
        items.store(row, &vectors[static_cast<std::size_t>(id) * kDim]);
        graph.insert(row);
      }
    });
  }
  // Rows that move, whoever they belong to.
  writers.emplace_back([&] {
    Random own(15, 0);
    for (int i = 0; i < kRounds; ++i) {
      const EpochDomain::Pin pin = items.domain.pin_writer();
      const Row row = own.below(items.table.count());
      items.store(row, &vectors[own.below(kItems) * kDim]);
      graph.update(row);
    }
  });
  // Erasing is done with writers paused, unlinking beside them.
  writers.emplace_back([&] {
    Random own(16, 0);
    for (int i = 0; i < kRounds / 4; ++i) {
      Row row;
      {
        const EpochDomain::Pause pause = items.domain.pause_writers();
        row = items.table.erase(static_cast<std::int64_t>(own.below(kItems)));
      }
      if (row == kNoRow) continue;
      const EpochDomain::Pin pin = items.domain.pin_reader();
      graph.remove(row);
      items.table.recycle({row});
    }
  });
  writers.emplace_back([&] {
    for (int i = 0; i < kRounds; ++i) {
      const EpochDomain::Pin pin = items.domain.pin_reader();
      graph.relink_drifted(16);
    }
  });
  for (std::thread& writer : writers) writer.join();
  done = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(answers > 0);
  graph.audit();
  relink_until_done(graph, items.table.count());
  graph.audit();
  const GraphAudit audit = graph.audit();
  CHECK(audit.missing == 0 && audit.unreachable == 0 && audit.invalid == 0 && audit.stale == 0);
  CHECK(audit.linked == items.table.size());
  AlignedFloats query(items.table.stride(), 1.0f);
  CHECK(search(graph, query.data(), kItems, kItems) == exact(items.table, query.data(), kItems));
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::threads_build_it_too();
  recengine::stress();
  if (recengine::check::kOnlyThreads) return 0;
  recengine::links_change_in_place();
  recengine::options_are_checked();
  recengine::few_items();
  recengine::finds_the_nearest();
  recengine::lengths_do_not_break_it();
  recengine::biases_count();
  recengine::builds_are_reproducible();
  recengine::duplicates_stay_reachable();
  recengine::zero_rows_only();
  recengine::filters_find_what_matches();
  recengine::removal_leaves_nobody_behind();
  recengine::removal_of_everything();
  recengine::drift_is_followed();
  recengine::small_moves_are_left_alone();
}
