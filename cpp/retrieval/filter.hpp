// Filters: which items a query may return, as an expression over named sets of rows.
//
// FilterExpression is what a caller builds: names, joined by and, or and not, in postfix order. It refers to the sets
// by name, so that a set that was updated meanwhile is found as it is when the query begins. Filter is the same
// compiled for one query: the names are replaced by the sets. It evaluates 64 words (a page of rows) at a time, lazily.
//
// The deeper operand of a binary operation is put first (Sethi and Ullman 1970): an expression of n names needs a stack
// of log2(n) + 1 values at most, however it was built.
//
// Thread safety: expressions and filters are immutable. A filter borrows the sets: it lives under the pin that it was
// compiled under.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/bitmap.hpp"
#include "storage/embedding_table.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

// kAndNot is left and not right, kNotAnd the other way round: one pass instead of two.
enum class FilterOp : std::uint8_t { kFilter, kGroup, kAnd, kOr, kAndNot, kNotAnd, kNot };

// A step of an expression; the names of filters are strings, those of groups either kind.
struct FilterTerm {
  FilterOp op;
  IdKind kind = IdKind::kNone;
  std::int64_t number = 0;
  std::string text;
};

class FilterExpression {
 public:
  static constexpr std::size_t kMaxDepth = 34;  // of the stack: 2^33 names are more than fit in memory

  explicit FilterExpression(FilterTerm name) : terms_{std::move(name)} {}

  FilterExpression operator&(const FilterExpression& other) const;
  FilterExpression operator|(const FilterExpression& other) const;
  FilterExpression operator~() const;

  std::span<const FilterTerm> terms() const { return terms_; }
  std::size_t depth() const { return depth_; }

 private:
  FilterExpression() = default;
  static FilterExpression join(const FilterExpression& left, const FilterExpression& right, FilterOp op);
  bool is_negation() const { return terms_.back().op == FilterOp::kNot; }

  std::vector<FilterTerm> terms_;
  std::size_t depth_ = 1;
};

class Filter {
 public:
  // The sets in the order of the expression's names; null where the term is an operation. They outlive the filter.
  Filter(const FilterExpression& expression, std::span<const Bitmap* const> sets);

  // Whether the row is in; it may be no live one. For rows that would enter a ranking, one by one.
  bool admits(Row row) const;

  // How many live items match, exactly on a table that rests. Free for a single set, else microseconds a million items.
  std::size_t count(const EmbeddingTable& items) const;

  // The same for equal expressions of the same sets, changed or not; others mostly have another.
  std::uint64_t identity() const {
    std::uint64_t mixed = 0;
    for (const auto& [op, set] : steps_) {
      // 8: no less than there are ops.
      const std::uint64_t term = (set == nullptr ? 0 : set->origin()) * 8 + static_cast<std::uint64_t>(op);
      mixed = (mixed + term) * 0x9E3779B97F4A7C15u;
      mixed ^= mixed >> 32;
    }
    return mixed;
  }

  // Calls visit(word, bits) with the live rows that match among rows [64 * word, 64 * word + 64), ascending, where
  // there are any. Between pages it asks for interrupts.
  template <class Visit>
  void for_each_word(const EmbeddingTable& items, Visit visit) const {
    const Row rows = items.count();
    std::vector<Bitmap::Page> stack(depth_);
    const std::size_t end = (std::size_t{rows} + Bitmap::kPageRows - 1) / Bitmap::kPageRows;
    for (std::size_t p = next_page(0); p < end; p = next_page(p + 1)) {
      check_interrupt();
      const std::uint64_t* words = page(p, stack);
      if (words == nullptr) continue;
      const std::size_t first = p * Bitmap::kPageWords;
      const std::size_t last = std::min(first + Bitmap::kPageWords, (std::size_t{rows} + 63) / 64);
      for (std::size_t word = first; word < last; ++word) {
        if (words[word - first] == 0) continue;
        std::uint64_t bits = words[word - first] & items.live_word(word);
        // Rows that came after the count was read are live and not ready to be scored.
        if (rows - word * 64 < 64) bits &= (std::uint64_t{1} << (rows - word * 64)) - 1;
        if (bits != 0) visit(word, bits);
      }
    }
  }

  // The same row by row.
  template <class Visit>
  void for_each_row(const EmbeddingTable& items, Visit visit) const {
    for_each_word(items, [&visit](std::size_t word, std::uint64_t bits) {
      for (; bits != 0; bits &= bits - 1) visit(static_cast<Row>(word * 64 + static_cast<Row>(std::countr_zero(bits))));
    });
  }

 private:
  struct Step {
    FilterOp op;
    const Bitmap* set;
  };

  // The postfix machine: leaf(set, place) gives the value of a set, apply(op, left, right, place) joins two (kNot: left
  // alone), `place` being where on the stack the value goes.
  template <class Value, class Leaf, class Apply>
  Value evaluate(Leaf leaf, Apply apply) const {
    std::array<Value, FilterExpression::kMaxDepth> stack;  // not cleared: that would take longer than the work
    std::size_t top = 0;
    for (const auto& [op, set] : steps_) {
      if (set != nullptr) {
        stack[top] = leaf(*set, top);
        ++top;
        continue;
      }
      if (op != FilterOp::kNot) --top;
      stack[top - 1] = apply(op, stack[top - 1], stack[op == FilterOp::kNot ? top - 1 : top], top - 1);
    }
    return stack[0];
  }

  // No page in [page, next_page(page)) has a row that matches.
  std::size_t next_page(std::size_t page) const;
  // The words of a page, or null if none is set. They lie in a set or in the stack of depth_ pages.
  const std::uint64_t* page(std::size_t page, std::span<Bitmap::Page> stack) const;

  std::vector<Step> steps_;
  std::size_t depth_;
};

}  // namespace recengine
