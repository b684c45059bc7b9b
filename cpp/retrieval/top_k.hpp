// TopK: the k best of a stream, kept in a binary heap with the worst on top. Ties go to the lower row, so that a result
// is a function of the scores alone, whatever the order of the stream.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "storage/id_map.hpp"

namespace recengine {

template <class Score>
struct Scored {
  Score score;
  Row row;

  // "Ranks before": higher score first, then lower row.
  friend bool operator<(const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score > b.score : a.row < b.row;
  }
};

template <class Score>
class TopK {
 public:
  explicit TopK(std::size_t k) : k_(k) { heap_.reserve(std::min<std::size_t>(k, 256)); }

  std::size_t k() const { return k_; }
  bool full() const { return heap_.size() == k_; }

  // Scores below this one cannot enter; one that equals it enters with a lower row only. +infinity for k = 0.
  Score threshold() const { return threshold_; }

  void push(Score score, Row row) {
    const Scored<Score> entry{score, row};
    if (heap_.size() < k_) {
      heap_.push_back(entry);
      std::push_heap(heap_.begin(), heap_.end());
    } else if (k_ > 0 && entry < heap_.front()) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.back() = entry;
      std::push_heap(heap_.begin(), heap_.end());
    }
    if (heap_.size() == k_ && k_ > 0) threshold_ = heap_.front().score;
  }

  // Best first. The heap is spent.
  std::vector<Scored<Score>> take_sorted() {
    std::sort_heap(heap_.begin(), heap_.end());
    return std::move(heap_);
  }

 private:
  std::size_t k_;
  Score threshold_ = k_ > 0 ? -std::numeric_limits<Score>::infinity() : std::numeric_limits<Score>::infinity();
  std::vector<Scored<Score>> heap_;  // a max-heap under "ranks before": its front is the entry that ranks last
};

}  // namespace recengine
