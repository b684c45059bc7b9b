// Alternating least squares against dense float64 algebra: the product of matrices, eigenvectors, the solution of one
// row on every instruction set, whole epochs, on one thread and several.
#include "learner/als.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "learner/eigen.hpp"
#include "learner/interactions.hpp"
#include "storage/interrupt.hpp"

using namespace recengine;

namespace {

using Doubles = std::vector<double>;

std::mt19937 generator(20240811);

float normal(float scale = 1) { return std::normal_distribution<float>(0, scale)(generator); }

AlignedFloats random_rows(std::size_t count, std::size_t dim, std::size_t stride, float scale) {
  AlignedFloats rows(count * stride, 0.0f);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t k = 0; k < dim; ++k) rows[r * stride + k] = normal(scale);
  }
  return rows;
}

std::size_t padded(std::size_t dim) { return (dim + kRowPadding - 1) / kRowPadding * kRowPadding; }

void check_multiply(const Kernels& kernels, std::size_t count, std::size_t depth, std::size_t n, bool across) {
  const AlignedFloats a = random_rows(1, count * depth, count * depth, 1);
  const AlignedFloats b = random_rows(depth, n, n, 1);
  AlignedFloats out = random_rows(count, n, n, 1);
  const AlignedFloats before = out;
  const std::size_t row_stride = across ? 1 : depth, stride = across ? count : 1;
  kernels.multiply(a.data(), row_stride, stride, b.data(), depth, out.data(), count, n);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      double sum = double{before[i * n + j]}, magnitude = std::abs(sum);
      for (std::size_t k = 0; k < depth; ++k) {
        const double term = double{a[i * row_stride + k * stride]} * double{b[k * n + j]};
        sum += term;
        magnitude += std::abs(term);
      }
      CHECK_NEAR(double{out[i * n + j]}, sum, magnitude * 0x1p-24 * static_cast<double>(depth + 2));
    }
  }
}

void check_gramian(const Kernels& kernels, std::size_t count, std::size_t n) {
  const AlignedFloats rows = random_rows(count, n, n, 1);
  AlignedFloats out = random_rows(n, n, n, 1);
  const AlignedFloats before = out;
  kernels.gramian(rows.data(), count, out.data(), n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i; j < n; ++j) {
      double sum = double{before[i * n + j]}, magnitude = std::abs(sum);
      for (std::size_t r = 0; r < count; ++r) {
        const double term = double{rows[r * n + i]} * double{rows[r * n + j]};
        sum += term;
        magnitude += std::abs(term);
      }
      CHECK_NEAR(double{out[i * n + j]}, sum, magnitude * 0x1p-24 * static_cast<double>(count + 2));
    }
  }
}

void check_eigen(std::size_t n, bool defective) {
  Doubles matrix(n * n);
  double scale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      // Of rank one, with many eigenvalues zero; or anything.
      const double value = defective ? double(1 + i % 3) * double(1 + j % 3) : double{normal()};
      matrix[i * n + j] = matrix[j * n + i] = value;
      scale += value * value;
    }
  }
  const double tolerance = 1e-12 * (1 + std::sqrt(scale));
  const Eigen eigen = eigen_decompose(matrix, n);
  for (std::size_t e = 0; e < n; ++e) {
    const double* const v = &eigen.vectors[e * n];
    for (std::size_t i = 0; i < n; ++i) {
      double product = 0;
      for (std::size_t j = 0; j < n; ++j) product += matrix[i * n + j] * v[j];
      CHECK_NEAR(product, eigen.values[e] * v[i], tolerance);
    }
    for (std::size_t f = 0; f < n; ++f) {
      double product = 0;
      for (std::size_t i = 0; i < n; ++i) product += v[i] * eigen.vectors[f * n + i];
      CHECK_NEAR(product, e == f ? 1.0 : 0.0, 1e-12 * static_cast<double>(n));
    }
  }
}

// The solution of matrix * x = x, in place, by elimination with pivots.
void solve_dense(Doubles matrix, Doubles& x) {
  const std::size_t n = x.size();
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c; r < n; ++r) {
      if (std::abs(matrix[r * n + c]) > std::abs(matrix[pivot * n + c])) pivot = r;
    }
    for (std::size_t k = 0; k < n; ++k) std::swap(matrix[c * n + k], matrix[pivot * n + k]);
    std::swap(x[c], x[pivot]);
    for (std::size_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double factor = matrix[r * n + c] / matrix[c * n + c];
      for (std::size_t k = c; k < n; ++k) matrix[r * n + k] -= factor * matrix[c * n + k];
      x[r] -= factor * x[c];
    }
  }
  for (std::size_t c = 0; c < n; ++c) x[c] /= matrix[c * n + c];
}

