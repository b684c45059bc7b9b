// Interactions: who chose what how often, as offline training reads it: for each row of one side the rows of the other
// and a weight, those of a row one behind the other.
//
// Thread safety: none; read-only once made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace recengine {

class Interactions {
 public:
  // Of pairs (rows[k], others[k]) with positive weights (null: 1 each); pairs that occur more than once become one, of
  // the sum of their weights. REQUIRES: rows[k] < num_rows, others[k] < num_others.
  Interactions(std::span<const std::uint32_t> rows, std::span<const std::uint32_t> others, const float* weights,
               std::size_t num_rows, std::size_t num_others);

  std::size_t num_rows() const { return begins_.size() - 1; }
  std::size_t num_others() const { return num_others_; }
  std::size_t size() const { return others_.size(); }
  std::size_t size(std::size_t row) const { return begins_[row + 1] - begins_[row]; }
  // Ascending.
  std::span<const std::uint32_t> others(std::size_t row) const { return {&others_[0] + begins_[row], size(row)}; }
  std::span<const float> weights(std::size_t row) const { return {&weights_[0] + begins_[row], size(row)}; }

  // The same, seen from the other side.
  Interactions transposed() const;

 private:
  Interactions() = default;

  std::size_t num_others_ = 0;
  std::vector<std::size_t> begins_;
  std::vector<std::uint32_t> others_;
  std::vector<float> weights_;
};

}  // namespace recengine
