#include "learner/eigen.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "storage/interrupt.hpp"

namespace recengine {

namespace {

void add_scaled(double* to, const double* from, double scale, std::size_t n) {
  for (std::size_t k = 0; k < n; ++k) to[k] += scale * from[k];
}

double dot(const double* a, const double* b, std::size_t n) {
  double sum = 0;
  for (std::size_t k = 0; k < n; ++k) sum += a[k] * b[k];
  return sum;
}

// H = 1 - scale v v^T maps v's first input to (alpha, 0, ..., 0). v comes in as the input; scale 0: H = 1.
struct Reflector {
  double alpha;
  double scale;
};

Reflector make_reflector(std::vector<double>& v) {
  const double largest =
      std::abs(*std::max_element(v.begin(), v.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
  double tail = 0;
  for (std::size_t k = 1; k < v.size(); ++k) tail = std::max(tail, std::abs(v[k]));
  if (tail <= std::numeric_limits<double>::epsilon() * 1e-3 * largest || tail == 0) return {v[0], 0};
  double square = 0;
  for (double& x : v) {
    x /= largest;  // neither squares overflow nor vanish
    square += x * x;
  }
  const double norm = v[0] > 0 ? -std::sqrt(square) : std::sqrt(square);
  v[0] -= norm;
  return {norm * largest, 1 / (square - norm * (v[0] + norm))};
}

// The QL steps on a tridiagonal matrix: `values` its diagonal, off[i] beside values[i] and values[i + 1]. Turns rows of
// `vectors` along.
void diagonalise(std::vector<double>& values, std::vector<double>& off, std::vector<double>& vectors, std::size_t n) {
  constexpr int kMostRounds = 60;  // rounds for one eigenvalue; two are usual
  for (std::size_t first = 0; first < n; ++first) {
    for (int round = 0; round < kMostRounds; ++round) {
      std::size_t last = first;  // of the block that begins here and is not split yet
      while (last + 1 < n && std::abs(off[last]) > std::numeric_limits<double>::epsilon() *
                                                       (std::abs(values[last]) + std::abs(values[last + 1]))) {
        ++last;
      }
      if (last == first) break;
      check_interrupt();
      const double half = (values[first + 1] - values[first]) / (2 * off[first]);
      const double root = std::hypot(half, 1.0);
      double g = values[last] - values[first] + off[first] / (half + (half >= 0 ? root : -root));  // Wilkinson's shift
      double sine = 1, cosine = 1, shift = 0;
      std::size_t i = last;
      while (i > first) {
        --i;
        const double f = sine * off[i], b = cosine * off[i];
        const double length = std::hypot(f, g);
        off[i + 1] = length;
        if (length == 0) {  // split by chance: what is left of the shift goes where it came from
          values[i + 1] -= shift;
          off[last] = 0;
          break;
        }
        sine = f / length;
        cosine = g / length;
        const double lifted = values[i + 1] - shift;
        const double turn = (values[i] - lifted) * sine + 2 * cosine * b;
        shift = sine * turn;
        values[i + 1] = lifted + shift;
        g = cosine * turn - b;
        double* const low = &vectors[i * n];
        double* const high = low + n;
        for (std::size_t k = 0; k < n; ++k) {
          const double x = high[k];
          high[k] = sine * low[k] + cosine * x;
          low[k] = cosine * low[k] - sine * x;
        }
        if (i == first) {
          values[first] -= shift;
          off[first] = g;
          off[last] = 0;
        }
      }
    }
  }
}

}  // namespace

Eigen eigen_decompose(std::vector<double> matrix, std::size_t n) {
  Eigen eigen{std::vector<double>(n), std::vector<double>(n * n, 0.0)};
  std::vector<double> off(n + 1, 0.0);
  std::vector<std::vector<double>> reflectors;  // number k acts on coordinates k + 1 on
  std::vector<double> scales;
  for (std::size_t k = 0; k + 2 < n; ++k) {
    check_interrupt();
    const std::size_t m = n - k - 1;
    std::vector<double> v(matrix.begin() + static_cast<std::ptrdiff_t>(k * n + k + 1),
                          matrix.begin() + static_cast<std::ptrdiff_t>((k + 1) * n));
    const auto [alpha, scale] = make_reflector(v);
    off[k] = alpha;
    if (scale != 0) {
      // A - v w^T - w v^T with p = scale A v and w = p - scale / 2 <p, v> v.
      std::vector<double> w(m, 0.0);
      double* const corner = &matrix[(k + 1) * n + k + 1];
      for (std::size_t i = 0; i < m; ++i) add_scaled(w.data(), corner + i * n, scale * v[i], m);
      add_scaled(w.data(), v.data(), -scale / 2 * dot(w.data(), v.data(), m), m);
      for (std::size_t i = 0; i < m; ++i) {
        add_scaled(corner + i * n, w.data(), -v[i], m);
        add_scaled(corner + i * n, v.data(), -w[i], m);
      }
    }
    reflectors.push_back(std::move(v));
    scales.push_back(scale);
  }
  for (std::size_t k = 0; k < n; ++k) eigen.values[k] = matrix[k * n + k];
  if (n > 1) off[n - 2] = matrix[(n - 2) * n + n - 1];

  // Rows of the product of the reflectors, transposed: the tridiagonal matrix is Q^T A Q, row i of `vectors` column i
  // of Q. Backwards, so that only the corner is full.
  for (std::size_t k = 0; k < n; ++k) eigen.vectors[k * n + k] = 1;
  for (std::size_t k = reflectors.size(); k-- > 0;) {
    check_interrupt();
    const std::vector<double>& v = reflectors[k];
    for (std::size_t i = k + 1; i < n; ++i) {
      double* const row = &eigen.vectors[i * n + k + 1];
      add_scaled(row, v.data(), -scales[k] * dot(row, v.data(), v.size()), v.size());
    }
  }
  diagonalise(eigen.values, off, eigen.vectors, n);
  return eigen;
}

}  // namespace recengine