void check_solve_row(const Kernels& kernels, std::size_t dim, std::size_t count) {
  const std::size_t n = padded(dim);
  const AlignedFloats rows = random_rows(count, dim, n, 0.5f);
  std::vector<const float*> chosen;
  std::vector<float> weights;
  for (std::size_t r = 0; r < count; ++r) {
    chosen.push_back(&rows[r * n]);
    weights.push_back(0.5f + static_cast<float>(r % 4));
  }
  AlignedFloats common(n, 0.0f);
  for (std::size_t k = 0; k < dim; ++k) common[k] = 10.0f / static_cast<float>(1 + k);
  const LeastSquares problem{chosen.data(), weights.data(), count, common.data(), 0.3f, 200, 1e-7f};
  AlignedFloats x = random_rows(1, dim, n, 1), work(3 * n);
  kernels.solve_row(problem, x.data(), work.data(), n);

  Doubles matrix(dim * dim, 0.0), expected(dim, 0.0);
  for (std::size_t k = 0; k < dim; ++k) matrix[k * dim + k] = double{common[k]} + double{problem.ridge};
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t i = 0; i < dim; ++i) {
      expected[i] += double{weights[r]} * double{chosen[r][i]};
      for (std::size_t j = 0; j < dim; ++j) {
        matrix[i * dim + j] += double{weights[r]} * double{chosen[r][i]} * double{chosen[r][j]};
      }
    }
  }
  solve_dense(matrix, expected);
  for (std::size_t k = 0; k < n; ++k) CHECK_NEAR(double{x[k]}, k < dim ? expected[k] : 0.0, 2e-5);
}

// What an epoch minimises.
double loss(const Interactions& pairs, const AlsSettings& settings, const AlignedFloats& users,
            const AlignedFloats& items, std::size_t n) {
  double sum = 0;
  const auto square = [n](const AlignedFloats& rows, std::size_t r) {
    double total = 0;
    for (std::size_t k = 0; k < n; ++k) total += double{rows[r * n + k]} * double{rows[r * n + k]};
    return total;
  };
  const Interactions by_item = pairs.transposed();
  for (std::size_t u = 0; u < pairs.num_rows(); ++u) {
    std::size_t next = 0;
    for (std::size_t i = 0; i < pairs.num_others(); ++i) {
      double score = 0;
      for (std::size_t k = 0; k < n; ++k) score += double{users[u * n + k]} * double{items[i * n + k]};
      sum += double{settings.unobserved_weight} * score * score;
      if (next < pairs.size(u) && pairs.others(u)[next] == i) {
        sum += double{pairs.weights(u)[next++]} * (score - 1) * (score - 1);
      }
    }
    sum += double{als_ridge(settings, pairs.size(u), pairs.num_others())} * square(users, u);
  }
  for (std::size_t i = 0; i < pairs.num_others(); ++i) {
    sum += double{als_ridge(settings, by_item.size(i), pairs.num_rows())} * square(items, i);
  }
  return sum;
}

struct Data {
  std::vector<std::uint32_t> users, items;
  std::vector<float> weights;
};

Data random_pairs(std::size_t count, std::size_t users, std::size_t items) {
  Data data;
  for (std::size_t k = 0; k < count; ++k) {
    data.users.push_back(static_cast<std::uint32_t>(generator() % users));
    data.items.push_back(static_cast<std::uint32_t>((generator() % items) * (generator() % items) / items));
    data.weights.push_back(static_cast<float>(1 + generator() % 3));
  }
  return data;
}

void check_interactions() {
  const Data data = random_pairs(500, 30, 20);
  const Interactions pairs(data.users, data.items, data.weights.data(), 31, 20);
  std::vector<float> expected(31 * 20, 0.0f), actual(31 * 20, 0.0f), transposed(31 * 20, 0.0f);
  for (std::size_t k = 0; k < 500; ++k) expected[data.users[k] * 20 + data.items[k]] += data.weights[k];
  const auto unroll = [](const Interactions& from, std::vector<float>& to, std::size_t row_step, std::size_t step) {
    std::size_t size = 0;
    for (std::size_t r = 0; r < from.num_rows(); ++r) {
      CHECK(std::adjacent_find(from.others(r).begin(), from.others(r).end(), std::greater_equal<>()) ==
            from.others(r).end());
      for (std::size_t k = 0; k < from.size(r); ++k) to[r * row_step + from.others(r)[k] * step] = from.weights(r)[k];
      size += from.size(r);
    }
    CHECK(size == from.size());
  };
  unroll(pairs, actual, 20, 1);
  unroll(pairs.transposed(), transposed, 1, 20);
  CHECK(actual == expected);
  CHECK(transposed == expected);
  CHECK(pairs.size(30) == 0);
}

