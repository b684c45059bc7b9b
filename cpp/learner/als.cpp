#include "learner/als.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "kernels/kernels.hpp"
#include "learner/eigen.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/parallel.hpp"

namespace recengine {

namespace {

constexpr std::size_t kRowTile = 64;       // rows that a thread takes at a time
constexpr std::size_t kGramianRows = 256;  // summed in floats before they go into the doubles
constexpr std::size_t kAhead = 128;        // of a row's pairs, and floats of each, that are fetched ahead
constexpr std::size_t kAheadFloats = 256;
constexpr float kTolerance = 1e-6f;  // of the residual: as exact as floats get

void check_range(const char* name, float value, float low, float high) {
  if (value >= low && value <= high) return;
  throw std::invalid_argument(message(name, " must be between ", low, " and ", high, ", not ", value));
}

// Calls work(first, size) for tiles of [0, count), each once, on all threads; once `stop` is set no more of them,
// unless all of them have to be.
template <class Work>
void for_tiles(std::size_t count, std::size_t tile, std::size_t threads, std::atomic<bool>& stop, Work work,
               bool to_the_end = false) {
  std::atomic<std::size_t> next{0};
  const std::size_t tiles = (count + tile - 1) / tile;
  run_parallel(std::clamp<std::size_t>(tiles, 1, threads), stop, [&](std::size_t) {
    auto work_here = work;  // with its own memory
    // Relaxed: which tile is whose; what they write is read once all have ended.
    for (std::size_t t; (to_the_end || !stop.load(std::memory_order_relaxed)) &&
                        (t = next.fetch_add(1, std::memory_order_relaxed)) < tiles;) {
      work_here(t * tile, std::min(tile, count - t * tile));
      if (interrupt_requested()) stop.store(true, std::memory_order_relaxed);
    }
  });
}

void prefetch(const Interactions& pairs, std::size_t row, const float* others, std::size_t stride) {
  const auto ahead = pairs.others(row);
  for (std::size_t k = 0; k < std::min(ahead.size(), kAhead); ++k) {
    for (std::size_t d = 0; d < std::min(stride, kAheadFloats); d += kRowPadding) {
      __builtin_prefetch(others + ahead[k] * stride + d, 0, 2);
    }
  }
}

}  // namespace

void AlsSettings::validate() const {
  check_range("unobserved_weight", unobserved_weight, 0, 1e6f);
  check_range("l2", l2, 1e-12f, 1e6f);
  check_range("l2_exponent", l2_exponent, 0, 2);
  if (steps < 1 || steps > 1000) throw std::invalid_argument(message("steps must be between 1 and 1000, not ", steps));
}

float als_ridge(const AlsSettings& settings, std::size_t pairs, std::size_t others) {
  const double load = static_cast<double>(pairs) + double{settings.unobserved_weight} * static_cast<double>(others);
  return static_cast<float>(std::clamp(settings.l2 * std::pow(load, settings.l2_exponent), 1e-12, 1e30));
}

GramianBasis gramian_basis(const RowSource& rows, std::size_t count, std::size_t dim, std::size_t stride,
                           std::size_t threads, std::atomic<bool>& stop) {
  const Kernels& kernels = active_kernels();
  std::vector<double> gramian(dim * dim, 0.0);
  // A part for each range of rows, whatever the number of threads: sums do not depend on who formed them.
  const std::size_t blocks = (count + kGramianRows - 1) / kGramianRows;
  constexpr std::size_t kParts = 16;
  std::vector<std::vector<double>> parts(std::min(kParts, std::max<std::size_t>(blocks, 1)));
  for_tiles(parts.size(), 1, threads, stop,
            [&, sums = AlignedFloats(), room = AlignedFloats()](std::size_t part, std::size_t) mutable {
              parts[part].assign(dim * dim, 0.0);
              for (std::size_t b = part; b < blocks && !stop.load(std::memory_order_relaxed); b += parts.size()) {
                sums.assign(stride * stride, 0.0f);
                const std::size_t size = std::min(kGramianRows, count - b * kGramianRows);
                const float* const block = rows(b * kGramianRows, size, room);
                kernels.gramian(block, size, sums.data(), stride);
                for (std::size_t i = 0; i < dim; ++i) {
                  for (std::size_t j = i; j < dim; ++j) parts[part][i * dim + j] += double{sums[i * stride + j]};
                }
                if (interrupt_requested()) stop.store(true, std::memory_order_relaxed);
              }
            });
  GramianBasis basis{AlignedFloats(stride * stride, 0.0f), AlignedFloats(stride * stride, 0.0f),
                     AlignedFloats(stride, 0.0f)};
  if (stop.load(std::memory_order_relaxed)) return basis;
  for (const auto& part : parts) {
    for (std::size_t k = 0; k < dim * dim; ++k) gramian[k] += part[k];
  }
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = 0; j < i; ++j) gramian[i * dim + j] = gramian[j * dim + i];
  }
  const Eigen eigen = eigen_decompose(std::move(gramian), dim);
  for (std::size_t i = 0; i < dim; ++i) {
    basis.values[i] = static_cast<float>(std::max(eigen.values[i], 0.0));
    for (std::size_t k = 0; k < dim; ++k) {
      const auto coordinate = static_cast<float>(eigen.vectors[i * dim + k]);
      basis.vectors[k * stride + i] = coordinate;
      basis.transposed[i * stride + k] = coordinate;
    }
  }
  return basis;
}

