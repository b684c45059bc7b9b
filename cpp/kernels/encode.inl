// int8 codes of rows and of queries (table.hpp has the layout and the contracts). Included by kernels.inl, inside the
// namespace of one instruction set.
//
// Why the bounds hold. With u = 2^-24, t = x * (limit / max|x|) as computed, code = t rounded to a whole number:
//  - scale, limit / max|x| and t are rounded once each: |x / scale - t| <= (3 u + 7 u^2) |t| + 2^-126 < 2^-15, as
//    |t| < 127.001. And t - code is exact. Hence |x - scale * code| <= scale * (|t - code| + 2^-15 sqrt(n)) for the
//    norms of the vectors.
//  - A sum of n rounded squares is off by at most the factor 1 + (n + 1) u, its root by half of that; t, the root and
//    the products after it add less than 8 u. So the factor 1 + (n + 16) u, which is a float, rounds up. (Squares that
//    underflow take less than 2^-126 each from a sum of at least 63^2, or are made up for by what 2^-15 leaves over.)
// Vectors without a coordinate of kTiny get the code of zero, and a coarse bound of their norm as norm and error: for
// all others nothing that matters underflows. What overflows becomes infinite, as it should.

constexpr float kTiny = 0x1p-100f;
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

struct Coded {
  float scale, norm, error, sum;  // sum of the codes: exact, being below 2^24
};

// Codes of at most `limit`: store_codes(k, groups) takes those of x[k], ...
template <class StoreCodes>
RECENGINE_INLINE Coded encode(const float* x, std::size_t n, float largest, float limit, StoreCodes store_codes) {
  const float scale = largest < kTiny ? 0.0f : largest / limit;
  const vec inverse = splat(largest < kTiny ? 0.0f : limit / largest);
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
    store_codes(k, groups);
  }
  const quad folded = fold4(sums);
  const quad roots = square_root(quad{folded[0], folded[1], static_cast<float>(n), 0});
  const float up = 1 + static_cast<float>(n + 16) * 0x1p-24f;
  if (largest < kTiny) {
    const float bound = largest > 0 ? largest * roots[2] * up + kSmallestNormal : 0.0f;
    return {0, bound, bound, 0};
  }
  return {scale, scale * roots[0] * up, scale * (roots[1] + 0x1p-15f * roots[2]) * up, folded[2]};
}

void encode_row(const float* row, std::size_t n, unsigned char* block, std::size_t lane, RowCode* code) {
  float* const x = static_cast<float*>(__builtin_alloca_with_align(n * sizeof(float), 8 * kBytes));
  vec largest = {};
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec values = load_row(row + k);
    largest = larger_magnitude(largest, values);
    store_vector(x + k, values);
  }
  unsigned char* const bytes_of_lane = block + lane * kGroup;
  const Coded coded =
      encode(x, n, largest_lane(largest), 127, [bytes_of_lane](std::size_t k, const int (&groups)[kLanes / kGroup]) {
        constexpr int kPlus128 = static_cast<int>(0x80808080);  // to each byte
        for (std::size_t g = 0; g < kLanes / kGroup; ++g) {
          store_group(bytes_of_lane + k * kBlockRows + g * kGroupBytes, groups[g] ^ kPlus128);
        }
      });
  *code = {coded.scale, coded.norm, coded.error};
}

void encode_query(const float* x, std::size_t n, signed char* codes, QueryCode* code) {
  vec largest = {};
  for (std::size_t k = 0; k < n; k += kLanes) largest = larger_magnitude(largest, load_vector(x + k));
  const Coded coded =
      encode(x, n, largest_lane(largest), kQueryLimit, [codes](std::size_t k, const int (&groups)[kLanes / kGroup]) {
        __builtin_memcpy(codes + k, groups, sizeof(groups));
      });
  *code = {coded.scale, coded.norm, coded.error, 128 * static_cast<int>(coded.sum)};
}
