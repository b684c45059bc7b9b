// AVX2, FMA and F16C: 256-bit vectors. Compiled with -mavx2 -mfma -mf16c.
#if defined(__x86_64__)
#include <immintrin.h>
#define RECENGINE_VECTOR_BYTES 32
#define RECENGINE_ISA avx2
#define RECENGINE_QUERY_TILE 3
#define RECENGINE_MULTIPLY_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#include "kernels/kernels.inl"
#endif
