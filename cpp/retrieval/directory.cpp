#include "retrieval/directory.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/relaxed.hpp"

namespace recengine {

namespace {

constexpr float kUnbounded = 3e38f;  // finite: times a query of length zero it is zero
constexpr float kNever = -3e38f;

// An inner product of n floats is off by at most n 2^-24 |x| |y| (Higham, Accuracy and Stability, 3.5); the rest is for
// the handful of operations around it.
float rounding(std::size_t n) { return static_cast<float>(n + 32) * 0x1p-23f; }

// Squares below 2^-126 lose digits or vanish: by 2^-149 each, so that of 2^16 of them the root is off by less than
// this.
constexpr float kVanished = 0x1p-65f;

void raise_float(float* bound, float value) {
  if (!(value <= load_relaxed(bound))) store_relaxed(bound, value);
}

}  // namespace

float safe_norm(float norm, std::size_t n) { return std::min(norm * (1 + rounding(n)), kUnbounded); }

float safe_bias(float bias) { return bias + std::abs(bias) * 0x1p-20f; }

float safe_distance(const float* row, float norm, const float* centre, float centre_norm, std::size_t n) {
  const float reach = norm + centre_norm;
  const float square = norm * norm - 2 * active_kernels().dot(centre, row, n) + centre_norm * centre_norm;
  const float distance =
      std::sqrt(std::max(square, 0.0f) + rounding(n) * reach * reach) + rounding(n) * reach + kVanished;
  return std::isfinite(distance) ? distance : kUnbounded;
}

Directory::Directory(std::shared_ptr<const Centres> centres, std::size_t num_cells)
    : centres_(std::move(centres)),
      cells_(num_cells),
      radii_(padded(num_cells), 0.0f),
      norms_(padded(num_cells), 0.0f),
      biases_(padded(num_cells), kNever),
      spreads_(padded(num_cells), 0.0f) {}

void Directory::set_cell(std::size_t j, Cell* cell, const CellBounds& bounds) {
  cells_[j] = cell;
  radii_[j] = j < num_centres() ? bounds.radius : kUnbounded;
  norms_[j] = bounds.norm;
  biases_[j] = bounds.bias;
  spreads_[j] = bounds.spread;
}

CellBounds Directory::bounds(std::size_t j) const {
  return {load_relaxed(&radii_[j]), load_relaxed(&norms_[j]), load_relaxed(&biases_[j]), spreads_[j]};
}

void Directory::raise(std::size_t j, const float* row, float norm, float bias) {
  const std::size_t n = centres_->stride;
  if (j < num_centres()) raise_float(&radii_[j], safe_distance(row, norm, centres_->row(j), centres_->norms[j], n));
  raise_float(&norms_[j], safe_norm(norm, n));
  raise_float(&biases_[j], safe_bias(bias));
}

void Directory::multiply(const float* queries, std::size_t count, float* dots) const {
  const Kernels& kernels = active_kernels();
  const std::size_t room = padded(num_cells());
  if (count == 1) {
    kernels.scan(queries, centres_->rows.data(), nullptr, num_centres(), centres_->stride, dots);
  } else {
    kernels.scan_many(queries, count, centres_->rows.data(), nullptr, num_centres(), centres_->stride, dots, room);
  }
  for (std::size_t q = 0; q < count; ++q) std::fill(dots + q * room + num_centres(), dots + (q + 1) * room, 0.0f);
}

void Directory::bound(const float* dots, float query_norm, float* bounds, float* promises) const {
  active_kernels().bound_cells(dots, radii_.data(), norms_.data(), biases_.data(), spreads_.data(), padded(num_cells()),
                               query_norm, bounds, promises);
}

std::size_t Directory::memory_bytes() const {
  return cells_.capacity() * sizeof(Cell*) + 4 * radii_.size() * sizeof(float) + centres_->rows.size() * sizeof(float);
}

}  // namespace recengine
