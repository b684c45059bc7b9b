// Codes of rows and of queries (table.hpp has the layout and the contracts). Included by kernels.inl, inside the
// namespace of one instruction set.
//
// Why the bounds hold. With u = 2^-24, t = x * (limit / max|x|) as computed, code = t rounded to a whole number:
//  - scale, limit / max|x| and t are rounded once each: |x / scale - t| <= (3 u + 7 u^2) |t| + 2^-126 < 2^-15, as
//    |t| < 127.001. And t - code is exact. Hence |x - scale * code| <= scale * (|t - code| + 2^-15 sqrt(n)) for the
//    norms of the vectors.
//  - A sum of n rounded squares is off by at most the factor 1 + (n + 1) u, its root by half of that; t, the root and
//    the products after it add less than 8 u. So the factor 1 + (n + 16) u, which is a float, rounds up. (Squares that
//    underflow take less than 2^-126 each from a sum of at least 7^2, or are made up for by what 2^-15 leaves over.)
// Vectors without a coordinate of kTiny get the code of zero and a coarse bound of their norm: for all others nothing
// that matters underflows. What overflows becomes infinite, as it should.

constexpr float kTiny = 0x1p-100f;
constexpr float kTinyScale = 8 * kTiny;  // its error is then no larger than that of other vectors
constexpr float kRowSpan = 7.4375f;      // what the largest coordinate of a row becomes: as far as rounds to kRowLimit
constexpr float kSmallestNormal = 0x1p-126f;
constexpr float kWhole = 12582912.0f;   // 1.5 * 2^23: adding it rounds to a whole number
constexpr int kWholeBits = 0x4b400000;  // its bits: those of the sum exceed them by that number

// Whole numbers within +-127 as bytes.
RECENGINE_INLINE void pack(ints codes, int (&groups)[kLanes / kGroup]) {
#if defined(__aarch64__)
  const int16x4_t half = vmovn_s32(reinterpret_cast<int32x4_t>(codes));
  groups[0] = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(half, half))), 0);
#elif RECENGINE_VECTOR_BYTES == 64
  const __m128i bytes = _mm512_maskz_cvtepi32_epi8(0xffff, reinterpret_cast<__m512i>(codes));
  __builtin_memcpy(groups, &bytes, sizeof(groups));
#elif RECENGINE_VECTOR_BYTES == 32
  const __m256i all = reinterpret_cast<__m256i>(codes);
  const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  const __m128i bytes = _mm_packs_epi16(half, half);
  __builtin_memcpy(groups, &bytes, sizeof(groups));
#else
  const __m128i half = _mm_packs_epi32(reinterpret_cast<__m128i>(codes), reinterpret_cast<__m128i>(codes));
  groups[0] = _mm_cvtsi128_si32(_mm_packs_epi16(half, half));
#endif
}

RECENGINE_INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

RECENGINE_INLINE vec larger_magnitude(vec largest, vec x) { return larger(largest, larger(x, -x)); }

RECENGINE_INLINE float largest_lane(vec values) {
  quad quarters[kBytes / sizeof(quad)];
  __builtin_memcpy(quarters, &values, kBytes);
  quad largest = quarters[0];
  for (const quad& quarter : quarters) largest = quarter > largest ? quarter : largest;
  const float one = largest[0] > largest[1] ? largest[0] : largest[1];
  const float other = largest[2] > largest[3] ? largest[2] : largest[3];
  return one > other ? one : other;
}

// Codes of at most `limit`, into `codes`; `sum` is theirs, exact, being below 2^24.
RECENGINE_INLINE VectorCode encode(const float* x, std::size_t n, float largest, float limit, signed char* codes,
                                   int* sum) {
  const bool tiny = largest < kTiny;
  const vec inverse = splat(tiny ? 0.0f : limit / largest);
  vec sums[4] = {};  // of squares, of squares of what rounding took, of codes
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec t = load_vector(x + k) * inverse;
    const vec shifted = t + kWhole;
    const vec code = shifted - kWhole;
    const vec rest = t - code;
    sums[0] = multiply_add(t, t, sums[0]);
    sums[1] = multiply_add(rest, rest, sums[1]);
    sums[2] += code;
    int groups[kLanes / kGroup];
    pack(reinterpret_cast<ints>(shifted) - kWholeBits, groups);
    __builtin_memcpy(codes + k, groups, sizeof(groups));
  }
  const quad folded = fold4(sums);
  const quad roots = square_root(quad{folded[0], folded[1], static_cast<float>(n), 0});
  const float up = 1 + static_cast<float>(n + 16) * 0x1p-24f;
  *sum = static_cast<int>(folded[2]);
  if (tiny) {
    const float norm = largest > 0 ? largest * roots[2] * up + kSmallestNormal : 0.0f;
    const float length = largest > 0 ? 0.125f * roots[2] * up : 0.0f;
    return {largest > 0 ? kTinyScale : 0.0f, norm, length, length};
  }
  const float scale = largest / limit;
  return {scale, scale * roots[0] * up, roots[0] * up, (roots[1] + 0x1p-15f * roots[2]) * up};
}

void encode_row(const float* row, std::size_t n, float bias, unsigned char* block, std::size_t lane, VectorCode* code) {
  float* const x = static_cast<float*>(__builtin_alloca_with_align(n * sizeof(float), 8 * kBytes));
  signed char* const codes = static_cast<signed char*>(__builtin_alloca(n));
  vec largest = {};
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec values = load_row(row + k);
    largest = larger_magnitude(largest, values);
    store_vector(x + k, values);
  }
  int sum;
  *code = encode(x, n, largest_lane(largest), kRowSpan, codes, &sum);
  constexpr int kLow = 0x0f0f0f0f, kPlus8 = static_cast<int>(0x88888888);  // to each half, of four bits
  for (std::size_t d = 0; d < n; d += 2 * kGroup) {
    int low, high;
    __builtin_memcpy(&low, codes + d, kGroup);
    __builtin_memcpy(&high, codes + d + kGroup, kGroup);
    const int both = (low & kLow) | static_cast<int>(static_cast<unsigned>(high & kLow) << 4);
    store_group(block + d / 2 * kBlockRows + lane * kGroup, both ^ kPlus8);
  }
  float* const scales = reinterpret_cast<float*>(block + n / 2 * kBlockRows);
  store_bias(scales + lane, code->scale);
  store_bias(scales + kBlockRows + lane, bias);
}

int encode_query(const float* x, std::size_t n, signed char* codes, VectorCode* code) {
  vec largest = {};
  for (std::size_t k = 0; k < n; k += kLanes) largest = larger_magnitude(largest, load_vector(x + k));
  int sum;
  *code = encode(x, n, largest_lane(largest), kQueryLimit, codes, &sum);
  return (kRowLimit + 1) * sum;
}
