// Eigenvectors of a symmetric matrix: Householder's reduction to tridiagonal form, then the implicit QL algorithm
// (Bowdler, Martin, Reinsch and Wilkinson 1968; Golub and Van Loan, Matrix Computations, 8.3).
//
// Thread safety: a function of its arguments.
#pragma once

#include <cstddef>
#include <vector>

namespace recengine {

struct Eigen {
  std::vector<double> values;   // (n), in no order
  std::vector<double> vectors;  // (n, n): row i is the unit eigenvector of values[i]
};

// Of the symmetric matrix (n, n), given whole. About 5 n^3 multiply-adds. Throws Interrupted where the thread's
// Interrupt asks for it. REQUIRES: finite numbers.
Eigen eigen_decompose(std::vector<double> matrix, std::size_t n);

}  // namespace recengine
