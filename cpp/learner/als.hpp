// Implicit alternating least squares (Hu, Koren and Volinsky 2008) with the regularisation of Rendle, Krichene, Zhang
// and Koren 2021 ("Revisiting the performance of iALS on item recommendation benchmarks"). Minimised over user rows x_u
// and item rows q_i is
//   sum over pairs w_ui (<x_u, q_i> - 1)^2 + w0 sum over all u, i of <x_u, q_i>^2
//     + sum_u l2 (n_u + w0 items)^e |x_u|^2 + sum_i l2 (n_i + w0 users)^e |q_i|^2
// with w0 the unobserved weight and n the number of a row's pairs; users first, then items, in each epoch.
//
// A row's normal equations are (w0 G + l2 (..)^e I + sum w q q^T) x = sum w q, with the Gramian G = sum of all q q^T.
// What is common to all rows, G, is diagonal in the basis of its eigenvectors. There the rows are solved by a few
// preconditioned conjugate gradients (kernels/least_squares.inl) from where they are, at a cost of O(pairs * dim) a
// step; into it they go by one product of matrices. Turned alike, users and items score as before: they stay there, and
// go back to the coordinates that they came in once for many epochs (`settle`).
//
// Thread safety: one thread at a time, which takes others to help.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "learner/als_settings.hpp"
#include "learner/interactions.hpp"
#include "storage/aligned.hpp"

namespace recengine {

// Coordinates in which the Gramian of some rows is diagonal. n is the stride.
struct GramianBasis {
  AlignedFloats vectors;     // (n, n), zero where padded: x_here = x * vectors
  AlignedFloats transposed;  // and back: x = x_here * transposed
  AlignedFloats values;      // (n): the diagonal
};

// `size` private rows from row `first` on, one behind the other; `room` is the calling thread's, to copy them into.
using RowSource = std::function<const float*(std::size_t first, std::size_t size, AlignedFloats& room)>;

// Of `count` rows. Returns what it has, unfinished, once `stop` is set.
GramianBasis gramian_basis(const RowSource& rows, std::size_t count, std::size_t dim, std::size_t stride,
                           std::size_t threads, std::atomic<bool>& stop);

// l2 (pairs + w0 others)^e
float als_ridge(const AlsSettings& settings, std::size_t pairs, std::size_t others);

class Als {
 public:
  Als(const Interactions& by_user, const AlsSettings& settings);

  // Rows are (count, stride), their padding zero, and the same in every call. True if it came to the end; otherwise,
  // after an interrupt, each row is what it was or solved anew. Either way all of them may have been turned alike.
  bool run_epoch(AlignedFloats& users, AlignedFloats& items, std::size_t dim, std::size_t threads);
  // Turns the rows, which run_epoch left so, to the coordinates in which the first epoch, or the one after the last
  // call, found them.
  void settle(AlignedFloats& users, AlignedFloats& items, std::size_t threads);

 private:
  bool solve_side(const Interactions& pairs, AlignedFloats& rows, AlignedFloats& others, std::size_t dim,
                  std::size_t threads);
  void turned_by(const AlignedFloats& vectors, std::size_t n);

  const Interactions& by_user_;
  const Interactions by_item_;
  const AlsSettings settings_;
  AlignedFloats back_;  // (n, n): what turns the rows back; empty where there is nothing to turn
};

}  // namespace recengine
