// 128-bit vectors, which every supported machine has: SSE2 on x86-64, NEON on aarch64. Needs no flag.
#define RECENGINE_VECTOR_BYTES 16
#if defined(__aarch64__)
#include <arm_neon.h>
#define RECENGINE_ISA neon
#define RECENGINE_QUERY_TILE 4
#define RECENGINE_MULTIPLY_ADD(a, b, c) vfmaq_f32(c, a, b)
#else
#include <emmintrin.h>
#define RECENGINE_ISA baseline
#define RECENGINE_QUERY_TILE 2
#define RECENGINE_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif
#include "kernels/kernels.inl"
