#include "storage/bitmap.hpp"

#include <atomic>
#include <bit>
#include <iterator>

namespace recengine {

namespace {

// Rows a page, on average, from which a set is kept in pages, and below which it goes back to a list. A page is then at
// most eight times as large as the list of its rows, and lists stay so short that a change copies them in microseconds.
constexpr std::size_t kDense = 16;
constexpr std::size_t kSparse = 8;

std::uint64_t new_origin() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

#if defined(__x86_64__)
// The x86-64 baseline has no instruction for it, and a loop of shifts takes eight times as long.
__attribute__((target("popcnt"))) std::size_t count_bits_hardware(const std::uint64_t* words, std::size_t count) {
  std::size_t bits = 0;
  for (std::size_t w = 0; w < count; ++w) bits += static_cast<std::size_t>(__builtin_popcountll(words[w]));
  return bits;
}
#endif

}  // namespace

std::size_t count_bits(const std::uint64_t* words, std::size_t count) {
#if defined(__x86_64__)
  static const bool hardware = __builtin_cpu_supports("popcnt");
  if (hardware) return count_bits_hardware(words, count);
#endif
  std::size_t bits = 0;
  for (std::size_t w = 0; w < count; ++w) bits += static_cast<std::size_t>(std::popcount(words[w]));
  return bits;
}

Bitmap::Bitmap(std::vector<Row> rows) : origin_(new_origin()) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  take_rows(std::move(rows));
}

void Bitmap::take_rows(std::vector<Row> rows) {
  size_ = rows.size();
  used_pages_ = 0;
  for (auto row = rows.begin(); row != rows.end(); ++used_pages_) {
    const std::size_t next = (*row / kPageRows + 1) * kPageRows;
    row = std::lower_bound(row, rows.end(), next);
  }
  if (size_ < kDense * used_pages_ || size_ == 0) {
    rows_ = std::move(rows);
    rows_.shrink_to_fit();
    used_pages_ = 0;
    return;
  }
  pages_.resize(rows.back() / kPageRows + 1);
  for (auto row = rows.begin(); row != rows.end();) {
    const std::size_t number = *row / kPageRows;
    const auto page = std::make_shared<Page>(Page{});
    for (; row != rows.end() && *row / kPageRows == number; ++row) {
      (*page)[*row / 64 % kPageWords] |= std::uint64_t{1} << (*row % 64);
    }
    pages_[number] = page;
  }
}

Bitmap Bitmap::changed(std::span<const Row> add, std::span<const Row> remove) const {
  if (pages_.empty()) return changed_rows(add, remove);
  Bitmap out = *this;
  if (!add.empty()) out.pages_.resize(std::max<std::size_t>(pages_.size(), add.back() / kPageRows + 1));
  auto added = add.begin();
  auto removed = remove.begin();
  while (added != add.end() || removed != remove.end()) {
    const Row first = removed == remove.end() || (added != add.end() && *added < *removed) ? *added : *removed;
    const std::size_t number = first / kPageRows;
    const bool known = number < out.pages_.size() && out.pages_[number] != nullptr;
    const auto page = std::make_shared<Page>(known ? *out.pages_[number] : Page{});
    const std::size_t before = count_bits(page->data(), kPageWords);
    for (; added != add.end() && *added / kPageRows == number; ++added) {
      (*page)[*added / 64 % kPageWords] |= std::uint64_t{1} << (*added % 64);
    }
    for (; removed != remove.end() && *removed / kPageRows == number; ++removed) {
      (*page)[*removed / 64 % kPageWords] &= ~(std::uint64_t{1} << (*removed % 64));
    }
    const std::size_t after = count_bits(page->data(), kPageWords);
    if (number >= out.pages_.size()) continue;  // only removals, of rows that were not there
    out.pages_[number] = after > 0 ? page : nullptr;
    out.size_ = out.size_ + after - before;
    out.used_pages_ = out.used_pages_ + (after > 0 ? 1 : 0) - (known ? 1 : 0);
  }
  if (out.size_ >= kSparse * out.used_pages_ && out.size_ > 0) return out;
  std::vector<Row> rows;
  rows.reserve(out.size_);
  out.for_each([&rows](Row row) { rows.push_back(row); });
  Bitmap list;
  list.origin_ = origin_;
  list.take_rows(std::move(rows));
  return list;
}

Bitmap Bitmap::changed_rows(std::span<const Row> add, std::span<const Row> remove) const {
  std::vector<Row> more, rows;
  more.reserve(rows_.size() + add.size());
  std::set_union(rows_.begin(), rows_.end(), add.begin(), add.end(), std::back_inserter(more));
  more.erase(std::unique(more.begin(), more.end()), more.end());  // `add` may hold a row twice
  rows.reserve(more.size());
  std::set_difference(more.begin(), more.end(), remove.begin(), remove.end(), std::back_inserter(rows));
  Bitmap out;
  out.origin_ = origin_;
  out.take_rows(std::move(rows));
  return out;
}

const std::uint64_t* Bitmap::page(std::size_t page, Page& room) const {
  if (!pages_.empty()) return page < pages_.size() && pages_[page] ? pages_[page]->data() : nullptr;
  const std::size_t begin = page * kPageRows;
  auto row = std::lower_bound(rows_.begin(), rows_.end(), begin);
  if (row == rows_.end() || *row >= begin + kPageRows) return nullptr;
  room.fill(0);
  for (; row != rows_.end() && *row < begin + kPageRows; ++row) {
    room[*row / 64 % kPageWords] |= std::uint64_t{1} << (*row % 64);
  }
  return room.data();
}

std::size_t Bitmap::next_page(std::size_t page) const {
  if (pages_.empty()) {
    const auto row = std::lower_bound(rows_.begin(), rows_.end(), page * kPageRows);
    return row == rows_.end() ? kNoPage : *row / kPageRows;
  }
  while (page < pages_.size() && !pages_[page]) ++page;
  return page < pages_.size() ? page : kNoPage;
}

std::size_t Bitmap::memory_bytes() const {
  return sizeof(Bitmap) + rows_.capacity() * sizeof(Row) + pages_.capacity() * sizeof(SharedPage) +
         used_pages_ * sizeof(Page);
}

}  // namespace recengine
