#include "learner/interactions.hpp"

#include <algorithm>
#include <numeric>

namespace recengine {

Interactions Interactions::transposed() const {
  Interactions result;
  result.num_others_ = num_rows();
  result.begins_.assign(num_others_ + 1, 0);
  for (const std::uint32_t other : others_) ++result.begins_[other + 1];
  std::partial_sum(result.begins_.begin(), result.begins_.end(), result.begins_.begin());
  result.others_.resize(others_.size());
  result.weights_.resize(others_.size());
  std::vector<std::size_t> next(result.begins_.begin(), result.begins_.end() - 1);
  for (std::size_t row = 0; row < num_rows(); ++row) {
    for (std::size_t k = begins_[row]; k < begins_[row + 1]; ++k) {
      const std::size_t place = next[others_[k]]++;
      result.others_[place] = static_cast<std::uint32_t>(row);
      result.weights_[place] = weights_[k];
    }
  }
  return result;
}

Interactions::Interactions(std::span<const std::uint32_t> rows, std::span<const std::uint32_t> others,
                           const float* weights, std::size_t num_rows, std::size_t num_others)
    : num_others_(num_others) {
  // Sorted by the other side first: transposing keeps that order within each row (counting sort, twice).
  Interactions by_other;
  by_other.num_others_ = num_rows;
  by_other.begins_.assign(num_others + 1, 0);
  for (const std::uint32_t other : others) ++by_other.begins_[other + 1];
  std::partial_sum(by_other.begins_.begin(), by_other.begins_.end(), by_other.begins_.begin());
  by_other.others_.resize(rows.size());
  by_other.weights_.resize(rows.size());
  std::vector<std::size_t> next(by_other.begins_.begin(), by_other.begins_.end() - 1);
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const std::size_t place = next[others[k]]++;
    by_other.others_[place] = rows[k];
    by_other.weights_[place] = weights == nullptr ? 1.0f : weights[k];
  }
  *this = by_other.transposed();
  // Equal pairs are neighbours now.
  std::size_t size = 0;
  for (std::size_t row = 0, k = 0; row < num_rows; ++row) {
    const std::size_t begin = size;
    for (const std::size_t end = begins_[row + 1]; k < end; ++k) {
      if (size > begin && others_[size - 1] == others_[k]) {
        weights_[size - 1] += weights_[k];
      } else {
        others_[size] = others_[k];
        weights_[size++] = weights_[k];
      }
    }
    begins_[row] = begin;
  }
  begins_[num_rows] = size;
  others_.resize(size);
  weights_.resize(size);
}

}  // namespace recengine