// With steps enough each half of an epoch is the exact minimum over one side: no row can be moved to a lower loss. And
// whatever the number of steps, the loss falls, and threads change nothing.
void check_epochs(std::size_t dim) {
  const std::size_t kUsers = 150, kItems = 90, n = padded(dim);
  const Data data = random_pairs(2000, kUsers, kItems);
  const Interactions pairs(data.users, data.items, data.weights.data(), kUsers, kItems);
  AlsSettings settings{0.05f, 0.02f, 0.7f, 100};
  const AlignedFloats first_users(kUsers * n, 0.0f), first_items = random_rows(kItems, dim, n, 0.1f);
  {
    Als exact(pairs, settings);
    AlignedFloats users = first_users, items = first_items;
    CHECK(exact.run_epoch(users, items, dim, 1));
    const double least = loss(pairs, settings, users, items, n);
    for (int trial = 0; trial < 30; ++trial) {
      AlignedFloats moved = items;
      for (std::size_t k = 0; k < dim; ++k) moved[(generator() % kItems) * n + k] += normal(0.01f);
      CHECK(loss(pairs, settings, users, moved, n) > least - 1e-4);
    }
  }
  settings.steps = 2;
  Als als(pairs, settings), on_three(pairs, settings);
  AlignedFloats users = first_users, items = first_items, users3 = users, items3 = items;
  double before = loss(pairs, settings, users, items, n);
  for (int epoch = 0; epoch < 6; ++epoch) {
    CHECK(als.run_epoch(users, items, dim, 1));
    CHECK(on_three.run_epoch(users3, items3, dim, 3));
    const double now = loss(pairs, settings, users, items, n);
    CHECK(now < before + 1e-3);
    before = now;
  }
  CHECK(users == users3);
  CHECK(items == items3);

  // Where rows are put back after each epoch they go through the same coordinates as where that is done once.
  Als often(pairs, settings);
  AlignedFloats users1 = first_users, items1 = first_items;
  for (int epoch = 0; epoch < 6; ++epoch) {
    CHECK(often.run_epoch(users1, items1, dim, 1));
    often.settle(users1, items1, 1);
  }
  als.settle(users, items, 2);
  for (const auto& [one, other] : {std::pair(&users, &users1), std::pair(&items, &items1)}) {
    for (std::size_t k = 0; k < one->size(); ++k) CHECK_NEAR((*one)[k], (*other)[k], 1e-3);
    for (std::size_t k = 0; k < one->size(); ++k) CHECK(k % n < dim || (*one)[k] == 0.0f);
  }
  const AlignedFloats settled = users;
  als.settle(users, items, 1);
  CHECK(users == settled);
}

class Always : public Interrupt {
 public:
  bool requested() override { return true; }
};

void check_interrupt_stops() {
  const Data data = random_pairs(3000, 500, 90);
  const Interactions pairs(data.users, data.items, nullptr, 500, 90);
  Als als(pairs, {});
  AlignedFloats users(500 * 16, 0.0f), items = random_rows(90, 16, 16, 0.1f);
  const AlignedFloats before = items;
  Always always;
  const InterruptScope scope(always);
  CHECK(!als.run_epoch(users, items, 16, 2));
  CHECK(items == before);
}

void check_settings() {
  const auto refused = [](AlsSettings settings) { CHECK_THROWS(std::invalid_argument, (settings.validate(), 0)); };
  refused({-1, 0.1f, 1, 3});
  refused({0.1f, 0, 1, 3});
  refused({0.1f, NAN, 1, 3});
  refused({0.1f, 0.1f, 3, 3});
  refused({0.1f, 0.1f, 1, 0});
}

}  // namespace

int main() {
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    const Kernels& kernels = active_kernels();
    for (const bool across : {false, true}) {
      check_multiply(kernels, 1, 1, 16, across);
      check_multiply(kernels, 7, 300, 64, across);
      check_multiply(kernels, 13, 5, 112, across);
      if (!across) {
        check_gramian(kernels, 300, 112);
        check_gramian(kernels, 7, 64);
        check_gramian(kernels, 1, 16);
        check_gramian(kernels, 0, 16);
      }
    }
    for (const std::size_t count : {0u, 1u, 3u, 4u, 9u, 200u}) {
      check_solve_row(kernels, 10, count);
      check_solve_row(kernels, 64, count);
      check_solve_row(kernels, 70, count);
    }
  }
  select_kernels("");
  for (const std::size_t n : {1u, 2u, 3u, 17u, 64u}) {
    check_eigen(n, false);
    check_eigen(n, true);
  }
  check_interactions();
  check_epochs(10);
  check_epochs(64);
  check_interrupt_stops();
  check_settings();
}
