// Bitmap: a set of rows that never changes once it is made. A changed set is a new one that shares the pages that stay
// as they are, so that readers need neither locks nor atomics and always see a whole set.
//
// A page is 4096 rows, 64 words; pages without a row are not stored. A set with few rows a page is kept as the sorted
// list of its rows instead (as the array containers of Roaring bitmaps, Chambi et al. 2016, but the whole set), so that
// tens of thousands of small sets cost four bytes a row.
//
// Thread safety: all methods are const, from any thread, once the set has been published (release) and found (acquire).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "storage/id_map.hpp"

namespace recengine {

class Bitmap {
 public:
  static constexpr std::size_t kPageWords = 64;
  static constexpr std::size_t kPageRows = 64 * kPageWords;
  static constexpr std::size_t kNoPage = std::numeric_limits<std::size_t>::max();
  using Page = std::array<std::uint64_t, kPageWords>;

  Bitmap() = default;
  explicit Bitmap(std::vector<Row> rows);  // in any order, repeats allowed

  // Of its own for each set that is made of rows; changed ones keep it.
  std::uint64_t origin() const { return origin_; }

  // This set with some rows more, then some fewer. REQUIRES: both ascending.
  Bitmap changed(std::span<const Row> add, std::span<const Row> remove) const;

  std::size_t size() const { return size_; }

  bool contains(Row row) const {
    if (pages_.empty()) return std::binary_search(rows_.begin(), rows_.end(), row);
    const std::size_t page = row / kPageRows;
    return page < pages_.size() && pages_[page] && ((*pages_[page])[row / 64 % kPageWords] >> (row % 64) & 1) != 0;
  }

  // The words of rows [kPageRows * page, kPageRows * (page + 1)), or null if there is no row; they may be written to
  // `room`.
  const std::uint64_t* page(std::size_t page, Page& room) const;

  // The first page from `page` on that holds a row, or kNoPage.
  std::size_t next_page(std::size_t page) const;

  // Calls visit(row) for each row, ascending.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Row row : rows_) visit(row);
    for (std::size_t p = 0; p < pages_.size(); ++p) {
      for (std::size_t w = 0; pages_[p] && w < kPageWords; ++w) {
        for (std::uint64_t bits = (*pages_[p])[w]; bits != 0; bits &= bits - 1) {
          visit(static_cast<Row>(p * kPageRows + w * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
        }
      }
    }
  }

  std::size_t memory_bytes() const;  // pages that are shared count in each set

 private:
  using SharedPage = std::shared_ptr<const Page>;

  void take_rows(std::vector<Row> rows);  // REQUIRES: ascending, distinct
  Bitmap changed_rows(std::span<const Row> add, std::span<const Row> remove) const;

  std::uint64_t origin_ = 0;
  // One of the two is empty.
  std::vector<Row> rows_;
  std::vector<SharedPage> pages_;  // null: no row
  std::size_t used_pages_ = 0;     // those that are not null
  std::size_t size_ = 0;
};

// How many bits are set.
std::size_t count_bits(const std::uint64_t* words, std::size_t count);

}  // namespace recengine
