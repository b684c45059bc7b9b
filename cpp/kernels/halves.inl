// Rows of halves: exact conversion to floats, and two ways of rounding back. Included by kernels.inl, inside the
// namespace of one instruction set.
//
// A half has 1 sign, 5 exponent and 10 mantissa bits: the upper ones of a float whose exponent is 112 more, so that
// between 2^-14 and kMaxHalf rounding takes 13 bits off the mantissa. Below 2^-14 halves are the multiples of 2^-24.
// Every instruction set gives the same bits, whether it has instructions for this or not.

using bits [[gnu::vector_size(kBytes), gnu::may_alias]] = unsigned;

constexpr unsigned kDroppedBits = 13;
constexpr unsigned kDropped = (1u << kDroppedBits) - 1;
constexpr float kSmallestNormalHalf = 0x1p-14f;

RECENGINE_INLINE bits magnitude_of(vec x) { return reinterpret_cast<bits>(x) & 0x7fffffffu; }
RECENGINE_INLINE vec with_sign_of(vec x, bits magnitude) {
  return reinterpret_cast<vec>(magnitude | (reinterpret_cast<bits>(x) & 0x80000000u));
}

RECENGINE_INLINE vec within_halves(vec x) {
  x = x < kMaxHalf ? x : splat(kMaxHalf);
  return x > -kMaxHalf ? x : splat(-kMaxHalf);
}

// (The masked intrinsics are the plain ones: GCC 12 warns of what its header does for those.)
RECENGINE_INLINE vec widened(halves values) {
#if defined(__aarch64__)
  return vcvt_f32_f16(reinterpret_cast<float16x4_t>(values));
#elif RECENGINE_VECTOR_BYTES == 64
  return _mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(values));
#elif RECENGINE_VECTOR_BYTES == 32
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(values));
#else
  constexpr unsigned kBias = 112u << 23, kInfinity = 31u << 23;
  const bits wide = __builtin_convertvector(values, bits);
  const bits moved = (wide & 0x7fffu) << kDroppedBits;
  // Infinities and NaNs, which no row holds, have the largest exponent on both sides.
  const bits normal = moved + kBias + (reinterpret_cast<bits>(moved >= kInfinity) & kBias);
  // With the smallest normal exponent put in, and its value taken off.
  const vec small = reinterpret_cast<vec>(moved + kBias + (1u << 23)) - kSmallestNormalHalf;
  const bits magnitude = moved < (1u << 23) ? reinterpret_cast<bits>(small) : normal;
  return reinterpret_cast<vec>(magnitude | ((wide & 0x8000u) << 16));
#endif
}

// To the nearest, of two as near to the even one. REQUIRES: within +-kMaxHalf.
RECENGINE_INLINE halves narrowed(vec x) {
#if defined(__aarch64__)
  return reinterpret_cast<halves>(vcvt_f16_f32(x));
#elif RECENGINE_VECTOR_BYTES == 64
  return reinterpret_cast<halves>(_mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif RECENGINE_VECTOR_BYTES == 32
  return reinterpret_cast<halves>(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
  constexpr unsigned kBias = 112u << 23;
  const bits magnitude = magnitude_of(x);
  // A half of the last place that stays, less a little where that place is even: what carries into it rounds up.
  const bits normal = (magnitude - kBias + (kDropped >> 1) + ((magnitude >> kDroppedBits) & 1)) >> kDroppedBits;
  // The last place of floats from .5 on is 2^-24: the addition rounds.
  const bits small = reinterpret_cast<bits>(reinterpret_cast<vec>(magnitude) + 0.5f) - (126u << 23);
  const bits half = reinterpret_cast<vec>(magnitude) < kSmallestNormalHalf ? small : normal;
  return __builtin_convertvector(half | ((reinterpret_cast<bits>(x) & 0x80000000u) >> 16), halves);
#endif
}

// To one of the two halves around it: up if `dropped`, uniform in [0, 2^13), is among the part of the 2^13 values that
// lies below what rounding down would take off. A half stays what it is. REQUIRES: within +-kMaxHalf.
RECENGINE_INLINE vec rounded_at_random(vec x, bits dropped) {
  const bits magnitude = magnitude_of(x);
  const bits normal = (magnitude + dropped) & ~kDropped;
  // In units of 2^-24, to which it is then cut off.
  const vec fraction = __builtin_convertvector(reinterpret_cast<ints>(dropped), vec) * 0x1p-13f;
  const ints units = __builtin_convertvector(reinterpret_cast<vec>(magnitude) * 0x1p24f + fraction, ints);
  const vec small = __builtin_convertvector(units, vec) * 0x1p-24f;
  const bits rounded = reinterpret_cast<vec>(magnitude) < kSmallestNormalHalf ? reinterpret_cast<bits>(small) : normal;
  return with_sign_of(x, rounded);
}

// Thirty-two random bits for each number (Wellons's "lowbias32", a mixer in the manner of MurmurHash's).
RECENGINE_INLINE bits mixed(bits x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

RECENGINE_INLINE vec load_row(const Half* row) { return widened(load_halves(row)); }
RECENGINE_INLINE void store_row(Half* row, vec x) { store_halves(row, narrowed(within_halves(x))); }

void store_stochastic(Half* row, const float* x, std::size_t n, unsigned key) {
  bits counter = {};
  for (std::size_t lane = 0; lane < kLanes; ++lane) counter[lane] = key + static_cast<unsigned>(lane);
  for (std::size_t k = 0; k < n; k += kLanes, counter += static_cast<unsigned>(kLanes)) {
    store_row(row + k, rounded_at_random(within_halves(load_vector(x + k)), mixed(counter) >> (32 - kDroppedBits)));
  }
}
