// A table of items and rows made for it, of many shapes, written as users of the engine would.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>

#include "check.hpp"
#include "kernels/relaxed.hpp"
#include "retrieval/top_k.hpp"
#include "storage/aligned.hpp"
#include "storage/embedding_table.hpp"
#include "storage/epoch.hpp"
#include "storage/fence.hpp"

namespace recengine {

enum class Shape { kGaussian, kSkewed, kClustered, kEqualNorms, kDuplicates, kZeros, kHuge, kTiny, kOpposed };
inline constexpr Shape kShapes[] = {Shape::kGaussian,   Shape::kSkewed,     Shape::kClustered,
                                    Shape::kEqualNorms, Shape::kDuplicates, Shape::kZeros,
                                    Shape::kHuge,       Shape::kTiny,       Shape::kOpposed};

class MadeTable {
 public:
  MadeTable(std::size_t dim, Shape shape, unsigned seed, Storage storage = Storage::kFp32)
      : items(domain, dim, {seed, 0.0f}, storage), random(seed), shape_(shape) {}

  AlignedFloats draw() {
    AlignedFloats row(items.stride(), 0.0f);
    const std::size_t dim = items.dim();
    for (std::size_t d = 0; d < dim; ++d) row[d] = normal(random);
    float scale = 1;
    if (shape_ == Shape::kSkewed) scale = std::exp(1.5f * normal(random));
    if (shape_ == Shape::kHuge) scale = random() % 5 == 0 ? 1e14f : 1e-30f;
    if (shape_ == Shape::kTiny) scale = random() % 2 == 0 ? 3e-23f : 1e-24f;  // squares vanish
    if (shape_ == Shape::kZeros) scale = random() % 3 == 0 ? 1.0f : 0.0f;
    if (shape_ == Shape::kEqualNorms) {
      float square = 0;
      for (std::size_t d = 0; d < dim; ++d) square += row[d] * row[d];
      scale = square > 0 ? 1 / std::sqrt(square) : 0.0f;
    }
    if (shape_ == Shape::kClustered || shape_ == Shape::kDuplicates) {
      std::mt19937 centre(random() % 20);
      const float noise = shape_ == Shape::kDuplicates ? 0.0f : 0.1f;
      for (std::size_t d = 0; d < dim; ++d) row[d] = normal(centre) + noise * row[d];
    }
    if (shape_ == Shape::kOpposed) {  // the best of one direction is the worst of the other
      for (std::size_t d = 1; d < dim; ++d) row[d] *= 1e-3f;
    }
    for (std::size_t d = 0; d < dim; ++d) row[d] *= scale;
    return row;
  }

  // As the rows are, or, where these are tiny, of an ordinary length.
  AlignedFloats draw_query() {
    AlignedFloats query = draw();
    if (shape_ != Shape::kTiny) return query;
    for (std::size_t d = 0; d < items.dim(); ++d) query[d] = normal(random);
    return query;
  }

  void write(std::int64_t id, const AlignedFloats& values, float bias) {
    const auto pin = domain.pin_writer();
    const Row row = items.find_or_insert(id);
    items.rows.store(row, values.data());
    store_relaxed(&items.bias[row], bias);
    full_fence();
    items.mark_replaced(row);
  }
  void write(std::int64_t id) { write(id, draw(), with_biases && random() % 2 == 0 ? 3 * normal(random) : 0.0f); }
  void fill(std::int64_t count) {
    for (std::int64_t id = 0; id < count; ++id) write(id);
  }
  void remove(std::int64_t id) {
    const auto pause = domain.pause_writers();
    const Row row = items.erase(id);
    if (row != kNoRow) items.recycle({row});
  }

  static void check_same(TopK<float> expected, TopK<float> found) {
    const auto wanted = expected.take_sorted(), result = found.take_sorted();
    CHECK(wanted.size() == result.size());
    for (std::size_t i = 0; i < result.size(); ++i) {
      CHECK(result[i].row == wanted[i].row && result[i].score == wanted[i].score);
    }
  }

  bool with_biases = true;
  EpochDomain domain;
  EmbeddingTable items;
  std::mt19937 random;
  std::normal_distribution<float> normal;

 private:
  const Shape shape_;
};

}  // namespace recengine
