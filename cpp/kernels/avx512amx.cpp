// AVX-512 with VNNI and AMX: tiles screen codes for many queries at once. Compiled with the flags of avx512vnni.cpp and
// -mamx-tile -mamx-int8.
#if defined(__x86_64__)
#include <immintrin.h>
#define RECENGINE_VECTOR_BYTES 64
#define RECENGINE_ISA avx512amx
#define RECENGINE_QUERY_TILE 4
#define RECENGINE_MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "kernels/kernels.inl"
#endif
