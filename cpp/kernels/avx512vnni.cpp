// AVX-512 with VNNI: 512-bit vectors, and one instruction for the products of codes. Compiled with the flags of
// avx512.cpp and -mavx512vnni.
#if defined(__x86_64__)
#include <immintrin.h>
#define RECENGINE_VECTOR_BYTES 64
#define RECENGINE_ISA avx512vnni
#define RECENGINE_QUERY_TILE 4
#define RECENGINE_MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "kernels/kernels.inl"
#endif
