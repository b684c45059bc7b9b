#include "explore/diversity.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernels/first_largest.hpp"
#include "kernels/kernels.hpp"
#include "storage/aligned.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

using Places = std::vector<std::uint32_t>;
constexpr std::array<std::string_view, 4> kNames{"none", "mmr", "dpp", "max_per_group"};
constexpr std::size_t kStepsPerCheck = 32;
constexpr double kNoRank = 1e-6;  // of 1: what is left of a candidate's own kernel once it depends on the chosen ones

std::vector<float> relevances(std::span<const float> scores) {
  std::vector<float> values(scores.size(), 1.0f);
  if (scores.empty()) return values;
  const auto [low, high] = std::minmax_element(scores.begin(), scores.end());
  const double range = double{*high} - double{*low};
  if (!(range > 0)) return values;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    values[i] = static_cast<float>((double{scores[i]} - double{*low}) / range);
  }
  return values;
}

// Of rows of zeros 0: their cosines count 0.
std::vector<float> inverse_lengths(const float* rows, std::size_t count, std::size_t stride) {
  std::vector<float> inverse(count);
  active_kernels().square_norms(rows, count, stride, inverse.data());
  for (float& value : inverse) value = value > 0 ? 1 / std::sqrt(value) : 0.0f;
  return inverse;
}

}  // namespace

void Diversity::validate() const {
  const auto within = [](std::string_view name, double value, double most) {
    if (value >= 0 && value <= most) return;
    throw std::invalid_argument(message(name, " must be between 0 and ", most, ", not ", value));
  };
  if (kind == DiversityKind::kMmr) within("lambda_", weight, 1);
  if (kind == DiversityKind::kDpp) within("theta", weight, 0.99);
  if (kind == DiversityKind::kMaxPerGroup && count < 1) throw std::invalid_argument("n must be at least 1, not 0");
}

DiversityKind parse_diversity(std::string_view name) {
  for (std::uint32_t k = 0; k < kNames.size(); ++k) {
    if (kNames[k] == name) return static_cast<DiversityKind>(k);
  }
  throw std::invalid_argument(message("unknown diversity '", name, "'"));
}
std::string_view name_of(DiversityKind kind) { return kNames[static_cast<std::size_t>(kind)]; }

// A candidate's value only falls as more are chosen (after the first, whose cosine may be below 0). So the largest
// value that a block of candidates had at an earlier step is a bound of what it has now, and only blocks whose bound is
// the largest of all are brought up to date: lazy greedy selection (Minoux 1978), with the choices of the eager one.
Places diversify_mmr(std::span<const float> scores, const float* rows, std::size_t stride, double weight,
                     std::size_t k) {
  constexpr std::size_t kBlock = 16;
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const Kernels& kernels = active_kernels();
  const std::size_t count = scores.size(), blocks = (count + kBlock - 1) / kBlock;
  const std::vector<float> relevance = relevances(scores);
  const std::vector<float> inverse = inverse_lengths(rows, count, stride);
  const auto part = static_cast<float>(weight);
  std::vector<float> worth(count), most(count, kNever), values(count), bounds(blocks);
  std::vector<std::size_t> seen(blocks, 0);  // how many of the chosen a block's values know of
  for (std::size_t i = 0; i < count; ++i) worth[i] = values[i] = part * relevance[i];
  const auto block_of = [&](std::vector<float>& of, std::size_t b) {
    return std::span(of).subspan(b * kBlock, std::min(kBlock, count - b * kBlock));
  };
  const auto largest = [&](std::size_t b) {
    const auto block = block_of(values, b);
    return *std::max_element(block.begin(), block.end());
  };
  for (std::size_t b = 0; b < blocks; ++b) bounds[b] = largest(b);

  Places chosen;
  k = std::min(k, count);
  chosen.reserve(k);
  const auto update = [&](std::size_t b) {
    const std::size_t first = b * kBlock, size = std::min(kBlock, count - first);
    float dots[kBlock];
    for (; seen[b] < chosen.size(); ++seen[b]) {
      const std::uint32_t other = chosen[seen[b]];
      kernels.scan(rows + other * stride, rows + first * stride, nullptr, size, stride, dots);
      for (std::size_t i = 0; i < size; ++i) {
        const float cosine = dots[i] * inverse[first + i] * inverse[other];
        most[first + i] = most[first + i] < cosine ? cosine : most[first + i];
      }
    }
    for (std::size_t i = first; i < first + size; ++i) values[i] = worth[i] - (1 - part) * most[i];
    bounds[b] = largest(b);
  };
  while (chosen.size() < k) {
    if (chosen.size() % kStepsPerCheck == kStepsPerCheck - 1) check_interrupt();
    std::size_t b = first_largest(bounds);
    for (; seen[b] < chosen.size(); b = first_largest(bounds)) update(b);
    const std::uint32_t next = static_cast<std::uint32_t>(b * kBlock) + first_largest(block_of(values, b));
    chosen.push_back(next);
    worth[next] = kNever;
    for (std::size_t each = 0; chosen.size() == 1 && each < blocks; ++each) update(each);
  }
  return chosen;
}

