// Bitmap against std::set, and filters compiled from expressions against evaluating them row by row.
#include "storage/bitmap.hpp"

#include <bit>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "check.hpp"
#include "retrieval/filter.hpp"
#include "retrieval/filter_sets.hpp"

namespace recengine {
namespace {

using Model = std::set<Row>;

void agree(const Bitmap& set, const Model& model) {
  CHECK(set.size() == model.size());
  std::vector<Row> rows;
  set.for_each([&rows](Row row) { rows.push_back(row); });
  CHECK(rows == std::vector<Row>(model.begin(), model.end()));
  const std::size_t pages = model.empty() ? 0 : *model.rbegin() / Bitmap::kPageRows + 1;
  std::size_t counted = 0;
  for (std::size_t p = 0; p < pages + 2; ++p) {
    Bitmap::Page room;
    const std::uint64_t* words = set.page(p, room);
    const auto first = model.lower_bound(static_cast<Row>(p * Bitmap::kPageRows));
    CHECK(set.next_page(p) == (first == model.end() ? Bitmap::kNoPage : *first / Bitmap::kPageRows));
    CHECK((words == nullptr) == (set.next_page(p) != p));
    if (words != nullptr) counted += count_bits(words, Bitmap::kPageWords);
    for (std::size_t w = 0; words != nullptr && w < Bitmap::kPageWords; ++w) {
      for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
        CHECK(model.contains(
            static_cast<Row>(p * Bitmap::kPageRows + w * 64 + static_cast<std::size_t>(std::countr_zero(bits)))));
      }
    }
  }
  CHECK(counted == model.size());
}

std::vector<Row> some_rows(std::mt19937& random, std::size_t count, Row first, Row universe) {
  std::vector<Row> rows;
  for (std::size_t k = 0; k < count; ++k) rows.push_back(first + static_cast<Row>(random() % universe));
  return rows;
}

// Sets from one row to dense ones, changed again and again: lists, pages and the ways between them.
void random_changes_match_a_model() {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    const Row universe = 1 + static_cast<Row>(random() % (round % 2 == 0 ? 20000 : 300));
    std::vector<Row> rows = some_rows(random, random() % 4000, 0, universe);
    Bitmap set(rows);
    Model model(rows.begin(), rows.end());
    agree(set, model);
    for (int step = 0; step < 12; ++step) {
      const Bitmap before = set;
      const Model model_before = model;
      std::vector<Row> add = some_rows(random, random() % 3 == 0 ? 2000 : random() % 5, 0, universe + 200);
      std::vector<Row> remove = some_rows(random, random() % 3 == 0 ? 4000 : random() % 5, 0, universe + 9000);
      std::sort(add.begin(), add.end());
      std::sort(remove.begin(), remove.end());
      set = set.changed(add, remove);
      model.insert(add.begin(), add.end());
      for (const Row row : remove) model.erase(row);
      agree(set, model);
      agree(before, model_before);  // sets never change
      CHECK(set.origin() == before.origin() && set.origin() != Bitmap(rows).origin());
      for (const Row row : some_rows(random, 50, 0, universe + 9000)) CHECK(set.contains(row) == model.contains(row));
    }
  }
}

void small_sets_are_small() {
  std::vector<Row> apart, together;
  for (Row k = 0; k < 100; ++k) {
    apart.push_back(k * 10007);
    together.push_back(900000 + k);
  }
  CHECK(Bitmap(apart).memory_bytes() < 100 * sizeof(Row) + 200);
  CHECK(Bitmap(together).memory_bytes() < 10000);
  CHECK(Bitmap().size() == 0 && Bitmap().next_page(0) == Bitmap::kNoPage && !Bitmap().contains(0));
  CHECK(Bitmap(std::vector<Row>{kMaxRow}).contains(kMaxRow) &&
        Bitmap(std::vector<Row>{kMaxRow}).changed({}, std::vector<Row>{kMaxRow}).size() == 0);
}

// An expression beside the truth, row by row.
struct Named {
  FilterExpression expression;
  std::vector<bool> truth;
};

Named random_expression(std::mt19937& random, int depth, const std::vector<Model>& models, std::size_t rows) {
  if (depth == 0 || random() % 5 == 0) {
    const std::size_t which = random() % models.size();
    std::vector<bool> truth(rows);
    for (const Row row : models[which]) {
      if (row < rows) truth[row] = true;
    }
    const bool group = which % 2 == 1;
    return {FilterExpression(group ? FilterTerm{FilterOp::kGroup, IdKind::kInt, static_cast<std::int64_t>(which), {}}
                                   : FilterTerm{FilterOp::kFilter, IdKind::kString, 0, std::to_string(which)}),
            truth};
  }
  Named left = random_expression(random, depth - 1, models, rows);
  if (random() % 3 == 0) {
    for (std::size_t r = 0; r < rows; ++r) left.truth[r] = !left.truth[r];
    return {~left.expression, left.truth};
  }
  const Named right = random_expression(random, depth - 1, models, rows);
  const bool both = random() % 2 == 0;
  for (std::size_t r = 0; r < rows; ++r) {
    left.truth[r] = both ? left.truth[r] && right.truth[r] : left.truth[r] || right.truth[r];
  }
  return {both ? left.expression & right.expression : left.expression | right.expression, left.truth};
}

