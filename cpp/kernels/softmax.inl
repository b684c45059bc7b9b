// Exponentials and logarithms of many scores. Included by kernels.inl, inside the namespace of one instruction set.

// e^x for -87 <= x <= 87, within 2 ulp: as `exponential` of pairs.inl, for whole registers. Below -87: e^-87.
RECENGINE_INLINE vec exponentials_of(vec x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, which its low bits then hold
  const vec lowest = splat(-87.0f), highest = splat(87.0f);
  x = x > lowest ? x : lowest;
  x = x < highest ? x : highest;
  const vec shifted = multiply_add(x, splat(1.44269504f), splat(kRound));
  const vec k = shifted - splat(kRound);
  vec r = multiply_add(k, splat(-0.693359375f), x);
  r = multiply_add(k, splat(2.12194440e-4f), r);
  vec p = splat(1.9875691500e-4f);
  p = multiply_add(p, r, splat(1.3981999507e-3f));
  p = multiply_add(p, r, splat(8.3334519073e-3f));
  p = multiply_add(p, r, splat(4.1665795894e-2f));
  p = multiply_add(p, r, splat(1.6666665459e-1f));
  p = multiply_add(p, r, splat(5.0000001201e-1f));
  p = multiply_add(p, r * r, r) + splat(1.0f);
  return reinterpret_cast<vec>(reinterpret_cast<ints>(p) + (reinterpret_cast<ints>(shifted) << 23));
}

float exponentials(float* x, float scale, float shift, std::size_t n) {
  const vec scales = splat(scale), shifts = splat(shift);
  vec sums[4] = {};
  for (std::size_t k = 0; k < n; k += kRowPadding) {
    for (std::size_t i = 0; i < kRowPadding; i += kLanes) {
      const vec value = exponentials_of(multiply_add(scales, load_vector(x + k + i), shifts));
      store_vector(x + k + i, value);
      sums[i / kLanes] += value;
    }
  }
  return fold((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// log(y) for 1 <= y < infinity: y = m 2^e with m around 1, and a polynomial of m - 1 (Cephes, logf).
RECENGINE_INLINE vec logarithms_of(vec y) {
  const ints pattern = reinterpret_cast<ints>(y);
  const vec mantissa = reinterpret_cast<vec>((pattern & 0x007FFFFF) | 0x3F800000);  // in [1, 2)
  const ints upper = mantissa > splat(1.41421356f);                                 // -1 where true
  const vec e = __builtin_convertvector((pattern >> 23) - 127 - upper, vec);
  const vec f = (upper ? mantissa * splat(0.5f) : mantissa) - splat(1.0f);
  vec p = splat(7.0376836292e-2f);
  p = multiply_add(p, f, splat(-1.1514610310e-1f));
  p = multiply_add(p, f, splat(1.1676998740e-1f));
  p = multiply_add(p, f, splat(-1.2420140846e-1f));
  p = multiply_add(p, f, splat(1.4249322787e-1f));
  p = multiply_add(p, f, splat(-1.6668057665e-1f));
  p = multiply_add(p, f, splat(2.0000714765e-1f));
  p = multiply_add(p, f, splat(-2.4999993993e-1f));
  p = multiply_add(p, f, splat(3.3333331174e-1f));
  const vec square = f * f;
  vec tail = p * f * square;
  tail = multiply_add(e, splat(-2.12194440e-4f), tail);
  tail = multiply_add(square, splat(-0.5f), tail);
  return multiply_add(e, splat(0.693359375f), f + tail);
}

void log1p_scaled(float* x, float scale, std::size_t n) {
  const vec lowest = splat(1.0f), highest = splat(3e38f);
  for (std::size_t k = 0; k < n; k += kLanes) {
    vec y = multiply_add(splat(scale), load_vector(x + k), lowest);
    y = y > lowest ? y : lowest;
    y = y < highest ? y : highest;
    store_vector(x + k, logarithms_of(y));
  }
}

void softmax_slopes(const float* scores, const float* weights, std::size_t n, float* slopes) {
  vec highest = load_vector(scores), zeros = highest - highest;  // or NaN
  for (std::size_t k = kLanes; k < n; k += kLanes) {
    const vec value = load_vector(scores + k);
    highest = highest > value ? highest : value;
    zeros += value - value;
  }
  float lanes[kLanes];
  __builtin_memcpy(lanes, &highest, kBytes);
  float most = lanes[0];
  for (std::size_t i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
  const vec shifts = splat(most);
  vec total = {};
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec value = exponentials_of(load_vector(scores + k) - shifts) * load_vector(weights + k);
    store_vector(slopes + k, value);
    total += value;
  }
  const vec scales = splat(1 / fold(total) + fold(zeros));
  for (std::size_t k = 0; k < n; k += kLanes) store_vector(slopes + k, load_vector(slopes + k) * scales);
}
