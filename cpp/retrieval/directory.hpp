// Directory: the cells of an index at one moment, and what bounds the scores in each.
//
// Cells [0, num_centres) are clusters, each around a centre that stays where it is; those behind are loose: rows in
// order of arrival, bounded by their norms alone. For every row x of cell j
//   <q, x> + b_x <= min(<q, c_j> + |q| radius_j, |q| norm_j) + bias_j
// in exact arithmetic and, by what `raise` adds, in floats too. The bounds are running maxima: a row that is written
// can only raise them, building a cell anew (in another directory) lowers them. Each row lies in one lane of one cell.
//
// Thread safety: readers beside one writer (the holder of the index's lock).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kernels.hpp"
#include "retrieval/cell.hpp"
#include "retrieval/centres.hpp"
#include "storage/aligned.hpp"

namespace recengine {

// What is known of a cell's rows; live, see `raise`.
struct CellBounds {
  float radius, norm, bias;
  float spread;  // the root of the mean square distance from the centre, when the cell was built
};

class Directory {
 public:
  Directory(std::shared_ptr<const Centres> centres, std::size_t num_cells);

  const Centres& centres() const { return *centres_; }
  const std::shared_ptr<const Centres>& shared_centres() const { return centres_; }
  std::size_t num_centres() const { return centres_->size(); }
  std::size_t num_cells() const { return cells_.size(); }
  Cell* cell(std::size_t j) const { return cells_[j]; }
  std::span<Cell* const> cells() const { return cells_; }
  void set_cell(std::size_t j, Cell* cell, const CellBounds& bounds);
  CellBounds bounds(std::size_t j) const;

  // A row of cell j was coded, from this copy, with this norm (at least its length).
  void raise(std::size_t j, const float* row, float norm, float bias);

  // The inner products with all centres of some queries, one after another, each padded to that many cells.
  void multiply(const float* queries, std::size_t count, float* dots) const;
  // bounds[j], and how promising each cell is: what its better rows may reach. All have room for the padded cells.
  void bound(const float* dots, float query_norm, float* bounds, float* promises) const;
  static std::size_t padded(std::size_t cells) { return (cells + kRowPadding - 1) / kRowPadding * kRowPadding; }

  std::size_t memory_bytes() const;

 private:
  std::shared_ptr<const Centres> centres_;
  std::vector<Cell*> cells_;  // owned by the index
  AlignedFloats radii_, norms_, biases_, spreads_;
};

// A norm and a bias, and enough more that the bound above holds for scores computed in floats.
float safe_norm(float norm, std::size_t n);
float safe_bias(float bias);

// At least the distance between the row (a copy), of at most this norm, and the centre, and enough more that the bound
// above holds for scores computed in floats.
float safe_distance(const float* row, float norm, const float* centre, float centre_norm, std::size_t n);

}  // namespace recengine
