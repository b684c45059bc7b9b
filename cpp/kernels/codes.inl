// Inner products of codes, and the scans that screen by them (table.hpp has the layout and the contracts). Included by
// kernels.inl, inside the namespace of one instruction set.
//
// The products are sums of integers that cannot overflow, hence the same whatever instructions form them. What differs
// is in the first part: a vector holds eight dimensions of kLanes rows side by side, four in low halves of bytes and
// four in high ones, and the four codes of a query that belong to them are repeated for every row.

constexpr std::size_t kGroup = 4;                         // dimensions side by side
constexpr std::size_t kGroupBytes = kGroup * kBlockRows;  // of a block, for two groups of dimensions
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
// add_products: sums + the products of 16 dimensions, in two vectors of rows and four groups of codes.

#if RECENGINE_VECTOR_BYTES == 64 && defined(__AVX512VNNI__)

using QueryGroup = ints;

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) { return splat_group(codes); }

RECENGINE_INLINE ints multiply_add_bytes(ints sums, ints bytes, ints codes) {
  return reinterpret_cast<ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(bytes),
                                                    reinterpret_cast<__m512i>(codes)));
}

RECENGINE_INLINE void add_products(ints& sums, ints first, ints second, const QueryGroup (&codes)[4]) {
  constexpr int kLow = 0x0f0f0f0f;
  sums = multiply_add_bytes(sums, first & kLow, codes[0]);
  sums = multiply_add_bytes(sums, (first >> 4) & kLow, codes[1]);
  sums = multiply_add_bytes(sums, second & kLow, codes[2]);
  sums = multiply_add_bytes(sums, (second >> 4) & kLow, codes[3]);
}

// The usual size for one query, which is held in 16 of the 32 registers. Products of high halves are summed where they
// are, 16 times as large: masks are cheaper than shifts.
RECENGINE_INLINE ints multiply_block_of_64(const unsigned char* block, const QueryGroup (&codes)[16], int offset) {
  constexpr int kLow = 0x0f0f0f0f, kHigh = static_cast<int>(0xf0f0f0f0);
  ints low = splat_integer(offset), high = {};
  for (std::size_t g = 0; g < 16; g += 2) {
    const ints rows = load_codes(block + g / 2 * kGroupBytes);
    low = multiply_add_bytes(low, rows & kLow, codes[g]);
    high = multiply_add_bytes(high, rows & kHigh, codes[g + 1]);
  }
  return low + (high >> 4);
}

#elif RECENGINE_VECTOR_BYTES >= 32

using QueryGroup = ints;

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) { return splat_group(codes); }

using shorts [[gnu::vector_size(kBytes), gnu::may_alias]] = short;

#if RECENGINE_VECTOR_BYTES == 64
RECENGINE_INLINE shorts multiply_pairs(ints bytes, ints codes) {
  return reinterpret_cast<shorts>(
      _mm512_maddubs_epi16(reinterpret_cast<__m512i>(bytes), reinterpret_cast<__m512i>(codes)));
}
RECENGINE_INLINE ints add_pairs(shorts pairs) {
  return reinterpret_cast<ints>(_mm512_madd_epi16(reinterpret_cast<__m512i>(pairs), _mm512_set1_epi16(1)));
}
#else
RECENGINE_INLINE shorts multiply_pairs(ints bytes, ints codes) {
  return reinterpret_cast<shorts>(
      _mm256_maddubs_epi16(reinterpret_cast<__m256i>(bytes), reinterpret_cast<__m256i>(codes)));
}
RECENGINE_INLINE ints add_pairs(shorts pairs) {
  return reinterpret_cast<ints>(_mm256_madd_epi16(reinterpret_cast<__m256i>(pairs), _mm256_set1_epi16(1)));
}
#endif

// Sums of eight products in 16 bits, which kQueryLimit keeps from overflowing.
RECENGINE_INLINE void add_products(ints& sums, ints first, ints second, const QueryGroup (&codes)[4]) {
  constexpr int kLow = 0x0f0f0f0f;
  shorts eight = multiply_pairs(first & kLow, codes[0]);
  eight += multiply_pairs((first >> 4) & kLow, codes[1]);
  eight += multiply_pairs(second & kLow, codes[2]);
  eight += multiply_pairs((second >> 4) & kLow, codes[3]);
  sums += add_pairs(eight);
}

#elif defined(__aarch64__)

using QueryGroup = int8x16_t;

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) {
  return vreinterpretq_s8_s32(reinterpret_cast<int32x4_t>(splat_group(codes)));
}

