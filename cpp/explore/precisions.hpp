// Precisions: how sure the engine may be of scores, from what it has shown. The weights of a score, x_u in <x_u, q_i>,
// are taken as normally distributed around what is learned, with the covariance of Bayesian linear regression on the
// rows that were shown (the last layer's Laplace approximation; Chapelle and Li 2011, "An empirical evaluation of
// Thompson sampling", algorithm 3, and Li et al. 2010, LinUCB): precision I + sum of q q^T, of which older terms fade.
//   diagonal   of each user, the diagonal alone: a float for each coordinate of the row; it fades by kKept an item
//   shared     of all users together, the whole matrix; it fades by kKeptShared an item. Kept from the first list on
//   that
//              a policy with it has shown
// An item's bias is taken as independent of all that, with the precision 1 + how often the item was shown to anybody,
// which fades by kKept each time: rows are short until something is learned, so that by them alone what is new would
// look well known.
//
// Thread safety: every method from any thread; of two that show an item at the same instant one may not count. A user's
// row must not be recycled meanwhile: `observe` under a writer's pin, `forget` while writers are paused. Items: columns
// of the item table (EmbeddingTable::attach).
#pragma once

#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/relaxed.hpp"
#include "storage/aligned.hpp"
#include "storage/chunked.hpp"
#include "storage/id_map.hpp"
#include "storage/process.hpp"

namespace recengine {

class Precisions {
 public:
  static constexpr float kKept = 0.999f;
  static constexpr float kKeptShared = 0.99999f;
  static constexpr std::size_t kMaxSharedDim = 256;

  explicit Precisions(std::size_t stride) : stride_(stride) {}

  // These rows (count x stride) were shown to the user; kNoRow: to nobody known, which the shared matrix counts too.
  void observe(Row user, const float* rows, std::size_t count);
  void forget(Row user);

  void reserve_items(std::size_t items) { shown_.reserve(items); }
  void wipe_item(Row item) { store_relaxed(&shown_[item], 0); }
  void observe_items(std::span<const Row> items) {
    for (const Row item : items) store_relaxed(&shown_[item], load_relaxed(&shown_[item]) * kKept + 1);
  }
  // 1 / sqrt(precision of the item's bias)
  float bias_deviation(Row item) const { return 1 / std::sqrt(1 + load_relaxed(&shown_[item])); }

  // deviations[k] = 1 / sqrt(precision of coordinate k), `stride` of them.
  void load_deviations(Row user, float* deviations) const;
  // A matrix F (stride x stride) with F F^T the covariance, as of the last refresh: after each power of two items, and
  // each `refresh interval` of them. The prior's before `keep_shared`. Throws std::invalid_argument for rows too long.
  std::shared_ptr<const AlignedFloats> shared_factor() const;
  void check_shared() const;  // throws the same
  void keep_shared();         // from now on. REQUIRES: check_shared

  // Everything, for saving and the way back: what it holds of a user, and the shared matrix with its factor, if it is
  // kept; without the padding of rows. REQUIRES: nobody shows anything meanwhile.
  float shown(Row item) const { return load_relaxed(&shown_[item]); }
  void restore_shown(Row item, float shown) { store_relaxed(&shown_[item], shown); }
  std::vector<Row> known_users() const;         // of which there are sums, ascending
  std::span<const float> sums(Row user) const;  // none: empty
  void restore_sums(Row user, std::span<const float> sums);
  struct Shared {
    std::uint64_t observed = 0;
    std::vector<double> matrix;  // dim x dim, the lower triangle; empty: not kept
    std::vector<float> factor;
  };
  Shared shared(std::size_t dim) const;
  void restore_shared(const Shared& shared, std::size_t dim);
  static constexpr float kMostSum = 1e30f;    // of squares: beyond it a coordinate is as good as known
  static constexpr float kMostFactor = 1e6f;  // of an element of F, which is at most 1 but for rounding over huge rows

  std::size_t memory_bytes() const;

 private:
  static constexpr std::size_t kShards = 64;

  struct alignas(64) Shard {
    mutable ForkMutex mutex;
    std::unordered_map<Row, std::vector<float>> sums;  // GUARDED_BY(mutex): of squares, without the prior
  };

  void observe_shared(const float* rows, std::size_t count);
  AlignedFloats factor() const;
  AlignedFloats prior() const;
  std::size_t refresh_interval() const { return stride_ < 64 ? 256 : 4 * stride_; }

  const std::size_t stride_;
  Column<float> shown_;  // of each item, how often; fading
  std::array<Shard, kShards> shards_;

  // Relaxed: who finds it unset a moment too late leaves out one impression.
  std::atomic<bool> is_shared_{false};
  mutable ForkMutex mutex_;
  std::vector<double> matrix_;                    // GUARDED_BY(mutex_): the lower triangle, without the prior
  std::size_t observed_ = 0;                      // GUARDED_BY(mutex_)
  std::shared_ptr<const AlignedFloats> current_;  // GUARDED_BY(mutex_)
};

}  // namespace recengine
