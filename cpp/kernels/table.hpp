// The table of kernels that each instruction set fills in. Kernel translation units include this and intrinsics,
// nothing else: an inline function of a shared header, compiled there with wider instructions, could be the copy that
// the linker keeps.
#pragma once

#include <cstddef>

namespace recengine {

inline constexpr std::size_t kRowPadding = 16;  // floats: one 64-byte cache line

struct Kernels {
  const char* name;

  // <query, row>. One chain of additions, so latency-bound: for several rows gather_dot is faster.
  float (*dot)(const float* query, const float* row, std::size_t n);

  // out[r] = <query, rows + r * n> + bias[r] for r < count (bias may be null: zero).
  // Returns the largest of them, -inf if count is 0.
  float (*scan)(const float* query, const float* rows, const float* bias, std::size_t count, std::size_t n, float* out);

  // out[q * out_stride + r] = <queries + q * n, rows + r * n> + bias[r]
  void (*scan_many)(const float* queries, std::size_t num_queries, const float* rows, const float* bias,
                    std::size_t count, std::size_t n, float* out, std::size_t out_stride);

  // out[r] = <query, *rows[r]>
  void (*gather_dot)(const float* query, const float* const* rows, std::size_t count, std::size_t n, float* out);

  // out[r] = |rows + r * n|^2
  void (*square_norms)(const float* rows, std::size_t count, std::size_t n, float* out);

  // Private vectors: |x|^2, and copies out of and into a live row.
  float (*square_norm)(const float* x, std::size_t n);
  void (*load)(float* x, const float* row, std::size_t n);
  void (*store)(float* row, const float* x, std::size_t n);

  // x += scale * row
  void (*add_scaled)(float* x, const float* row, float scale, std::size_t n);

  // The fused step of one scored candidate, one pass over the row: with the row as it was,
  //   gradient += slope * row          (what the query's side needs)
  //   row      -= clip(rate * (slope * x + l2 * row))
  void (*step_candidate)(float* row, const float* x, float* gradient, float slope, float rate, float l2, float clip,
                         std::size_t n);

  // row -= clip(rate * (scale * gradient + l2 * row))
  void (*step_row)(float* row, const float* gradient, float scale, float rate, float l2, float clip, std::size_t n);

  // Pairwise ranking with one negative, everything in one pass over three live rows, x (the user) against a and b:
  //   out[0] = <x, a - b>, out[1] = |x|^2, out[2] = |a - b|^2
  void (*pair)(const float* x, const float* a, const float* b, std::size_t n, float* out);

  // And its step, all gradients at the rows as they were (slope >= 0 is that of b, -slope that of a):
  //   x -= clip(x_rate * slope * (b - a) + decay * x)
  //   a -= clip(-a_rate * slope * x + decay * a)
  //   b -= clip(b_rate * slope * x + decay * b)
  void (*step_pair)(float* x, float* a, float* b, float slope, float x_rate, float a_rate, float b_rate, float decay,
                    float clip, std::size_t n);
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

}  // namespace recengine
