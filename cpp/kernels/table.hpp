// The table of kernels that each instruction set fills in. Kernel translation units include this and intrinsics,
// nothing else: an inline function of a shared header, compiled there with wider instructions, could be the copy that
// the linker keeps.
#pragma once

#include <cstddef>

namespace recengine {

inline constexpr std::size_t kRowPadding = 16;  // floats: one 64-byte cache line

// Row-wise Adagrad's sums: of the mean squares of the row's gradients, and of the squares of the bias's. At each step
// they keep kKeptSum of what they were, so that rates follow the last 100,000 steps and never die away.
struct Accumulators {
  float row;
  float bias;
};

inline constexpr float kKeptSum = 1 - 1e-5f;
inline constexpr float kMaxAccumulator = 1e30f;  // far from overflow, and a rate that small no longer moves anything
inline constexpr float kEpsilon = 1e-8f;         // rate = learning rate / sqrt(sum + kEpsilon)

// The bits of an IEEE half-precision float (fp16).
enum class Half : unsigned short {};

inline constexpr float kMaxHalf = 65504;

// Where a live row and its scalars are. (Of a row of halves, `row` is no more than an address to prefetch.)
struct Slot {
  float* row;
  float* bias;
  Accumulators* sums;
};

// Rows that one event moves along the same vector.
struct RowSteps {
  const Slot* slots;
  const float* slopes;
  const float* rates;
  std::size_t count;
  float decay;
  float clip;  // no coordinate moves further
};

// Rows of one user, of an item that was chosen, and of one that was not.
struct PairRows {
  Slot user, item, negative;
  float weight;  // of the event, at most 1e6
  float rate;    // the learning rate, at most 1e6
};

// What limits the steps of pairs.
struct PairStep {
  float l2;    // rate * l2 at most 1e6
  float clip;  // no coordinate moves further
  float dim;
  bool adagrad;       // or every row at the plain rate
  float bias_weight;  // of a bias's movement beside a row's, in distances
};

inline constexpr std::size_t kMaxPairs = 4;

// 4-bit codes of rows, 16 rows a block, interleaved. For each eight dimensions 64 bytes, four of row 0, four of row 1,
// and so on: the low halves of a row's four bytes are the first four dimensions, the high halves the others. Each half
// is 8 + round(x / scale), within 8 +- 7. Behind the codes come the scales of the 16 rows and their biases. Blocks are
// 64-byte aligned.
//
// Four bits are enough: for 64 dimensions the error is a tenth of the row's length, and few rows score so close to the
// best. What counts is that a scan reads half as much as it would of bytes.
inline constexpr std::size_t kBlockRows = 16;
inline constexpr int kRowLimit = 7;      // of a row's codes
inline constexpr int kQueryLimit = 127;  // of a query's codes: eight products, 8 * 15 * 127, fit 16 bits
constexpr std::size_t block_bytes(std::size_t n) { return kBlockRows * (n / 2 + 2 * sizeof(float)); }

// What the code of a row or a query says of it, rounded up so that bounds made of it hold:
//   |x| <= norm, |x| <= scale * length, |x - scale * code| <= scale * error.
// The scale is max|x| / 7.4375 for a row (which rounds to 7) and max|x| / 127 for a query, and 0 for zero. For vectors
// with no coordinate above 2^-100, whose code is zero, it is 2^-97. The norm is infinite where no float is as large.
struct VectorCode {
  float scale;
  float norm;
  float length;
  float error;
};

// A query to screen rows by: its codes, their scale, what is added to a product (see screen), and the limit.
struct Screening {
  const signed char* codes;
  float scale;
  int offset;
  float limit;
};

// The normal equations of a row x against `count` others q_r, of which each should give <x, q_r> = 1:
//   minimise sum_r weights[r] (<x, q_r> - 1)^2 + sum_k (common[k] + ridge) x[k]^2
struct LeastSquares {
  const float* const* rows;  // live
  const float* weights;      // positive
  std::size_t count;
  const float* common;  // n, at least 0, 64-byte aligned
  float ridge;          // positive
  std::size_t steps;    // at most so many
  float tolerance;      // and none once the residual is this small beside the first one
};

// Live rows of floats, or of halves. A half is converted exactly, so that scores over halves are, bit for bit, those
// over floats of the same values.
template <class Element>
struct RowKernels {
  // <query, row>. One chain of additions, so latency-bound: for several rows gather_dot is faster.
  float (*dot)(const float* query, const Element* row, std::size_t n);

