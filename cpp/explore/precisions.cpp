#include "explore/precisions.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "storage/message.hpp"

namespace recengine {

void Precisions::observe(Row user, const float* rows, std::size_t count) {
  if (is_shared_.load(std::memory_order_relaxed)) observe_shared(rows, count);
  if (user == kNoRow) return;
  Shard& shard = shards_[user % kShards];
  const std::lock_guard lock(shard.mutex);
  std::vector<float>& sums = shard.sums.try_emplace(user, stride_, 0.0f).first->second;
  for (std::size_t r = 0; r < count; ++r) {
    const float* const row = rows + r * stride_;
    for (std::size_t k = 0; k < stride_; ++k) {
      sums[k] = std::min(sums[k] * kKept + row[k] * row[k], kMostSum);
    }
  }
}

void Precisions::forget(Row user) {
  Shard& shard = shards_[user % kShards];
  const std::lock_guard lock(shard.mutex);
  shard.sums.erase(user);
}

void Precisions::load_deviations(Row user, float* deviations) const {
  for (std::size_t k = 0; k < stride_; ++k) deviations[k] = 1;
  if (user == kNoRow) return;
  const Shard& shard = shards_[user % kShards];
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.sums.find(user);
  if (found == shard.sums.end()) return;
  for (std::size_t k = 0; k < stride_; ++k) deviations[k] = 1 / std::sqrt(1 + found->second[k]);
}

void Precisions::observe_shared(const float* rows, std::size_t count) {
  const std::lock_guard lock(mutex_);
  bool is_due = false;
  for (std::size_t r = 0; r < count; ++r) {
    const float* const row = rows + r * stride_;
    for (std::size_t i = 0; i < stride_; ++i) {
      double* const line = matrix_.data() + i * stride_;
      for (std::size_t j = 0; j <= i; ++j) {
        line[j] = line[j] * double{kKeptShared} + double{row[i]} * double{row[j]};
      }
    }
    ++observed_;
    is_due |= std::has_single_bit(observed_) || observed_ % refresh_interval() == 0;
  }
  if (!is_due) return;
  AlignedFloats next = factor();
  const auto is_sound = [](float value) { return std::abs(value) <= kMostFactor; };  // also false for NaN
  // Over rows so huge that rounding spoils it, what was known before goes on.
  if (std::all_of(next.begin(), next.end(), is_sound))
    current_ = std::make_shared<const AlignedFloats>(std::move(next));
}

// With the precision L L^T (Cholesky), F = L^-T.
AlignedFloats Precisions::factor() const {
  std::vector<double> lower = matrix_, inverse(stride_ * stride_, 0.0);
  for (std::size_t i = 0; i < stride_; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = lower[i * stride_ + j] + (i == j ? 1 : 0);
      for (std::size_t k = 0; k < j; ++k) sum -= lower[i * stride_ + k] * lower[j * stride_ + k];
      // At least the prior's 1, but for rounding over huge rows.
      lower[i * stride_ + j] = i == j ? std::sqrt(std::max(sum, 1e-6)) : sum / lower[j * stride_ + j];
    }
  }
  AlignedFloats result(stride_ * stride_, 0.0f);
  for (std::size_t i = 0; i < stride_; ++i) {
    inverse[i * stride_ + i] = 1 / lower[i * stride_ + i];
    for (std::size_t j = 0; j < i; ++j) {
      double sum = 0;
      for (std::size_t k = j; k < i; ++k) sum -= lower[i * stride_ + k] * inverse[k * stride_ + j];
      inverse[i * stride_ + j] = sum / lower[i * stride_ + i];
    }
    for (std::size_t j = 0; j <= i; ++j) result[j * stride_ + i] = static_cast<float>(inverse[i * stride_ + j]);
  }
  return result;
}

AlignedFloats Precisions::prior() const {
  AlignedFloats identity(stride_ * stride_, 0.0f);
  for (std::size_t i = 0; i < stride_; ++i) identity[i * stride_ + i] = 1;
  return identity;
}

void Precisions::check_shared() const {
  if (stride_ <= kMaxSharedDim) return;
  throw std::invalid_argument(
      message("precision 'shared' is for at most ", kMaxSharedDim, " dimensions, not ", stride_, ": take 'diagonal'"));
}

std::shared_ptr<const AlignedFloats> Precisions::shared_factor() const {
  check_shared();
  const std::lock_guard lock(mutex_);
  return current_ != nullptr ? current_ : std::make_shared<const AlignedFloats>(prior());
}

void Precisions::keep_shared() {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr) return;
  matrix_.assign(stride_ * stride_, 0.0);
  current_ = std::make_shared<const AlignedFloats>(prior());
  is_shared_.store(true, std::memory_order_relaxed);
}

std::vector<Row> Precisions::known_users() const {
  std::vector<Row> users;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    for (const auto& [user, sums] : shard.sums) users.push_back(user);
  }
  std::sort(users.begin(), users.end());
  return users;
}

std::span<const float> Precisions::sums(Row user) const {
  const Shard& shard = shards_[user % kShards];
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.sums.find(user);
  return found == shard.sums.end() ? std::span<const float>() : found->second;
}

void Precisions::restore_sums(Row user, std::span<const float> sums) {
  Shard& shard = shards_[user % kShards];
  const std::lock_guard lock(shard.mutex);
  std::vector<float>& own = shard.sums[user];
  own.assign(sums.begin(), sums.end());
  own.resize(stride_, 0.0f);
}

Precisions::Shared Precisions::shared(std::size_t dim) const {
  const std::lock_guard lock(mutex_);
  Shared shared{observed_, {}, {}};
  for (std::size_t i = 0; current_ != nullptr && i < dim; ++i) {
    const auto row = static_cast<std::ptrdiff_t>(i * stride_), end = row + static_cast<std::ptrdiff_t>(dim);
    shared.matrix.insert(shared.matrix.end(), matrix_.begin() + row, matrix_.begin() + end);
    shared.factor.insert(shared.factor.end(), current_->begin() + row, current_->begin() + end);
  }
  return shared;
}

void Precisions::restore_shared(const Shared& shared, std::size_t dim) {
  keep_shared();
  const std::lock_guard lock(mutex_);
  AlignedFloats whole = prior();
  for (std::size_t i = 0; i < dim; ++i) {
    std::copy_n(shared.matrix.data() + i * dim, dim, matrix_.data() + i * stride_);
    std::copy_n(shared.factor.data() + i * dim, dim, whole.data() + i * stride_);
  }
  current_ = std::make_shared<const AlignedFloats>(std::move(whole));
  observed_ = shared.observed;
}

std::size_t Precisions::memory_bytes() const {
  std::size_t bytes = shown_.memory_bytes();
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    bytes += shard.sums.size() * (stride_ * sizeof(float) + 64);
  }
  const std::lock_guard lock(mutex_);
  return bytes + matrix_.size() * sizeof(double) + (current_ ? current_->size() * sizeof(float) : 0);
}

}  // namespace recengine