RECENGINE_INLINE void add_products(ints& sums, ints first, ints second, const QueryGroup (&codes)[4]) {
  const auto low = [](ints bytes) {
    return vreinterpretq_s8_u8(vandq_u8(reinterpret_cast<uint8x16_t>(bytes), vdupq_n_u8(15)));
  };
  const auto high = [](ints bytes) { return vreinterpretq_s8_u8(vshrq_n_u8(reinterpret_cast<uint8x16_t>(bytes), 4)); };
  const int8x16_t rows[4] = {low(first), high(first), low(second), high(second)};
#if defined(__ARM_FEATURE_DOTPROD)
  int32x4_t all = reinterpret_cast<int32x4_t>(sums);
  for (int g = 0; g < 4; ++g) all = vdotq_s32(all, rows[g], codes[g]);
  sums = reinterpret_cast<ints>(all);
#else
  int16x8_t of_low = vmull_s8(vget_low_s8(rows[0]), vget_low_s8(codes[0]));
  int16x8_t of_high = vmull_high_s8(rows[0], codes[0]);
  for (int g = 1; g < 4; ++g) {
    of_low = vmlal_s8(of_low, vget_low_s8(rows[g]), vget_low_s8(codes[g]));
    of_high = vmlal_high_s8(of_high, rows[g], codes[g]);
  }
  sums = reinterpret_cast<ints>(vpadalq_s16(reinterpret_cast<int32x4_t>(sums), vpaddq_s16(of_low, of_high)));
#endif
}

#else

// Codes of even and of odd dimensions in 16 bits.
struct QueryGroup {
  __m128i even, odd;
};

RECENGINE_INLINE QueryGroup query_group(const signed char* codes) {
  const __m128i all = reinterpret_cast<__m128i>(splat_group(codes));
  return {_mm_srai_epi16(_mm_slli_epi16(all, 8), 8), _mm_srai_epi16(all, 8)};
}

// Of one byte in 16 bits: both halves of both bytes.
RECENGINE_INLINE ints products_of(ints bytes, const QueryGroup& first, const QueryGroup& second) {
  const __m128i all = reinterpret_cast<__m128i>(bytes), half = _mm_set1_epi16(15);
  const auto multiply = [](__m128i rows, __m128i codes) { return reinterpret_cast<ints>(_mm_madd_epi16(rows, codes)); };
  return multiply(_mm_and_si128(all, half), first.even) +
         multiply(_mm_and_si128(_mm_srli_epi16(all, 8), half), first.odd) +
         multiply(_mm_and_si128(_mm_srli_epi16(all, 4), half), second.even) +
         multiply(_mm_srli_epi16(all, 12), second.odd);
}

