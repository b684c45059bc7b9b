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

  // "Ranks before": higher score first, then lower row. Without a branch: nobody can predict it.
  friend bool operator<(const Scored& a, const Scored& b) {
    return (a.score > b.score) | ((a.score == b.score) & (a.row < b.row));
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
      if (!full()) return;
      std::make_heap(heap_.begin(), heap_.end());
    } else if (k_ > 0 && entry < heap_.front()) {
      replace_front(entry);
    } else {
      return;
    }
    threshold_ = heap_.front().score;
  }

  // Best first. The heap is spent.
  std::vector<Scored<Score>> take_sorted() {
    std::sort(heap_.begin(), heap_.end());
    return std::move(heap_);
  }

 private:
  // One way down, where std::pop_heap and std::push_heap would go down to a leaf and up again.
  void replace_front(const Scored<Score>& entry) {
    std::size_t hole = 0;
    for (std::size_t child; (child = 2 * hole + 1) < k_; hole = child) {
      if (child + 1 < k_) child += heap_[child] < heap_[child + 1];
      if (!(entry < heap_[child])) break;
      heap_[hole] = heap_[child];
    }
    heap_[hole] = entry;
  }

  std::size_t k_;
  Score threshold_ = k_ > 0 ? -std::numeric_limits<Score>::infinity() : std::numeric_limits<Score>::infinity();
  std::vector<Scored<Score>> heap_;  // once full a max-heap under "ranks before": its front ranks last
};

}  // namespace recengine
