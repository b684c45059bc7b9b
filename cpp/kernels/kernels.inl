// Every kernel, once, in the vector extensions that GCC and Clang share. Each instruction set has a .cpp of a few lines
// that defines what differs, includes this file, and is compiled with its own flags:
//   RECENGINE_ISA                      its namespace and name
//   RECENGINE_VECTOR_BYTES             the width of a register
//   RECENGINE_QUERY_TILE               queries that scan_many holds in registers beside four rows
//   RECENGINE_MULTIPLY_ADD(a, b, c)    a * b + c, rounded once where the hardware can
//
// A pair (query, row) has one accumulator, lane l of which sums the products at l, l + kLanes, l + 2 kLanes, ... in
// order, and one way of folding the lanes. That makes the bits of a score independent of the kernel and of the tile
// that computed it; the latency of the additions is hidden by working on several pairs at once. Multiply-adds are
// written out for the same reason: whether a compiler contracts an expression depends on what surrounds it
// (-ffp-contract=off).

#include "kernels/relaxed.hpp"  // whether ThreadSanitizer is on
#include "kernels/table.hpp"

#define RECENGINE_INLINE [[gnu::always_inline]] inline

namespace recengine {
namespace RECENGINE_ISA {
namespace {

constexpr std::size_t kBytes = RECENGINE_VECTOR_BYTES;
constexpr std::size_t kLanes = kBytes / sizeof(float);
constexpr std::size_t kQueryTile = RECENGINE_QUERY_TILE;
constexpr float kNoBias = -0.0f;  // adding it changes no score, not even -0

using vec [[gnu::vector_size(kBytes), gnu::may_alias]] = float;
using ints [[gnu::vector_size(kBytes), gnu::may_alias]] = int;
using quad [[gnu::vector_size(16), gnu::may_alias]] = float;
using unaligned_quad [[gnu::vector_size(16), gnu::may_alias, gnu::aligned(alignof(float))]] = float;

#include "kernels/row_access.inl"

// Private, aligned vectors.
RECENGINE_INLINE vec load_vector(const float* x) { return *reinterpret_cast<const vec*>(x); }
RECENGINE_INLINE void store_vector(float* x, vec value) { *reinterpret_cast<vec*>(x) = value; }
RECENGINE_INLINE void store_scores(float* out, quad scores) { *reinterpret_cast<unaligned_quad*>(out) = scores; }
RECENGINE_INLINE vec splat(float value) { return value - vec{}; }
RECENGINE_INLINE vec multiply_add(vec a, vec b, vec c) { return RECENGINE_MULTIPLY_ADD(a, b, c); }

#include "kernels/halves.inl"

// ---- folding the lanes of accumulators ----

#if defined(__clang__) || __GNUC__ >= 12
#define RECENGINE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
using lane_indices [[gnu::vector_size(kBytes)]] = int;
#define RECENGINE_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, lane_indices{__VA_ARGS__})
#endif

// A pattern for the lanes of one 16-byte quarter, repeated for each quarter of the vector.
#if RECENGINE_VECTOR_BYTES == 64
#define RECENGINE_QUARTERS(pattern) pattern(0), pattern(4), pattern(8), pattern(12)
#elif RECENGINE_VECTOR_BYTES == 32
#define RECENGINE_QUARTERS(pattern) pattern(0), pattern(4)
#else
#define RECENGINE_QUARTERS(pattern) pattern(0)
#endif

#define RECENGINE_LOW(i) i, kLanes + i, i + 1, kLanes + i + 1
#define RECENGINE_HIGH(i) i + 2, kLanes + i + 2, i + 3, kLanes + i + 3
#define RECENGINE_LOW_PAIR(i) i, i + 1, kLanes + i, kLanes + i + 1
#define RECENGINE_HIGH_PAIR(i) i + 2, i + 3, kLanes + i + 2, kLanes + i + 3

// The lane sums of four accumulators: transposed and added within quarters, then the quarters.
RECENGINE_INLINE quad fold4(const vec (&sums)[4]) {
  const vec ab = RECENGINE_SHUFFLE(sums[0], sums[1], RECENGINE_QUARTERS(RECENGINE_LOW)) +
                 RECENGINE_SHUFFLE(sums[0], sums[1], RECENGINE_QUARTERS(RECENGINE_HIGH));
  const vec cd = RECENGINE_SHUFFLE(sums[2], sums[3], RECENGINE_QUARTERS(RECENGINE_LOW)) +
                 RECENGINE_SHUFFLE(sums[2], sums[3], RECENGINE_QUARTERS(RECENGINE_HIGH));
  const vec abcd = RECENGINE_SHUFFLE(ab, cd, RECENGINE_QUARTERS(RECENGINE_LOW_PAIR)) +
                   RECENGINE_SHUFFLE(ab, cd, RECENGINE_QUARTERS(RECENGINE_HIGH_PAIR));
  quad quarters[kBytes / sizeof(quad)];
  __builtin_memcpy(quarters, &abcd, kBytes);
  if constexpr (kBytes == 64) return (quarters[0] + quarters[1]) + (quarters[2] + quarters[3]);
  if constexpr (kBytes == 32) return quarters[0] + quarters[1];
  return quarters[0];
}

// The lane sum of one, in the same order.
RECENGINE_INLINE float fold(vec sum) { return fold4({sum, sum, sum, sum})[0]; }

// ---- inner products ----
//
// Element: float or Half. Only load_row and store_row know the difference.

// sums[q][r] += the products of query q and row r, where row_at(r) is the address of row r.
template <std::size_t kQueries, std::size_t kRows, class RowAt>
RECENGINE_INLINE void accumulate(vec (&sums)[kQueries][kRows], const float* queries, std::size_t n, RowAt row_at) {
  for (std::size_t k = 0; k < n; k += kLanes) {
    vec query[kQueries];
    for (std::size_t q = 0; q < kQueries; ++q) query[q] = load_vector(queries + q * n + k);
    for (std::size_t r = 0; r < kRows; ++r) {
      const vec row = load_row(row_at(r) + k);
      for (std::size_t q = 0; q < kQueries; ++q) sums[q][r] = multiply_add(query[q], row, sums[q][r]);
    }
  }
}

// The same for one pair, unrolled to whole cache lines.
template <class Element>
RECENGINE_INLINE vec accumulate_one(const float* query, const Element* row, std::size_t n) {
  vec sum = {};
  for (std::size_t line = 0; line < n; line += kRowPadding) {
    for (std::size_t k = line; k < line + kRowPadding; k += kLanes) {
      sum = multiply_add(load_vector(query + k), load_row(row + k), sum);
    }
  }
  return sum;
}

template <class Element>
float dot(const float* query, const Element* row, std::size_t n) {
  return fold(accumulate_one(query, row, n));
}

// The scan by four rows side by side, which hides the latency of the additions, or one after the other.
template <bool kSideBySide, class Element>
RECENGINE_INLINE float scan_rows(const float* query, const Element* rows, const float* bias, std::size_t count,
                                 std::size_t n, float* out) {
  quad best = -__builtin_inff() - quad{};
  std::size_t r = 0;
  for (; r + 4 <= count; r += 4) {
    const Element* tile = rows + r * n;
    vec sums[1][4] = {};
    if constexpr (kSideBySide) {
      accumulate(sums, query, n, [tile, n](std::size_t i) { return tile + i * n; });
    } else {
      for (std::size_t i = 0; i < 4; ++i) sums[0][i] = accumulate_one(query, tile + i * n, n);
    }
    quad scores = fold4(sums[0]);
    if (bias) scores += load_biases(bias + r);
    best = scores > best ? scores : best;
    store_scores(out + r, scores);
  }
  float largest = best[0];
  for (std::size_t i = 1; i < 4; ++i) largest = best[i] > largest ? best[i] : largest;
  for (; r < count; ++r) {
    out[r] = dot(query, rows + r * n, n) + (bias ? load_bias(bias + r) : kNoBias);
    largest = out[r] > largest ? out[r] : largest;
  }
  return largest;
}

// Long rows go one after the other: prefetchers follow one stream, but not four that advance together (measured from
// memory: 28 against 11 GB/s).
template <class Element>
float scan(const float* query, const Element* rows, const float* bias, std::size_t count, std::size_t n, float* out) {
  return n <= 64 ? scan_rows<true>(query, rows, bias, count, n, out)
                 : scan_rows<false>(query, rows, bias, count, n, out);
}

// kQueries queries against `count` rows.
template <std::size_t kQueries, class Element>
RECENGINE_INLINE void scan_tile(const float* queries, const Element* rows, const float* bias, std::size_t count,
                                std::size_t n, float* out, std::size_t out_stride) {
  std::size_t r = 0;
  for (; r + 4 <= count; r += 4) {
    vec sums[kQueries][4] = {};
    accumulate(sums, queries, n, [tile = rows + r * n, n](std::size_t i) { return tile + i * n; });
    const quad biases = bias ? load_biases(bias + r) : kNoBias - quad{};
    for (std::size_t q = 0; q < kQueries; ++q) {
      store_scores(out + q * out_stride + r, fold4(sums[q]) + biases);
    }
  }
  for (; r < count; ++r) {
    const float row_bias = bias ? load_bias(bias + r) : kNoBias;
    for (std::size_t q = 0; q < kQueries; ++q) {
      out[q * out_stride + r] = dot(queries + q * n, rows + r * n, n) + row_bias;
    }
  }
}

// Blocks of rows that fit the first-level cache; inside each, tiles of queries as large as the registers allow.
template <class Element>
void scan_many(const float* queries, std::size_t num_queries, const Element* rows, const float* bias, std::size_t count,
               std::size_t n, float* out, std::size_t out_stride) {
  constexpr std::size_t kBlockFloats = 4096;
  const std::size_t block = n < kBlockFloats / 4 ? kBlockFloats / n / 4 * 4 : 4;
  for (std::size_t first = 0; first < count; first += block) {
    const std::size_t size = count - first < block ? count - first : block;
    const Element* block_rows = rows + first * n;
    const float* block_bias = bias ? bias + first : nullptr;
    std::size_t q = 0;
    for (; q + kQueryTile <= num_queries; q += kQueryTile) {
      scan_tile<kQueryTile>(queries + q * n, block_rows, block_bias, size, n, out + q * out_stride + first, out_stride);
    }
    for (; q < num_queries; ++q) {
      scan_tile<1>(queries + q * n, block_rows, block_bias, size, n, out + q * out_stride + first, out_stride);
    }
  }
}

template <class Element>
void gather_dot(const float* query, const Element* const* rows, std::size_t count, std::size_t n, float* out) {
  std::size_t r = 0;
  for (; r + 4 <= count; r += 4) {
    vec sums[1][4] = {};
    accumulate(sums, query, n, [tile = rows + r](std::size_t i) { return tile[i]; });
    store_scores(out + r, fold4(sums[0]));
  }
  for (; r < count; ++r) out[r] = dot(query, rows[r], n);
}

// ---- norms and copies ----

template <class Element>
void square_norms(const Element* rows, std::size_t count, std::size_t n, float* out) {
  for (std::size_t r = 0; r < count; ++r) {
    vec sum = {};
    for (std::size_t k = 0; k < n; k += kLanes) {
      const vec row = load_row(rows + r * n + k);
      sum = multiply_add(row, row, sum);
    }
    out[r] = fold(sum);
  }
}

float square_norm(const float* x, std::size_t n) {
  vec sum = {};
  for (std::size_t k = 0; k < n; k += kLanes) {
    const vec value = load_vector(x + k);
    sum = multiply_add(value, value, sum);
  }
  return fold(sum);
}

template <class Element>
void load(float* x, const Element* row, std::size_t n) {
  for (std::size_t k = 0; k < n; k += kLanes) store_vector(x + k, load_row(row + k));
}

template <class Element>
void store(Element* row, const float* x, std::size_t n) {
  for (std::size_t k = 0; k < n; k += kLanes) store_row(row + k, load_vector(x + k));
}

template <class Element>
void add_scaled(float* x, const Element* row, float scale, std::size_t n) {
  const vec scales = splat(scale);
  for (std::size_t k = 0; k < n; k += kLanes) {
    store_vector(x + k, multiply_add(scales, load_row(row + k), load_vector(x + k)));
  }
}

#include "kernels/bounds.inl"
#include "kernels/least_squares.inl"
#include "kernels/least_sum.inl"
#include "kernels/log2_add.inl"
#include "kernels/multiply.inl"
#include "kernels/pairs.inl"
#include "kernels/softmax.inl"
#include "kernels/steps.inl"
// These use what stands before them.
#include "kernels/codes.inl"
#include "kernels/encode.inl"
#include "kernels/screen_many.inl"

template <class Element>
constexpr RowKernels<Element> kRowKernels = {
    dot<Element>,          scan<Element>, scan_many<Element>, gather_dot<Element>,
    square_norms<Element>, load<Element>, store<Element>,     add_scaled<Element>,
};

}  // namespace

#define RECENGINE_STRING(token) #token
#define RECENGINE_NAME(token) RECENGINE_STRING(token)

const Kernels kernels = {
    kRowKernels<float>,
    RECENGINE_NAME(RECENGINE_ISA),
    kRowKernels<Half>,
    store_stochastic,
    square_norm,
    step_rows,
    adapted_rates,
    softmax_slopes,
    bound_cells,
    log2_add,
    learn_pairs,
    encode_row,
    encode_query,
    dot_codes,
    screen,
    screen_moved,
    screen_cosine,
    screen_many,
    multiply,
    solve_row,
    exponentials,
    log1p_scaled,
    least_sum,
    gramian,
};

}  // namespace RECENGINE_ISA
}  // namespace recengine
