// Inner products of int8 codes, and the scan that screens by them (table.hpp has the layout and the contracts).
// Included by kernels.inl, inside the namespace of one instruction set.
//
// The products are sums of integers that cannot overflow, hence the same whatever instructions form them. What differs
// is in the first part: vectors hold four bytes of kLanes rows side by side, and the four codes of a query that belong
// to them are repeated for every row.

constexpr std::size_t kGroup = 4;                         // dimensions side by side
constexpr std::size_t kGroupBytes = kGroup * kBlockRows;  // of a block
constexpr std::size_t kParts = kBlockRows / kLanes;       // vectors of a group

RECENGINE_INLINE ints splat_integer(int value) { return value - ints{}; }

// Four codes, for every row.
RECENGINE_INLINE ints splat_group(const signed char* codes) {
  int group;
  __builtin_memcpy(&group, codes, kGroup);
  return splat_integer(group);
}

// ---- what differs ----
//
// add_products: sums + the products of a group of bytes and one of codes.
// kChains: over how many sums the groups of a block are spread, to hide the latency of add_products.

#if RECENGINE_VECTOR_BYTES == 64 && defined(__AVX512VNNI__)

constexpr std::size_t kChains = 4;

using QueryGroup = ints;

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) { return splat_group(codes); }

RECENGINE_INLINE ints add_products(ints sums, ints bytes, QueryGroup codes) {
  return reinterpret_cast<ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(bytes),
                                                    reinterpret_cast<__m512i>(codes)));
}

#elif RECENGINE_VECTOR_BYTES >= 32

constexpr std::size_t kChains = 1;

using QueryGroup = ints;

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) { return splat_group(codes); }

// Pairs of products in 16 bits, which kQueryLimit keeps from saturating, then pairs of those.
RECENGINE_INLINE ints add_products(ints sums, ints bytes, QueryGroup codes) {
#if RECENGINE_VECTOR_BYTES == 64
  const __m512i pairs = _mm512_maddubs_epi16(reinterpret_cast<__m512i>(bytes), reinterpret_cast<__m512i>(codes));
  return sums + reinterpret_cast<ints>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#else
  const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(bytes), reinterpret_cast<__m256i>(codes));
  return sums + reinterpret_cast<ints>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

#elif defined(__aarch64__)

constexpr std::size_t kChains = 1;

using QueryGroup = int8x16_t;

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) {
  return vreinterpretq_s8_s32(reinterpret_cast<int32x4_t>(splat_group(codes)));
}

// The bytes become signed codes, so that there is nothing to correct.
RECENGINE_INLINE ints add_products(ints sums, ints bytes, QueryGroup codes) {
  const int8x16_t rows = vreinterpretq_s8_u8(veorq_u8(reinterpret_cast<uint8x16_t>(bytes), vdupq_n_u8(128)));
#if defined(__ARM_FEATURE_DOTPROD)
  return reinterpret_cast<ints>(vdotq_s32(reinterpret_cast<int32x4_t>(sums), rows, codes));
#else
  const int16x8_t low = vmull_s8(vget_low_s8(rows), vget_low_s8(codes));
  const int16x8_t high = vmull_high_s8(rows, codes);
  return reinterpret_cast<ints>(vpadalq_s16(reinterpret_cast<int32x4_t>(sums), vpaddq_s16(low, high)));
#endif
}

#else

constexpr std::size_t kChains = 1;

// Codes of even and of odd dimensions in 16 bits.
struct QueryGroup {
  __m128i even, odd;
};

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) {
  const __m128i all = reinterpret_cast<__m128i>(splat_group(codes));
  return {_mm_srai_epi16(_mm_slli_epi16(all, 8), 8), _mm_srai_epi16(all, 8)};
}

RECENGINE_INLINE ints add_products(ints sums, ints bytes, const QueryGroup& codes) {
  const __m128i all = reinterpret_cast<__m128i>(bytes);
  const __m128i even = _mm_and_si128(all, _mm_set1_epi16(255)), odd = _mm_srli_epi16(all, 8);
  return sums + reinterpret_cast<ints>(_mm_madd_epi16(even, codes.even)) +
         reinterpret_cast<ints>(_mm_madd_epi16(odd, codes.odd));
}

#endif

