#include "retrieval/filter.hpp"

#include <utility>

namespace recengine {

FilterExpression FilterExpression::join(const FilterExpression& left, const FilterExpression& right, FilterOp op) {
  const bool swapped = right.depth_ > left.depth_;
  if (swapped && op == FilterOp::kAndNot) {
    op = FilterOp::kNotAnd;
  } else if (swapped && op == FilterOp::kNotAnd) {
    op = FilterOp::kAndNot;
  }
  const FilterExpression& first = swapped ? right : left;
  const FilterExpression& second = swapped ? left : right;
  FilterExpression out;
  out.terms_.reserve(first.terms_.size() + second.terms_.size() + 1);
  out.terms_ = first.terms_;
  out.terms_.insert(out.terms_.end(), second.terms_.begin(), second.terms_.end());
  out.terms_.push_back({op, IdKind::kNone, 0, {}});
  out.depth_ = std::max(first.depth_, second.depth_ + 1);
  return out;
}

FilterExpression FilterExpression::operator&(const FilterExpression& other) const {
  if (other.is_negation()) return join(*this, ~other, FilterOp::kAndNot);
  if (is_negation()) return join(~*this, other, FilterOp::kNotAnd);
  return join(*this, other, FilterOp::kAnd);
}

FilterExpression FilterExpression::operator|(const FilterExpression& other) const {
  return join(*this, other, FilterOp::kOr);
}

FilterExpression FilterExpression::operator~() const {
  FilterExpression out = *this;
  if (is_negation()) {
    out.terms_.pop_back();
  } else {
    out.terms_.push_back({FilterOp::kNot, IdKind::kNone, 0, {}});
  }
  return out;
}

Filter::Filter(const FilterExpression& expression, std::span<const Bitmap* const> sets) : depth_(expression.depth()) {
  const auto terms = expression.terms();
  steps_.reserve(terms.size());
  for (std::size_t k = 0; k < terms.size(); ++k) steps_.push_back({terms[k].op, sets[k]});
}

namespace {

bool joined(FilterOp op, bool left, bool right, std::size_t) {
  switch (op) {
    case FilterOp::kOr:
      return left || right;
    case FilterOp::kAndNot:
      return left && !right;
    case FilterOp::kNotAnd:
      return !left && right;
    case FilterOp::kNot:
      return !left;
    default:
      return left && right;
  }
}

}  // namespace

bool Filter::admits(Row row) const {
  return evaluate<bool>([row](const Bitmap& set, std::size_t) { return set.contains(row); }, joined);
}

std::size_t Filter::next_page(std::size_t page) const {
  return evaluate<std::size_t>([page](const Bitmap& set, std::size_t) { return set.next_page(page); },
                               [page](FilterOp op, std::size_t left, std::size_t right, std::size_t) {
                                 switch (op) {
                                   case FilterOp::kOr:
                                     return std::min(left, right);
                                   case FilterOp::kAndNot:
                                     return left;
                                   case FilterOp::kNotAnd:
                                     return right;
                                   case FilterOp::kNot:
                                     return page;
                                   default:
                                     return std::max(left, right);
                                 }
                               });
}

const std::uint64_t* Filter::page(std::size_t page, std::span<Bitmap::Page> stack) const {
  using Words = const std::uint64_t*;
  static constexpr Bitmap::Page kNone{};
  return evaluate<Words>([page, stack](const Bitmap& set, std::size_t place) { return set.page(page, stack[place]); },
                         [stack](FilterOp op, Words left, Words right, std::size_t place) -> Words {
                           const bool needs_left = op == FilterOp::kAnd || op == FilterOp::kAndNot;
                           const bool needs_right = op == FilterOp::kAnd || op == FilterOp::kNotAnd;
                           if ((needs_left && left == nullptr) || (needs_right && right == nullptr)) return nullptr;
                           if (op == FilterOp::kOr && left == nullptr && right == nullptr) return nullptr;
                           if (left == nullptr) left = kNone.data();
                           if (right == nullptr) right = kNone.data();
                           std::uint64_t* const out = stack[place].data();  // where `left` may lie too
                           const auto each = [=](auto join) {
                             for (std::size_t w = 0; w < Bitmap::kPageWords; ++w) out[w] = join(left[w], right[w]);
                           };
                           switch (op) {
                             case FilterOp::kOr:
                               each([](std::uint64_t a, std::uint64_t b) { return a | b; });
                               break;
                             case FilterOp::kAndNot:
                               each([](std::uint64_t a, std::uint64_t b) { return a & ~b; });
                               break;
                             case FilterOp::kNotAnd:
                               each([](std::uint64_t a, std::uint64_t b) { return ~a & b; });
                               break;
                             case FilterOp::kNot:
                               each([](std::uint64_t a, std::uint64_t) { return ~a; });
                               break;
                             default:
                               each([](std::uint64_t a, std::uint64_t b) { return a & b; });
                               break;
                           }
                           return out;
                         });
}

std::size_t Filter::count(const EmbeddingTable& items) const {
  if (steps_.size() == 1) return steps_.front().set->size();
  // Whether rows that are in no set match. If not, all that match are items, else all that do not: nobody need ask
  // which rows are live.
  const bool open = evaluate<bool>([](const Bitmap&, std::size_t) { return false; }, joined);
  std::size_t counted = 0;  // rows that match, or if open, that do not
  std::vector<Bitmap::Page> stack(depth_);
  const std::size_t end = (std::size_t{items.count()} + Bitmap::kPageRows - 1) / Bitmap::kPageRows;
  for (std::size_t p = next_page(0); p < end; p = next_page(p + 1)) {
    const std::uint64_t* words = page(p, stack);
    const std::size_t bits = words == nullptr ? 0 : count_bits(words, Bitmap::kPageWords);
    counted += open ? Bitmap::kPageRows - bits : bits;
  }
  return open ? items.size() - std::min(items.size(), counted) : counted;
}

}  // namespace recengine
