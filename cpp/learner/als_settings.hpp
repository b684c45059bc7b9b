// AlsSettings: the hyper-parameters of alternating least squares (als.hpp), offline and for folding users in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace recengine {

struct AlsSettings {
  float unobserved_weight = 0.1f;
  float l2 = 0.003f;
  float l2_exponent = 1.0f;
  std::uint32_t steps = 2;  // of conjugate gradients a row and epoch

  // Throws std::invalid_argument naming the first value that is out of range.
  void validate() const;
};

inline constexpr std::size_t kMaxAlsDim = 4096;  // its Gramians are dim x dim, their eigenvectors dim^3 work

}  // namespace recengine