Als::Als(const Interactions& by_user, const AlsSettings& settings)
    : by_user_(by_user), by_item_(by_user.transposed()), settings_(settings) {
  settings_.validate();
}

bool Als::run_epoch(AlignedFloats& users, AlignedFloats& items, std::size_t dim, std::size_t threads) {
  return solve_side(by_user_, users, items, dim, threads) && solve_side(by_item_, items, users, dim, threads);
}

// back_ = vectors^T back_
void Als::turned_by(const AlignedFloats& vectors, std::size_t n) {
  AlignedFloats product(n * n, 0.0f);
  if (back_.empty()) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t k = 0; k < n; ++k) product[i * n + k] = vectors[k * n + i];
    }
  } else {
    active_kernels().multiply(vectors.data(), 1, n, back_.data(), n, product.data(), n, n);
  }
  back_ = std::move(product);
}

void Als::settle(AlignedFloats& users, AlignedFloats& items, std::size_t threads) {
  if (back_.empty()) return;
  std::size_t n = 0;
  while (n * n < back_.size()) n += kRowPadding;
  std::atomic<bool> never{false};
  for (AlignedFloats* const rows : {&users, &items}) {
    for_tiles(
        rows->size() / n, kRowTile, threads, never,
        [&, tile = AlignedFloats(kRowTile * n)](std::size_t first, std::size_t size) mutable {
          std::fill(tile.begin(), tile.end(), 0.0f);
          active_kernels().multiply(&(*rows)[first * n], n, 1, back_.data(), n, tile.data(), size, n);
          std::copy_n(tile.begin(), size * n, rows->begin() + static_cast<std::ptrdiff_t>(first * n));
        },
        true);
  }
  back_.clear();
}

bool Als::solve_side(const Interactions& pairs, AlignedFloats& rows, AlignedFloats& others, std::size_t dim,
                     std::size_t threads) {
  const Kernels& kernels = active_kernels();
  const std::size_t n = pairs.num_others() == 0 ? 0 : others.size() / pairs.num_others();
  if (n == 0) return true;
  std::atomic<bool> stop{false};
  const auto in_place = [&](std::size_t first, std::size_t, AlignedFloats&) { return &others[first * n]; };
  const GramianBasis basis = gramian_basis(in_place, pairs.num_others(), dim, n, threads, stop);
  AlignedFloats common = basis.values;
  for (float& value : common) value *= settings_.unobserved_weight;

  AlignedFloats turned(others.size(), 0.0f);
  for_tiles(pairs.num_others(), kRowTile, threads, stop, [&](std::size_t first, std::size_t size) {
    kernels.multiply(&others[first * n], n, 1, basis.vectors.data(), dim, &turned[first * n], size, n);
  });
  if (stop.load(std::memory_order_relaxed)) return false;
  // Numbers too large for floats leave all as it was.
  if (!std::isfinite(kernels.square_norm(turned.data(), turned.size()))) return true;
  others = std::move(turned);
  turned_by(basis.vectors, n);

  // From here on every row has to be turned too: after an interrupt that is all that is done to the others.
  for_tiles(
      pairs.num_rows(), kRowTile, threads, stop,
      [&, here = AlignedFloats(kRowTile * n), work = AlignedFloats(4 * n), chosen = std::vector<const float*>()](
          std::size_t first, std::size_t size) mutable {
        std::fill(here.begin(), here.end(), 0.0f);
        kernels.multiply(&rows[first * n], n, 1, basis.vectors.data(), dim, here.data(), size, n);
        for (std::size_t r = 0; r < size && !stop.load(std::memory_order_relaxed); ++r) {
          if (first + r + 1 < pairs.num_rows()) prefetch(pairs, first + r + 1, others.data(), n);
          const auto mine = pairs.others(first + r);
          chosen.resize(mine.size());
          for (std::size_t k = 0; k < mine.size(); ++k) chosen[k] = &others[mine[k] * n];
          const LeastSquares problem{chosen.data(),
                                     pairs.weights(first + r).data(),
                                     mine.size(),
                                     common.data(),
                                     als_ridge(settings_, mine.size(), pairs.num_others()),
                                     settings_.steps,
                                     kTolerance};
          float* const row = &here[r * n];
          float* const before = &work[3 * n];
          std::copy_n(row, n, before);
          kernels.solve_row(problem, row, work.data(), n);
          // Numbers too large for floats leave the row as it was.
          if (!std::isfinite(kernels.square_norm(row, n))) std::copy_n(before, n, row);
        }
        std::copy_n(here.begin(), size * n, rows.begin() + static_cast<std::ptrdiff_t>(first * n));
      },
      true);
  return !stop.load(std::memory_order_relaxed);
}

}  // namespace recengine
