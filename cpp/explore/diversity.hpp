// Diversity: candidates in an order in which those that are like others above them come later.
//
// Relevance is the score, brought to [0, 1] over the candidates (all equal: 1); likeness the cosine of the items' rows,
// 0 for a row of zeros.
//   MMR  the next is the one with the largest weight * relevance - (1 - weight) * largest cosine to one chosen before
//        (Carbonell and Goldstein 1998)
//   DPP  greedy maximum a posteriori of a determinantal point process with the kernel exp(a r_i) S_ij exp(a r_j),
//        a = theta / (2 (1 - theta)), S_ij = (1 + cosine) / 2, by incremental Cholesky factors (Chen, Zhang and Zhou
//        2018). Where the kernel has no rank left, relevance decides
//
// Thread safety: functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace recengine {

enum class DiversityKind : std::uint32_t { kNone, kMmr, kDpp, kMaxPerGroup };

struct Diversity {
  DiversityKind kind = DiversityKind::kNone;
  double weight = 0;      // of MMR; theta of DPP
  std::size_t count = 0;  // of MaxPerGroup: of one group; of the others: kept for a policy that draws; 0: by itself

  // Throws std::invalid_argument naming the value that is out of range.
  void validate() const;
  bool reorders() const { return kind == DiversityKind::kMmr || kind == DiversityKind::kDpp; }
};

DiversityKind parse_diversity(std::string_view name);
std::string_view name_of(DiversityKind kind);

// The first k places of that order. rows: scores.size() x stride, 64-byte aligned, padded by zeros.
std::vector<std::uint32_t> diversify_mmr(std::span<const float> scores, const float* rows, std::size_t stride,
                                         double weight, std::size_t k);
std::vector<std::uint32_t> diversify_dpp(std::span<const float> scores, const float* rows, std::size_t stride,
                                         double theta, std::size_t k);
// By what `diversity` says. REQUIRES: diversity.reorders()
std::vector<std::uint32_t> reorder(const Diversity& diversity, std::span<const float> scores, const float* rows,
                                   std::size_t stride, std::size_t k);

}  // namespace recengine