RECENGINE_INLINE void add_products(ints& sums, ints first, ints second, const QueryGroup (&codes)[4]) {
  sums += products_of(first, codes[0], codes[1]) + products_of(second, codes[2], codes[3]);
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

// The sums of kQueries queries and kBlocks blocks, each block in kParts, where group_at(q, d) holds the codes of query
// q from d on.
template <std::size_t kQueries, std::size_t kBlocks, class GroupAt>
RECENGINE_INLINE void multiply_blocks(const unsigned char* blocks, std::size_t n, GroupAt group_at,
                                      ints (&sums)[kQueries][kBlocks][kParts]) {
  const std::size_t bytes = block_bytes(n);
  for (std::size_t d = 0; d < n; d += kRowPadding) {
    ints rows[kBlocks][kParts][2];
    for (std::size_t b = 0; b < kBlocks; ++b) {
      const unsigned char* const at = blocks + b * bytes + d / 2 * kBlockRows;
      for (std::size_t p = 0; p < kParts; ++p) {
        rows[b][p][0] = load_codes(at + p * kBytes);
        rows[b][p][1] = load_codes(at + kGroupBytes + p * kBytes);
      }
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
      const QueryGroup groups[4] = {group_at(q, d), group_at(q, d + kGroup), group_at(q, d + 2 * kGroup),
                                    group_at(q, d + 3 * kGroup)};
      for (std::size_t b = 0; b < kBlocks; ++b) {
        for (std::size_t p = 0; p < kParts; ++p) add_products(sums[q][b][p], rows[b][p][0], rows[b][p][1], groups);
      }
    }
  }
}

void dot_codes(const unsigned char* blocks, std::size_t count, std::size_t n, const signed char* codes, int offset,
               int* out) {
  const auto group_at = [codes](std::size_t, std::size_t d) { return query_group(codes + d); };
  for (std::size_t b = 0; b < count; ++b) {
    ints sums[1][1][kParts];
    for (ints& sum : sums[0][0]) sum = splat_integer(offset);
    multiply_blocks(blocks + b * block_bytes(n), n, group_at, sums);
    for (std::size_t p = 0; p < kParts; ++p) {
      __builtin_memcpy(out + b * kBlockRows + p * kLanes, &sums[0][0][p], kBytes);
    }
  }
}

// ---- screens ----

struct Scalars {
  vec scales[kParts], biases[kParts];
};

// Those of a block.
RECENGINE_INLINE Scalars load_scalars(const unsigned char* block, std::size_t n) {
  const float* const scales = reinterpret_cast<const float*>(block + n / 2 * kBlockRows);
  Scalars scalars;
  for (std::size_t p = 0; p < kParts; ++p) {
    scalars.scales[p] = load_row(scales + p * kLanes);
    scalars.biases[p] = load_row(scales + kBlockRows + p * kLanes);
  }
  return scalars;
}

// Which rows of a block reach the limit. The product of both scales comes first: the other order could overflow
// although the score does not, and miss.
RECENGINE_INLINE unsigned short reaching(const ints (&sums)[kParts], const Scalars& scalars, const Screening& query) {
  unsigned hits = 0;
  for (std::size_t p = 0; p < kParts; ++p) {
    const vec scores =
        multiply_add(__builtin_convertvector(sums[p], vec), scalars.scales[p] * query.scale, scalars.biases[p]);
    hits |= not_below(scores, splat(query.limit)) << (p * kLanes);
  }
  return static_cast<unsigned short>(hits);
}

// Blocks come one after the other: prefetchers follow one stream, but not several that advance together (measured from
// memory, four blocks side by side: 10 against 28 GB/s). multiply(block, sums) has the products; adjust(b, scalars) may
// change what is added to them.
template <class Multiply, class Adjust>
RECENGINE_INLINE bool screen_all(const unsigned char* blocks, std::size_t count, std::size_t n, Multiply multiply,
                                 Adjust adjust, const Screening& query, unsigned short* hits) {
  unsigned any = 0;
  for (std::size_t b = 0; b < count; ++b) {
    const unsigned char* const block = blocks + b * block_bytes(n);
    ints sums[1][1][kParts];
    multiply(block, sums);
    Scalars scalars = load_scalars(block, n);
    adjust(b, scalars);
    hits[b] = reaching(sums[0][0], scalars, query);
    any |= hits[b];
  }
  return any != 0;
}

template <class Adjust>
RECENGINE_INLINE bool screen_adjusted(const unsigned char* blocks, std::size_t count, std::size_t n, Adjust adjust,
                                      const Screening& query, unsigned short* hits) {
#if RECENGINE_VECTOR_BYTES == 64 && defined(__AVX512VNNI__)
  if (n == 64) {
    QueryGroup codes[16];
    for (std::size_t g = 0; g < 16; ++g) codes[g] = query_group(query.codes + g * kGroup);
    const auto multiply = [&codes, &query](const unsigned char* block, ints(&sums)[1][1][1]) {
      sums[0][0][0] = multiply_block_of_64(block, codes, query.offset);
    };
    return screen_all(blocks, count, 64, multiply, adjust, query, hits);
  }
#endif
  const auto multiply = [&query, n](const unsigned char* block, ints(&sums)[1][1][kParts]) {
    for (ints& sum : sums[0][0]) sum = splat_integer(query.offset);
    multiply_blocks(block, n, [&query](std::size_t, std::size_t d) { return query_group(query.codes + d); }, sums);
  };
  return screen_all(blocks, count, n, multiply, adjust, query, hits);
}

bool screen(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening& query,
            unsigned short* hits) {
  return screen_adjusted(blocks, count, n, [](std::size_t, Scalars&) {}, query, hits);
}

bool screen_moved(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening& query,
                  const float* moved, float reach, unsigned short* hits) {
  const vec reaches = splat(reach);
  const auto add_movement = [moved, reaches](std::size_t b, Scalars& scalars) {
    for (std::size_t p = 0; p < kParts; ++p) {
      const vec distances = load_row(moved + b * kBlockRows + p * kLanes);
      scalars.biases[p] = multiply_add(distances, reaches, scalars.biases[p]);
    }
  };
  return screen_adjusted(blocks, count, n, add_movement, query, hits);
}

bool screen_cosine(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening& query,
                   const float* norms, float cosine, unsigned short* hits) {
  const vec minus = splat(-cosine);
  const auto subtract_norms = [norms, minus](std::size_t b, Scalars& scalars) {
    for (std::size_t p = 0; p < kParts; ++p) {
      scalars.biases[p] = load_row(norms + b * kBlockRows + p * kLanes) * minus;
    }
  };
  return screen_adjusted(blocks, count, n, subtract_norms, query, hits);
}