// Bit i: not values[i] < limits[i]. So a NaN sets it.
RECENGINE_INLINE unsigned not_below(vec values, vec limits) {
#if defined(__aarch64__)
  constexpr unsigned kBits[] = {1, 2, 4, 8};
  const uint32x4_t below = vcltq_f32(values, limits);
  return vaddvq_u32(vbicq_u32(vld1q_u32(kBits), below));
#elif RECENGINE_VECTOR_BYTES == 64
  return _mm512_cmp_ps_mask(values, limits, _CMP_NLT_UQ);
#elif RECENGINE_VECTOR_BYTES == 32
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(values, limits, _CMP_NLT_UQ)));
#else
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpnlt_ps(values, limits)));
#endif
}

// ---- products ----

// sums[p] = sum over d of (byte - 128) * codes[d] for the rows of part p of a block, where group_at(d) holds the codes
// from d on. Blocks come one after the other: prefetchers follow one stream, but not several that advance together
// (measured from memory, four blocks side by side: 10 against 28 GB/s).
template <class GroupAt>
RECENGINE_INLINE void multiply_block(const unsigned char* block, std::size_t n, GroupAt group_at,
                                     [[maybe_unused]] int correction, ints (&sums)[kParts]) {
  ints chains[kChains][kParts] = {};
#if !defined(__aarch64__)
  for (ints& sum : chains[0]) sum = splat_integer(-correction);
#endif
  for (std::size_t d = 0; d < n; d += kRowPadding) {
    for (std::size_t g = 0; g < kRowPadding / kGroup; ++g) {
      const QueryGroup group = group_at(d + g * kGroup);
      const unsigned char* bytes = block + d * kBlockRows + g * kGroupBytes;
      for (std::size_t p = 0; p < kParts; ++p) {
        ints& sum = chains[g % kChains][p];
        sum = add_products(sum, load_codes(bytes + p * kBytes), group);
      }
    }
  }
  for (std::size_t half = kChains / 2; half > 0; half /= 2) {
    for (std::size_t c = 0; c < half; ++c) {
      for (std::size_t p = 0; p < kParts; ++p) chains[c][p] += chains[c + half][p];
    }
  }
  for (std::size_t p = 0; p < kParts; ++p) sums[p] = chains[0][p];
}

void dot_codes(const unsigned char* blocks, std::size_t count, std::size_t n, const signed char* codes, int correction,
               int* out) {
  const auto group_at = [codes](std::size_t d) { return query_group(codes + d); };
  for (std::size_t b = 0; b < count; ++b) {
    ints sums[kParts];
    multiply_block(blocks + b * n * kBlockRows, n, group_at, correction, sums);
    __builtin_memcpy(out + b * kBlockRows, sums, sizeof(sums));
  }
}

// The product of both scales comes first: the other order could overflow although the score does not, and miss.
template <class GroupAt>
RECENGINE_INLINE bool screen_all(const unsigned char* blocks, std::size_t count, std::size_t n, GroupAt group_at,
                                 int correction, float query_scale, const float* scales, const float* biases,
                                 const float* limits, unsigned short* hits) {
  unsigned any = 0;
  for (std::size_t b = 0; b < count; ++b) {
    ints sums[kParts];
    multiply_block(blocks + b * n * kBlockRows, n, group_at, correction, sums);
    unsigned of_block = 0;
    for (std::size_t p = 0; p < kParts; ++p) {
      const std::size_t first = b * kBlockRows + p * kLanes;
      const vec scores = multiply_add(__builtin_convertvector(sums[p], vec), load_scalars(scales + first) * query_scale,
                                      load_scalars(biases + first));
      of_block |= not_below(scores, splat(limits[b])) << (p * kLanes);
    }
    hits[b] = static_cast<unsigned short>(of_block);
    any |= of_block;
  }
  return any != 0;
}

bool screen(const unsigned char* blocks, std::size_t count, std::size_t n, const signed char* codes, int correction,
            float query_scale, const float* scales, const float* biases, const float* limits, unsigned short* hits) {
  if constexpr (kBytes == 64) {
    // The usual size unrolls, with the query in 16 of the 32 registers.
    if (n == 64) {
      QueryGroup groups[64 / kGroup];
      for (std::size_t g = 0; g < 64 / kGroup; ++g) groups[g] = query_group(codes + g * kGroup);
      const auto group_at = [&groups](std::size_t d) { return groups[d / kGroup]; };
      return screen_all(blocks, count, 64, group_at, correction, query_scale, scales, biases, limits, hits);
    }
  }
  const auto group_at = [codes](std::size_t d) { return query_group(codes + d); };
  return screen_all(blocks, count, n, group_at, correction, query_scale, scales, biases, limits, hits);
}
