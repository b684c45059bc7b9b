// How kernels touch live rows, biases and codes. Included by kernels.inl, inside the namespace of one instruction set.
//
// A plain float that two threads read and write is undefined behaviour, and a relaxed atomic per float costs eight
// times the speed of a dot product. Volatile vector accesses are the way between: the compiler neither repeats, splits
// nor drops them, and every supported machine moves an aligned float in one piece. ThreadSanitizer, which cannot know
// that, gets relaxed atomics, so that it still reports every other race. The same goes for halves.
//
// Codes are stored and, under ThreadSanitizer, loaded by four bytes: load_codes takes kBytes of them, aligned.

using code_group [[gnu::may_alias]] = int;  // eight codes of a row
using halves [[gnu::vector_size(kLanes * sizeof(Half)), gnu::may_alias]] = unsigned short;

#ifdef RECENGINE_ATOMIC_ROWS

inline vec load_row(const float* row) {
  vec value;
  for (std::size_t i = 0; i < kLanes; ++i) {
    float lane;
    __atomic_load(row + i, &lane, __ATOMIC_RELAXED);
    value[i] = lane;
  }
  return value;
}

inline void store_row(float* row, vec value) {
  for (std::size_t i = 0; i < kLanes; ++i) {
    float lane = value[i];
    __atomic_store(row + i, &lane, __ATOMIC_RELAXED);
  }
}

inline halves load_halves(const Half* row) {
  halves value;
  for (std::size_t i = 0; i < kLanes; ++i) {
    Half lane;
    __atomic_load(row + i, &lane, __ATOMIC_RELAXED);
    value[i] = static_cast<unsigned short>(lane);
  }
  return value;
}

inline void store_halves(Half* row, halves value) {
  for (std::size_t i = 0; i < kLanes; ++i) {
    Half lane{value[i]};
    __atomic_store(row + i, &lane, __ATOMIC_RELAXED);
  }
}

inline float load_bias(const float* bias) {
  float value;
  __atomic_load(bias, &value, __ATOMIC_RELAXED);
  return value;
}

inline void store_bias(float* bias, float value) { __atomic_store(bias, &value, __ATOMIC_RELAXED); }

inline quad load_biases(const float* bias) {
  return quad{load_bias(bias), load_bias(bias + 1), load_bias(bias + 2), load_bias(bias + 3)};
}

inline ints load_codes(const unsigned char* bytes) {
  ints value;
  for (std::size_t i = 0; i < kLanes; ++i) {
    value[i] = __atomic_load_n(reinterpret_cast<const code_group*>(bytes) + i, __ATOMIC_RELAXED);
  }
  return value;
}

inline void store_group(unsigned char* bytes, int group) {
  __atomic_store_n(reinterpret_cast<code_group*>(bytes), group, __ATOMIC_RELAXED);
}

#else

[[gnu::always_inline]] inline vec load_row(const float* row) { return *reinterpret_cast<const volatile vec*>(row); }

[[gnu::always_inline]] inline void store_row(float* row, vec value) { *reinterpret_cast<volatile vec*>(row) = value; }

[[gnu::always_inline]] inline halves load_halves(const Half* row) {
  return *reinterpret_cast<const volatile halves*>(row);
}

[[gnu::always_inline]] inline void store_halves(Half* row, halves value) {
  *reinterpret_cast<volatile halves*>(row) = value;
}

[[gnu::always_inline]] inline float load_bias(const float* bias) { return *const_cast<const volatile float*>(bias); }

[[gnu::always_inline]] inline void store_bias(float* bias, float value) { *const_cast<volatile float*>(bias) = value; }

[[gnu::always_inline]] inline quad load_biases(const float* bias) {
  return *reinterpret_cast<const volatile unaligned_quad*>(bias);
}

[[gnu::always_inline]] inline ints load_codes(const unsigned char* bytes) {
  return *reinterpret_cast<const volatile ints*>(bytes);
}

[[gnu::always_inline]] inline void store_group(unsigned char* bytes, int group) {
  *reinterpret_cast<volatile code_group*>(bytes) = group;
}

#endif
