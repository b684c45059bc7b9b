// AVX-512: 512-bit vectors. Compiled with -mavx2 -mfma -mavx512f -mavx512vl -mavx512dq -mavx512bw.
#if defined(__x86_64__)
#include <immintrin.h>
#define RECENGINE_VECTOR_BYTES 64
#define RECENGINE_ISA avx512
#define RECENGINE_QUERY_TILE 4
#define RECENGINE_MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "kernels/kernels.inl"
#endif