  // out[r] = <query, rows + r * n> + bias[r] for r < count (bias may be null: zero).
  // Returns the largest of them, -inf if count is 0.
  float (*scan)(const float* query, const Element* rows, const float* bias, std::size_t count, std::size_t n,
                float* out);

  // out[q * out_stride + r] = <queries + q * n, rows + r * n> + bias[r]
  void (*scan_many)(const float* queries, std::size_t num_queries, const Element* rows, const float* bias,
                    std::size_t count, std::size_t n, float* out, std::size_t out_stride);

  // out[r] = <query, *rows[r]>
  void (*gather_dot)(const float* query, const Element* const* rows, std::size_t count, std::size_t n, float* out);

  // out[r] = |rows + r * n|^2
  void (*square_norms)(const Element* rows, std::size_t count, std::size_t n, float* out);

  // Copies out of and into a live row. What goes into halves is rounded to the nearest, of two as near to the even one,
  // and beyond +-kMaxHalf becomes that. REQUIRES of halves: no NaN.
  void (*load)(float* x, const Element* row, std::size_t n);
  void (*store)(Element* row, const float* x, std::size_t n);

  // x += scale * row
  void (*add_scaled)(float* x, const Element* row, float scale, std::size_t n);
};

// Rows of floats, which private vectors are too, and the rest.
struct Kernels : RowKernels<float> {
  const char* name;

  RowKernels<Half> halves;

  // The same as store, but rounded up or down at random, up with the probability of how near that is (stochastic
  // rounding; Gupta et al. 2015): steps too small to reach the next half then move a row as far on average. What is
  // drawn for an element depends on the key and its place alone.
  void (*store_stochastic)(Half* row, const float* x, std::size_t n, unsigned key);

  // A private vector: |x|^2.
  float (*square_norm)(const float* x, std::size_t n);

  // Steps of rows, one after the other, in one pass: with row j as it was (if it comes twice, the second time as the
  // first left it),
  //   gradient += slopes[j] * row_j                                   unless there is none
  //   row_j    -= clip(rates[j] * slopes[j] * x + decay * row_j)
  // distances[j], if asked for, is at least |row_j' - row_j|. x and gradient are private.
  void (*step_rows)(const RowSteps& rows, const float* x, float* gradient, std::size_t n, float* distances);

  // sums[k] = rate / sqrt(sums[k] + kEpsilon). Private, 64-byte aligned, n a multiple of kRowPadding.
  void (*adapted_rates)(float* sums, float rate, std::size_t n);

  // slopes[k] = weights[k] exp(scores[k]) / sum_l weights[l] exp(scores[l]), exponents more than 87 below the highest
  // taken as 87 below; NaN if any score is infinite or NaN. All private and 64-byte aligned, n a multiple of
  // kRowPadding; what only pads has the weight 0 and a score that is not the highest.
  void (*softmax_slopes)(const float* scores, const float* weights, std::size_t n, float* slopes);

  // What the rows of cell j can reach for a query q with dots[j] = <q, centre j>:
  //   bounds[j] = min(dots[j] + |q| radii[j], |q| norms[j]) + biases[j]
  // and what the better ones are likely to: promises[j], the same with .3 spreads[j] for the radius. `count` is a
  // multiple of 16; radii, norms and biases are live.
  void (*bound_cells)(const float* dots, const float* radii, const float* norms, const float* biases,
                      const float* spreads, std::size_t count, float query_norm, float* bounds, float* promises);

  // out[i] = log2(2^a[i] + 2^b[i]), within 1e-14 beside rounding, however large or small the powers; a or b may be
  // -inf.
  void (*log2_add)(const double* a, const double* b, std::size_t n, double* out);

  // Bayesian personalised ranking of up to kMaxPairs pairs that share no row (learner.hpp has the step, objectives.hpp
  // the slope), for each, with user x, item a, negative b, all gradients at the rows as they were,
  //   s = weight * sigmoid(<x, b - a> + b's bias - a's)
  //   x -= clip(rate_x * s * (b - a) + rate * l2 * x)
  //   a -= clip(-rate_a * s * x + rate * l2 * a)
  //   b -= clip(rate_b * s * x + rate * l2 * b), and the biases of a and b alike, with 1 for x
  // Bit g of the result: pair g was left alone, its numbers being so large that a step could overflow.
  //
  // If asked for, distances[2 g] and distances[2 g + 1] are at least how far a and b have moved, |a' - a| plus
  // bias_weight times that of the bias; 0 for a pair that was left alone. The steps are the same bits either way.
  unsigned (*learn_pairs)(const PairRows* const* pairs, std::size_t count, const PairStep& step, std::size_t n,
                          float* distances);

