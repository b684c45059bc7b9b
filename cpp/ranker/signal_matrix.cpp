#include "ranker/signal_matrix.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"

namespace recengine {

namespace {

constexpr float kCountScale = 1 / 0.003f;  // of co-occurrence over events: what is below counts little

}  // namespace

void SignalMatrix::fill(const Model& model, const ItemFeatures& features, const QueryVector& query,
                        const Evidence& evidence, std::span<const Row> rows, double now) {
  size_ = rows.size();
  stride_ = (size_ + kRowPadding - 1) / kRowPadding * kRowPadding;
  count_ = kSignals + features.count();
  values_.assign(count_ * stride_, 0.0f);

  float* const scores = mutable_row(kScoreSignal);
  model.items.rows.gather_dot(query.x.data(), rows, scores);
  for (std::size_t j = 0; j < size_; ++j) {
    const float score = scores[j] + load_relaxed(&model.items.bias[rows[j]]) + query.offset(rows[j]);
    // A NaN, of infinities that met, ranks last.
    scores[j] = score >= -kMostScore ? std::min(score, kMostScore) : -kMostScore;
  }

  for (std::size_t j = 0; j < size_; ++j) {
    const std::uint32_t index = evidence.find(rows[j]);
    if (index == Evidence::kNothing) continue;
    for (std::size_t s = 0; s < kNeighborSignals; ++s) mutable_row(kAfterLast + s)[j] = evidence.neighbor(index)[s];
    if (index >= evidence.num_own()) continue;
    for (std::size_t s = 0; s < kOwnSignals; ++s) mutable_row(kInSession + s)[j] = evidence.own(index)[s];
  }
  active_kernels().log1p_scaled(mutable_row(kAfterLast), kCountScale, kNeighborSignals * stride_);

  const Demand& demand = *model.demand;
  for (std::size_t p = 0; p < kPopularityTrends.size(); ++p) {
    demand.trends.log_counts(rows, now, kPopularityTrends[p], mutable_row(kPopularity1 + p));
  }
  const std::size_t items = model.items.size();
  float* const odds = mutable_row(kDemand);
  for (std::size_t first = 0; first < size_; first += Demand::kBlock) {
    const auto block = rows.subspan(first, std::min(Demand::kBlock, size_ - first));
    demand.predict(demand.of_all, block, items, odds + first);
  }
  // log(D n) = log(1 + (D n / c - 1)) + log(c), c being the least of D n: within what the kernel takes.
  constexpr float kLeast = Demand::kEvenly;
  for (std::size_t j = 0; j < stride_; ++j) odds[j] = odds[j] * (static_cast<float>(items) / kLeast) - 1;
  active_kernels().log1p_scaled(odds, 1, stride_);
  for (std::size_t j = 0; j < stride_; ++j) odds[j] += std::log(kLeast);

  // What others do is no reason to show what the user dislikes.
  for (std::size_t j = 0; !evidence.disliked().empty() && j < size_; ++j) {
    const auto disliked = evidence.disliked();
    if (std::find(disliked.begin(), disliked.end(), rows[j]) == disliked.end()) continue;
    for (std::size_t s = 0; s < kNeighborSignals; ++s) mutable_row(kAfterLast + s)[j] = 0;
    odds[j] = std::log(kLeast);
  }

  for (std::size_t f = 0; f < features.count(); ++f) {
    for (std::size_t j = 0; j < size_; ++j) mutable_row(kSignals + f)[j] = features.get(rows[j], f);
  }
}

}  // namespace recengine