Places diversify_dpp(std::span<const float> scores, const float* rows, std::size_t stride, double theta,
                     std::size_t k) {
  const Kernels& kernels = active_kernels();
  const std::size_t count = scores.size();
  const std::vector<float> relevance = relevances(scores);
  const std::vector<float> inverse = inverse_lengths(rows, count, stride);
  const double sharpness = theta / (2 * (1 - theta));
  k = std::min(k, count);
  // The quality factors out of the determinant: with C the Cholesky rows of S alone, candidate i adds
  // 2 a r_i + log(left_i), left_i = S_ii - |c_i|^2. So nothing overflows however sharp the relevance.
  std::vector<double> left(count, 1.0);
  std::vector<float> dots(count);
  AlignedFloats factors(k * count, 0.0f);
  std::vector<unsigned char> is_chosen(count, 0);
  Places chosen;
  chosen.reserve(k);
  for (std::size_t i = 0; i < count; ++i) {
    if (inverse[i] == 0) left[i] = 0.5;  // its cosine with itself counts 0, as with all others
  }
  std::vector<double> gains(count);
  for (std::size_t i = 0; i < count; ++i) gains[i] = 2 * sharpness * double{relevance[i]};
  while (chosen.size() < k) {
    if (chosen.size() % kStepsPerCheck == kStepsPerCheck - 1) check_interrupt();
    std::uint32_t next = 0;
    double best = -std::numeric_limits<double>::infinity();
    for (std::uint32_t i = 0; i < count; ++i) {
      if (is_chosen[i] != 0 || left[i] <= kNoRank) continue;
      const double value = gains[i] + std::log(left[i]);
      if (value > best) {
        best = value;
        next = i;
      }
    }
    if (best == -std::numeric_limits<double>::infinity()) break;
    const std::size_t step = chosen.size();
    chosen.push_back(next);
    is_chosen[next] = 1;
    const auto root = static_cast<float>(std::sqrt(left[next]));
    kernels.scan(rows + next * stride, rows, nullptr, count, stride, dots.data());
    float* const factor = factors.data() + step * count;
    for (std::size_t i = 0; i < count; ++i) factor[i] = (1 + dots[i] * inverse[i] * inverse[next]) * 0.5f;
    for (std::size_t s = 0; s < step; ++s) {
      const float* const before = factors.data() + s * count;
      const float own = before[next];
      for (std::size_t i = 0; i < count; ++i) factor[i] -= own * before[i];
    }
    for (std::size_t i = 0; i < count; ++i) {
      factor[i] /= root;
      left[i] -= double{factor[i]} * double{factor[i]};
    }
  }
  Places rest;
  for (std::uint32_t i = 0; i < count && chosen.size() < k; ++i) {
    if (is_chosen[i] == 0) rest.push_back(i);
  }
  std::stable_sort(rest.begin(), rest.end(), [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
  for (const std::uint32_t place : rest) {
    if (chosen.size() < k) chosen.push_back(place);
  }
  return chosen;
}

std::vector<std::uint32_t> reorder(const Diversity& diversity, std::span<const float> scores, const float* rows,
                                   std::size_t stride, std::size_t k) {
  return diversity.kind == DiversityKind::kMmr ? diversify_mmr(scores, rows, stride, diversity.weight, k)
                                               : diversify_dpp(scores, rows, stride, diversity.weight, k);
}

}  // namespace recengine