  // Codes a live row into lane `lane` of a live block, with its bias. Each coordinate is read once: whatever others
  // write meanwhile, the code is that of the values that were read. The bytes go in by fours, one after the other.
  // REQUIRES: finite coordinates, here and in encode_query; n at most 2^16.
  void (*encode_row)(const float* row, std::size_t n, float bias, unsigned char* block, std::size_t lane,
                     VectorCode* code);

  // Codes a private vector: codes[d] = round(x[d] / scale). Returns 8 * their sum.
  int (*encode_query)(const float* x, std::size_t n, signed char* codes, VectorCode* code);

  // out[16 * b + r] = offset + sum over d of half[d] * codes[d] for row r of live block b < count. With minus what
  // encode_query returned for the offset, that is the product of the codes. Exact, the same integers on every
  // instruction set. REQUIRES: codes within +-kQueryLimit, here and in the screens.
  void (*dot_codes)(const unsigned char* blocks, std::size_t count, std::size_t n, const signed char* codes, int offset,
                    int* out);

  // The scan. Bit r of hits[b] says whether, with `dot` as dot_codes would have it,
  //   dot * (scale of row r of block b * query.scale) + its bias >= query.limit
  // in floats, or whether either side is a NaN. The left side is within 2^-22 |product| + 2^-23 |sum| + 2^-96 of its
  // exact value (an integer beyond 2^24 is rounded too), unless something overflows or a product of scales is
  // subnormal: the caller's limits leave room for that. Blocks are live. Returns whether there is any hit.
  bool (*screen)(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening& query,
                 unsigned short* hits);

  // The same where rows may have moved since they were coded: moved[16 * b + r] * reach is added to the left side.
  bool (*screen_moved)(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening& query,
                       const float* moved, float reach, unsigned short* hits);

  // For cosines: bit r of hits[b] says whether dot * (scale of row r of block b * query.scale) - norms[16 * b + r] *
  // cosine >= query.limit. Biases do not enter. The left side is as near its exact value as that of screen is.
  bool (*screen_cosine)(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening& query,
                        const float* norms, float cosine, unsigned short* hits);

  // As screen for up to 32 queries, each block being loaded but once for some of them: hits[q * count + b]. Bit q of
  // the result says whether query q has any hit.
  unsigned (*screen_many)(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening* queries,
                          std::size_t num_queries, unsigned short* hits);

  // out[i * n + j] += sum over k < depth of a[i * row_stride + k * stride] * b[k * n + j] for i < count and j < n. All
  // private; b and out are rows of n floats, 64-byte aligned.
  void (*multiply)(const float* a, std::size_t row_stride, std::size_t stride, const float* b, std::size_t depth,
                   float* out, std::size_t count, std::size_t n);

  // Steps from x towards the solution. `work` is room for 3 n floats. Returns the square of what is left of the
  // residual, each coordinate divided by the root of its common[k] + ridge.
  float (*solve_row)(const LeastSquares& problem, float* x, float* work, std::size_t n);

  // x[k] = exp(scale * x[k] + shift) within 2^-20 relative, for exponents within +-87, to which others are clamped;
  // returns their sum. x is private and 64-byte aligned, n a multiple of kRowPadding.
  float (*exponentials)(float* x, float scale, float shift, std::size_t n);

  // x[k] = log(1 + scale * x[k]) within 2^-22, relative where that is above 1; 0 where scale * x[k] is negative or a
  // NaN, and at most log(3e38). x is private and 64-byte aligned, n a multiple of kRowPadding.
  void (*log1p_scaled)(float* x, float scale, std::size_t n);

  // The first k < n with the smallest |a[k]| + |b[k]|, given the bits of floats, none of them a NaN. Private; there is
  // room up to a multiple of 16 words.
  std::size_t (*least_sum)(const unsigned* a, const unsigned* b, std::size_t n);

  // out[i * n + j] += sum over r < count of rows[r * n + i] * rows[r * n + j] for i <= j < n; what is below the
  // diagonal is left somewhere in between. Private, 64-byte aligned, n a multiple of kRowPadding.
  void (*gramian)(const float* rows, std::size_t count, float* out, std::size_t n);
};

// Each defined by the translation unit of its name; neon by baseline.cpp, whose source it is, in place of baseline.
namespace baseline {
extern const Kernels kernels;
}
namespace neon {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512vnni {
extern const Kernels kernels;
}

}  // namespace recengine
