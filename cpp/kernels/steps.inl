// Steps of learned rows. Included by kernels.inl, inside the namespace of one instruction set.

// The row after the step `rates * x + decays * row`, limited to [-limits, limits]. A NaN, which no comparison would
// limit, becomes zero.
RECENGINE_INLINE vec stepped(vec row, vec x, vec rates, vec decays, vec limits) {
  vec step = multiply_add(rates, x, decays * row);
  step = step == step ? step : vec{};
  step = step < limits ? step : limits;
  step = step > -limits ? step : -limits;
  return row - step;
}

constexpr std::size_t kStepBlock = 16;  // rows

// `kColumns` columns of all rows: what is gathered stays in registers from row to row.
template <std::size_t kColumns, bool kGathers, bool kMeasured>
RECENGINE_INLINE void step_columns(const RowSteps& rows, std::size_t first, const float* x, float* gradient,
                                   vec (*squares)[kStepBlock], std::size_t begin, std::size_t end) {
  constexpr std::size_t kVectors = kColumns / kLanes;
  const vec decays = splat(rows.decay), limits = splat(rows.clip);
  vec gathered[kVectors];
  if constexpr (kGathers) {
    for (std::size_t v = 0; v < kVectors; ++v) gathered[v] = load_vector(gradient + first + v * kLanes);
  }
  for (std::size_t j = begin; j < end; ++j) {
    float* const row = rows.slots[j].row + first;
    const vec slopes = splat(rows.slopes[j]), rates = splat(rows.rates[j] * rows.slopes[j]);
    for (std::size_t v = 0; v < kVectors; ++v) {
      const vec before = load_row(row + v * kLanes);
      const vec after = stepped(before, load_vector(x + first + v * kLanes), rates, decays, limits);
      store_row(row + v * kLanes, after);
      if constexpr (kGathers) gathered[v] = multiply_add(slopes, before, gathered[v]);
      if constexpr (kMeasured) {
        vec& sum = (*squares)[j - begin];
        sum = multiply_add(after - before, after - before, sum);
      }
    }
  }
  if constexpr (kGathers) {
    for (std::size_t v = 0; v < kVectors; ++v) store_vector(gradient + first + v * kLanes, gathered[v]);
  }
}

template <bool kGathers, bool kMeasured>
RECENGINE_INLINE void step_all(const RowSteps& rows, const float* x, float* gradient, std::size_t n, float* distances) {
  for (std::size_t begin = 0; begin < rows.count; begin += kStepBlock) {
    const std::size_t end = rows.count - begin < kStepBlock ? rows.count : begin + kStepBlock;
    vec squares[kStepBlock] = {};
    std::size_t k = 0;
    for (; k + 64 <= n; k += 64) step_columns<64, kGathers, kMeasured>(rows, k, x, gradient, &squares, begin, end);
    for (; k < n; k += kRowPadding) {
      step_columns<kRowPadding, kGathers, kMeasured>(rows, k, x, gradient, &squares, begin, end);
    }
    if constexpr (kMeasured) {
      for (std::size_t j = begin; j < end; ++j) {
        const quad sum = fold(squares[j - begin]) - quad{};
        distances[j] = (square_root(sum) * rounded_up(n) + kUnseen)[0];
      }
    }
  }
}

void step_rows(const RowSteps& rows, const float* x, float* gradient, std::size_t n, float* distances) {
  if (gradient != nullptr) {
    if (distances != nullptr) return step_all<true, true>(rows, x, gradient, n, distances);
    return step_all<true, false>(rows, x, gradient, n, nullptr);
  }
  if (distances != nullptr) return step_all<false, true>(rows, x, nullptr, n, distances);
  step_all<false, false>(rows, x, nullptr, n, nullptr);
}

RECENGINE_INLINE vec square_roots(vec x) {
#if RECENGINE_VECTOR_BYTES == 64
  return _mm512_maskz_sqrt_ps(0xFFFF, x);  // unmasked, g++ 12 warns of what it leaves undefined
#elif RECENGINE_VECTOR_BYTES == 32
  return _mm256_sqrt_ps(x);
#else
  return square_root(x);
#endif
}

void adapted_rates(float* sums, float rate, std::size_t n) {
  const vec rates = splat(rate);
  for (std::size_t k = 0; k < n; k += kLanes) {
    store_vector(sums + k, rates / square_roots(load_vector(sums + k) + splat(kEpsilon)));
  }
}
