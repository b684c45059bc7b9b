#include "ranker/network.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"
#include "ranker/linear_weights.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {

constexpr std::uint64_t kNetworkStream = 0x6D6C70u;  // "mlp"

}  // namespace

Network::Network(std::size_t signals, std::uint64_t seed)
    : signals_(signals),
      inputs_(signals + kProducts + 2),
      stride_(padded(inputs_)),
      weights_(kHidden * stride_ + kHidden, 0.0f),
      sums_(kHidden * stride_ + kHidden, 0.0f) {
  Random random(seed ^ kNetworkStream, 0);
  const float scale = std::sqrt(3 / static_cast<float>(inputs_));
  for (std::size_t h = 0; h < kHidden; ++h) {
    for (std::size_t z = 0; z < inputs_; ++z) weights_[h * stride_ + z] = scale * (2 * random.uniform() - 1);
  }
}

void Network::fill_inputs(const Model& model, const QueryVector& query, const SignalMatrix& signals,
                          std::span<const Row> rows, bool in_session, Work& work) const {
  const std::size_t n = signals.stride();
  work.inputs.assign(inputs_ * n, 0.0f);
  float* const inputs = work.inputs.data();
  for (std::size_t k = 0; k < signals_ * n; ++k) inputs[k] = std::clamp(signals.row(0)[k], -kMostInput, kMostInput);
  const std::size_t dim = model.items.stride();
  work.row.resize(dim);
  for (std::size_t j = 0; j < rows.size(); ++j) {
    model.items.rows.load(rows[j], work.row.data());
    float sums[kProducts] = {};
    for (std::size_t d = 0; d < dim; d += kProducts) {
      for (std::size_t g = 0; g < kProducts; ++g) sums[g] += query.x[d + g] * work.row[d + g];
    }
    for (std::size_t g = 0; g < kProducts; ++g) {
      // A NaN, of infinities that met, says nothing.
      const float sum = std::isnan(sums[g]) ? 0.0f : sums[g];
      inputs[(signals_ + g) * n + j] = std::clamp(sum, -kMostInput, kMostInput);
    }
  }
  std::fill_n(inputs + (signals_ + kProducts) * n, n, in_session ? 1.0f : 0.0f);
  std::fill_n(inputs + (signals_ + kProducts + 1) * n, n, 1.0f);
}

void Network::add(const Model& model, const QueryVector& query, const SignalMatrix& signals, std::span<const Row> rows,
                  bool in_session, Work& work, float* scores) const {
  static_assert(kProducts == kRowPadding && kHidden % kRowPadding == 0);
  const Kernels& kernels = active_kernels();
  const std::size_t n = signals.stride();
  fill_inputs(model, query, signals, rows, in_session, work);
  work.weights.resize(weights_.size());
  kernels.load(work.weights.data(), weights_.data(), weights_.size());
  work.hidden.assign(kHidden * n, 0.0f);
  kernels.multiply(work.weights.data(), stride_, 1, work.inputs.data(), inputs_, work.hidden.data(), kHidden, n);
  for (float& value : work.hidden) value = std::max(value, 0.0f);
  work.output.assign(n, 0.0f);
  kernels.multiply(output_row(work.weights), kHidden, 1, work.hidden.data(), kHidden, work.output.data(), 1, n);
  for (std::size_t j = 0; j < n; ++j) scores[j] += work.output[j];
}

void Network::step(const float* slopes, Work& work) {
  const Kernels& kernels = active_kernels();
  const std::size_t n = work.output.size();
  work.slopes.resize(n);
  work.gradient.assign(std::max(stride_, kHidden), 0.0f);
  // Through the hidden units, by the weights as they were when the candidates were scored.
  for (std::size_t h = 0; h < kHidden; ++h) {
    const float weight = output_row(work.weights)[h];
    if (weight == 0) continue;
    const float* const hidden = work.hidden.data() + h * n;
    for (std::size_t j = 0; j < n; ++j) work.slopes[j] = hidden[j] > 0 ? weight * slopes[j] : 0.0f;
    kernels.scan(work.slopes.data(), work.inputs.data(), nullptr, inputs_, n, work.gradient.data());
    step_row(h, inputs_, work.gradient.data(), work);
  }
  kernels.scan(slopes, work.hidden.data(), nullptr, kHidden, n, work.gradient.data());
  step_row(kHidden, kHidden, work.gradient.data(), work);
}

// A row of W, or w behind them. Slopes that are not finite change nothing.
void Network::step_row(std::size_t row, std::size_t size, const float* gradient, Work& work) {
  const Kernels& kernels = active_kernels();
  const std::size_t width = padded(size);
  work.row.resize(std::max(work.row.size(), width));
  work.sums.resize(std::max(work.sums.size(), width));
  float* const values = work.row.data();
  float* const sums = work.sums.data();
  kernels.load(values, weights_.data() + row * stride_, width);
  kernels.load(sums, sums_.data() + row * stride_, width);
  for (std::size_t z = 0; z < size; ++z) {
    const float slope = std::abs(gradient[z]) <= LinearWeights::kMostSlope ? gradient[z] : 0.0f;
    if (slope == 0) continue;
    sums[z] = std::min(sums[z] * (1 - kForget) + slope * slope, kMaxAccumulator);
    values[z] = std::clamp(values[z] - kRate * slope / std::sqrt(sums[z] + kEpsilon), -kMostWeight, kMostWeight);
  }
  kernels.store(weights_.data() + row * stride_, values, width);
  kernels.store(sums_.data() + row * stride_, sums, width);
}

std::vector<float> Network::collect(const AlignedFloats& from) const {
  std::vector<float> values;
  for (std::size_t h = 0; h < kHidden; ++h) {
    const auto first = from.begin() + static_cast<std::ptrdiff_t>(h * stride_);
    values.insert(values.end(), first, first + static_cast<std::ptrdiff_t>(inputs_));
  }
  values.insert(values.end(), from.end() - kHidden, from.end());
  return values;
}

void Network::scatter(std::span<const float> values, AlignedFloats& to) const {
  for (std::size_t h = 0; h < kHidden; ++h) {
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(h * inputs_), inputs_,
                to.begin() + static_cast<std::ptrdiff_t>(h * stride_));
  }
  std::copy_n(values.end() - kHidden, kHidden, to.end() - kHidden);
}

void Network::restore(std::span<const float> values, std::span<const float> sums) {
  scatter(values, weights_);
  scatter(sums, sums_);
}

}  // namespace recengine
