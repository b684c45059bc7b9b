// DirtyRows: which rows were written since what is derived from them (codes, bounds) was last derived.
//
// A writer stores the row, passes a full fence, and marks it. The one who derives clears the mark, then reads the row:
// of a write that it does not see the mark is set afterwards (Dekker's pattern), so that on a table that has become
// quiet everything derived is right once the last mark is gone. A reader that must not wait takes the rows that are
// marked, or being derived right now, as unknown.
//
// Rows lie in words of 64, words in summaries of 64. All accesses are seq_cst: the proofs below need one order of all.
//
// Thread safety: mark and for_each_pending from any thread; `take` by one thread at a time.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

class DirtyRows {
 public:
  void reserve(std::size_t rows) {
    taken_.reserve(rows / 64 + 1);
    words_.reserve(rows / 64 + 1);
    summaries_.reserve(rows / kSummaryRows + 1);
    // Release: whoever sees the number finds the chunks.
    num_summaries_.store(rows / kSummaryRows + 1, std::memory_order_release);
  }

  // REQUIRES: a full fence since the row's last write by this thread.
  void mark(Row row) {
    const std::uint64_t bit = std::uint64_t{1} << (row % 64);
    std::atomic<std::uint64_t>& word = words_[row / 64];
    if ((word.load() & bit) == 0) word.fetch_or(bit);
    // Also where another marked the row: it may not have come to the summary yet.
    const std::uint64_t summary_bit = std::uint64_t{1} << (row / 64 % 64);
    std::atomic<std::uint64_t>& summary = summaries_[row / kSummaryRows];
    if ((summary.load() & summary_bit) == 0) summary.fetch_or(summary_bit);
  }

  // Calls derive(row) for each marked row, with the mark cleared before, and stops once it were `most` or more. Rows
  // marked meanwhile may be left.
  template <class Derive>
  void take(Derive derive, std::size_t most = ~std::size_t{0}) {
    const std::size_t count = num_summaries_.load(std::memory_order_acquire);
    std::size_t taken = 0;
    for (std::size_t s = 0; s < count && taken < most; ++s) {
      for (std::uint64_t left = summaries_[s].load(); left != 0 && taken < most; left &= left - 1) {
        taken += take_word(s * 64 + static_cast<std::size_t>(std::countr_zero(left)), derive);
      }
    }
    taking_.store(kNoWord);
  }

  // Calls visit(row) for each row that was marked before this call and is not derived yet. A row may come twice.
  template <class Visit>
  void for_each_pending(Visit visit) const {
    const std::size_t count = num_summaries_.load(std::memory_order_acquire);
    for (std::size_t s = 0; s < count; ++s) {
      for (std::uint64_t left = summaries_[s].load(); left != 0; left &= left - 1) {
        const std::size_t word = s * 64 + static_cast<std::size_t>(std::countr_zero(left));
        visit_bits(word, words_[word].load(), visit);
      }
    }
    // After the marks: of a word whose marks or summary were cleared before we looked, this one says so, or it is done.
    const std::size_t word = taking_.load();
    if (word != kNoWord) visit_bits(word, words_[word].load() | taken_[word].load(), visit);
  }

  // How many are marked, about.
  std::size_t count() const {
    std::size_t marked = 0;
    const std::size_t summaries = num_summaries_.load(std::memory_order_acquire);
    for (std::size_t s = 0; s < summaries; ++s) {
      for (std::uint64_t left = summaries_[s].load(); left != 0; left &= left - 1) {
        const std::size_t word = s * 64 + static_cast<std::size_t>(std::countr_zero(left));
        marked += static_cast<std::size_t>(std::popcount(words_[word].load()));
      }
    }
    return marked;
  }

  bool any() const {
    bool found = taking_.load() != kNoWord;
    const std::size_t count = num_summaries_.load(std::memory_order_acquire);
    for (std::size_t s = 0; s < count; ++s) found |= summaries_[s].load() != 0;
    return found;
  }

  std::size_t memory_bytes() const { return words_.memory_bytes() + taken_.memory_bytes() + summaries_.memory_bytes(); }

 private:
  static constexpr std::size_t kSummaryRows = 64 * 64;
  static constexpr std::size_t kNoWord = ~std::size_t{0};

  template <class Visit>
  static void visit_bits(std::size_t word, std::uint64_t bits, Visit& visit) {
    for (; bits != 0; bits &= bits - 1)
      visit(static_cast<Row>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
  }

  // For a reader each mark is visible in words_ or taken_ until its row is derived: it is copied before it is cleared,
  // and `taking_` names the word before its summary goes.
  template <class Derive>
  std::size_t take_word(std::size_t index, Derive& derive) {
    std::atomic<std::uint64_t>& word = words_[index];
    std::atomic<std::uint64_t>& summary = summaries_[index / 64];
    const std::uint64_t summary_bit = std::uint64_t{1} << (index % 64);
    taking_.store(index);
    summary.fetch_and(~summary_bit);
    const std::uint64_t bits = word.load();
    taken_[index].store(bits);
    if ((word.fetch_and(~bits) & ~bits) != 0) summary.fetch_or(summary_bit);  // marked meanwhile
    try {
      visit_bits(index, bits, derive);
    } catch (...) {  // none of it is lost
      word.fetch_or(bits);
      summary.fetch_or(summary_bit);
      taken_[index].store(0);
      taking_.store(kNoWord);
      throw;
    }
    taken_[index].store(0);
    return static_cast<std::size_t>(std::popcount(bits));
  }

  Column<std::atomic<std::uint64_t>> words_, taken_, summaries_;
  std::atomic<std::size_t> num_summaries_{0};
  std::atomic<std::size_t> taking_{kNoWord};
};

}  // namespace recengine
