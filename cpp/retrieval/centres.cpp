#include "retrieval/centres.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/first_largest.hpp"
#include "kernels/kernels.hpp"
#include "storage/parallel.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {

constexpr std::size_t kTile = 24;  // vectors whose scores are held at once
constexpr int kIterations = 6;     // later ones hardly move anything

// Centres side by side, a row for each dimension, so that one product of matrices compares them with many vectors.
struct Columns {
  explicit Columns(const Centres& centres);

  std::size_t width;        // an odd number of cache lines: the rows of a strip do not share a set of the first cache
  AlignedFloats values;     // stride x width
  AlignedFloats penalties;  // -|c|^2 / 2: added to the inner product it orders centres by distance
};

Columns::Columns(const Centres& centres) : width((centres.size() + kRowPadding - 1) / kRowPadding * kRowPadding) {
  if (width / kRowPadding % 2 == 0) width += kRowPadding;
  values.assign(centres.stride * width, 0.0f);
  penalties.assign(width, -std::numeric_limits<float>::infinity());
  for (std::size_t j = 0; j < centres.size(); ++j) {
    const float* const centre = centres.row(j);
    for (std::size_t d = 0; d < centres.stride; ++d) values[d * width + j] = centre[d];
    penalties[j] = -centres.norms[j] * centres.norms[j] / 2;
  }
}

// Distinct vectors to start from, by a partial shuffle.
std::vector<std::size_t> draw_distinct(std::size_t count, std::size_t k, std::uint64_t seed) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  Random random(seed, 0);
  for (std::size_t i = 0; i < k; ++i) {
    std::swap(order[i], order[i + random.below(static_cast<std::uint32_t>(count - i))]);
  }
  order.resize(k);
  return order;
}

}  // namespace

void Centres::push(const float* centre) {
  rows.insert(rows.end(), centre, centre + stride);
  norms.push_back(std::sqrt(active_kernels().square_norm(centre, stride)));
}

void Centres::replace(std::size_t j, const float* centre) {
  std::copy_n(centre, stride, rows.data() + j * stride);
  norms[j] = std::sqrt(active_kernels().square_norm(centre, stride));
}

void nearest_centres(const Centres& centres, const float* vectors, std::size_t count, std::uint32_t* nearest) {
  const Columns columns(centres);
  const std::size_t width = columns.width;
  AlignedFloats scores(kTile * width);
  for (std::size_t first = 0; first < count; first += kTile) {
    const std::size_t tile = std::min(kTile, count - first);
    for (std::size_t v = 0; v < tile; ++v) std::ranges::copy(columns.penalties, scores.data() + v * width);
    active_kernels().multiply(vectors + first * centres.stride, centres.stride, 1, columns.values.data(),
                              centres.stride, scores.data(), tile, width);
    for (std::size_t v = 0; v < tile; ++v) {
      nearest[first + v] = first_largest({scores.data() + v * width, centres.size()});
    }
  }
}

Centres k_means(const AlignedFloats& vectors, std::size_t stride, std::size_t k, std::uint64_t seed,
                std::size_t threads, std::atomic<bool>& stop) {
  const std::size_t count = vectors.size() / stride;
  k = std::min(k, count);
  const auto vector = [&](std::size_t v) { return vectors.data() + v * stride; };
  Centres centres{stride, {}, {}};
  for (const std::size_t v : draw_distinct(count, k, seed)) centres.push(vector(v));

  std::vector<std::uint32_t> nearest(count);
  for (int iteration = 0; iteration < kIterations && !stop.load(std::memory_order_relaxed); ++iteration) {
    std::atomic<std::size_t> next{0};
    run_parallel(threads, stop, [&](std::size_t) {
      for (std::size_t first; (first = next.fetch_add(kVectorsPerCheck, std::memory_order_relaxed)) < count;) {
        if (stop.load(std::memory_order_relaxed)) return;
        nearest_centres(centres, vector(first), std::min(kVectorsPerCheck, count - first), nearest.data() + first);
      }
    });
    if (stop.load(std::memory_order_relaxed)) break;
    AlignedFloats sums(k * stride, 0.0f);
    std::vector<std::size_t> sizes(k, 0);
    for (std::size_t v = 0; v < count; ++v) {
      active_kernels().add_scaled(sums.data() + nearest[v] * stride, vector(v), 1.0f, stride);
      ++sizes[nearest[v]];
    }
    Centres moved{stride, {}, {}};
    Random random(seed, static_cast<std::uint64_t>(iteration) + 1);
    for (std::size_t j = 0; j < k; ++j) {
      float* const sum = sums.data() + j * stride;
      for (std::size_t d = 0; d < stride; ++d) sum[d] /= static_cast<float>(std::max<std::size_t>(sizes[j], 1));
      // A centre without vectors starts again at one of them.
      moved.push(sizes[j] > 0 ? sum : vector(random.below(static_cast<std::uint32_t>(count))));
    }
    centres = std::move(moved);
  }
  return centres;
}

}  // namespace recengine