// Items 0, 1, ..., and filters "0", "2", ... and groups 1, 3, ... over them.
void random_expressions_match_row_by_row() {
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    EpochDomain domain;
    EmbeddingTable items(domain, 1, {0, 0});
    FilterSets sets(domain);
    const auto pin = domain.pin_writer();
    const std::size_t rows = random() % 3 == 0 ? 1 + random() % 200 : 1 + random() % 20000;
    for (std::size_t r = 0; r < rows; ++r) items.find_or_insert(static_cast<std::int64_t>(r));
    std::vector<Model> models(8);
    std::vector<Row> grouped;
    std::vector<std::int64_t> labels;
    for (std::size_t m = 0; m < models.size(); ++m) {
      const std::size_t size = std::vector<std::size_t>{0, 1, 7, rows / 64, rows / 3, 3 * rows}[random() % 6];
      const std::vector<Row> members = some_rows(random, size, 0, static_cast<Row>(rows));
      models[m].insert(members.begin(), members.end());
      if (m % 2 == 0) {
        sets.set_filter(std::to_string(m), members);
        continue;
      }
      models[m].insert(static_cast<Row>(random() % rows));
      for (std::size_t other = 1; other < m; other += 2) {
        for (const Row row : models[m]) models[other].erase(row);  // a row is in one group, the last one
      }
      for (const Row row : models[m]) {
        grouped.push_back(row);
        labels.push_back(static_cast<std::int64_t>(m));
      }
    }
    sets.set_groups(grouped, {IdKind::kInt, labels.size(), labels.data(), nullptr, nullptr});
    const std::vector<Row> gone = some_rows(random, rows / 10, 0, static_cast<Row>(rows));
    FilterSets::Change change = sets.prepare_removal(gone);
    for (const Row row : gone) items.erase(static_cast<std::int64_t>(row));
    sets.finish_removal(std::move(change), gone);
    for (const Row row : gone) {
      for (Model& model : models) model.erase(row);
    }
    for (std::size_t m = 1; m < models.size(); m += 2) {  // a group that nothing is in is none
      const FilterTerm* unknown = nullptr;
      const FilterExpression name({FilterOp::kGroup, IdKind::kInt, static_cast<std::int64_t>(m), {}});
      CHECK(sets.compile(name, true, &unknown).has_value() == !models[m].empty());
      CHECK((unknown != nullptr) == models[m].empty());
    }

    for (int k = 0; k < 20; ++k) {
      const Named named = random_expression(random, static_cast<int>(random() % 5), models, rows);
      const FilterTerm* unknown = nullptr;
      const auto filter = sets.compile(named.expression, false, &unknown);
      CHECK(filter.has_value());
      std::vector<Row> expected, found;
      for (Row row = 0; row < rows; ++row) {
        CHECK(filter->admits(row) == named.truth[row]);
        if (named.truth[row] && items.is_live(row)) expected.push_back(row);
      }
      filter->for_each_row(items, [&found](Row row) { found.push_back(row); });
      CHECK(found == expected);
      CHECK(filter->count(items) == expected.size());
    }
  }
}

// However an expression is built, it needs a short stack.
void long_expressions_need_little() {
  EpochDomain domain;
  FilterSets sets(domain);
  const auto pin = domain.pin_writer();
  sets.set_filter("a", {1});
  sets.set_filter("b", {2});
  const FilterExpression a({FilterOp::kFilter, IdKind::kString, 0, "a"});
  const FilterExpression b({FilterOp::kFilter, IdKind::kString, 0, "b"});
  FilterExpression right = a, left = a, even = a;
  for (int k = 0; k < 300; ++k) {
    right = k % 2 == 0 ? b | right : a & ~right;
    left = k % 2 == 0 ? left | b : ~left & a;
  }
  for (int k = 0; k < 8; ++k) even = even | ~even;
  CHECK(right.depth() <= 3 && left.depth() <= 3 && even.depth() <= 9);
  CHECK((~~a).terms().size() == 1);
  const FilterTerm* unknown = nullptr;
  CHECK(sets.compile(even, false, &unknown)->admits(5));
  CHECK(sets.compile(right, false, &unknown)->admits(1) == sets.compile(left, false, &unknown)->admits(1));
  sets.remove_filter("b");
  CHECK(!sets.compile(right, false, &unknown) && unknown->text == "b");
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::random_changes_match_a_model();
  recengine::small_sets_are_small();
  recengine::random_expressions_match_row_by_row();
  recengine::long_expressions_need_little();
}
