// A product of matrices. Included by kernels.inl, inside the namespace of one instruction set.
//
// Tiles of the result stay in registers while the common dimension runs: a tile loads each row of b once for kRows rows
// of the result, and one number of a for kVecs registers of it (Goto and van de Geijn 2008, the innermost kernel). The
// common dimension goes in blocks, so that the part of b that all tiles read stays in the first caches.

#if RECENGINE_VECTOR_BYTES == 64
constexpr std::size_t kTileRows = 6, kTileVecs = 4;  // 24 of 32 registers
#elif RECENGINE_VECTOR_BYTES == 32
constexpr std::size_t kTileRows = 6, kTileVecs = 2;  // 12 of 16
#else
constexpr std::size_t kTileRows = 2, kTileVecs = 4;  // 8 of 16: without three operands each product needs one more
#endif
constexpr std::size_t kDepthBlock = 256;

struct Matrix {
  const float* start;
  std::size_t row_stride, stride;  // between neighbours in a column; in a row
};

template <std::size_t kRows, std::size_t kVecs>
RECENGINE_INLINE void multiply_tile(const Matrix& a, const float* b, std::size_t depth, float* out, std::size_t n) {
  vec sums[kRows][kVecs];
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < kVecs; ++v) sums[r][v] = load_vector(out + r * n + v * kLanes);
  }
  for (std::size_t k = 0; k < depth; ++k) {
    vec row[kVecs];
    for (std::size_t v = 0; v < kVecs; ++v) row[v] = load_vector(b + k * n + v * kLanes);
    for (std::size_t r = 0; r < kRows; ++r) {
      const vec factor = splat(a.start[r * a.row_stride + k * a.stride]);
      for (std::size_t v = 0; v < kVecs; ++v) sums[r][v] = multiply_add(factor, row[v], sums[r][v]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < kVecs; ++v) store_vector(out + r * n + v * kLanes, sums[r][v]);
  }
}

// All rows of the result, kVecs registers wide.
template <std::size_t kVecs>
RECENGINE_INLINE void multiply_strip(Matrix a, const float* b, std::size_t depth, float* out, std::size_t count,
                                     std::size_t n) {
  std::size_t r = 0;
  for (; r + kTileRows <= count; r += kTileRows) {
    multiply_tile<kTileRows, kVecs>(a, b, depth, out + r * n, n);
    a.start += kTileRows * a.row_stride;
  }
  for (; r < count; ++r) {
    multiply_tile<1, kVecs>(a, b, depth, out + r * n, n);
    a.start += a.row_stride;
  }
}

void multiply(const float* a, std::size_t row_stride, std::size_t stride, const float* b, std::size_t depth, float* out,
              std::size_t count, std::size_t n) {
  for (std::size_t first = 0; first < depth; first += kDepthBlock) {
    const std::size_t size = depth - first < kDepthBlock ? depth - first : kDepthBlock;
    const Matrix part{a + first * stride, row_stride, stride};
    const float* const rows = b + first * n;
    std::size_t k = 0;
    for (; k + kTileVecs * kLanes <= n; k += kTileVecs * kLanes) {
      multiply_strip<kTileVecs>(part, rows + k, size, out + k, count, n);
    }
    for (; k < n; k += kLanes) multiply_strip<1>(part, rows + k, size, out + k, count, n);
  }
}

void gramian(const float* rows, std::size_t count, float* out, std::size_t n) {
  constexpr std::size_t kStrip = kTileVecs * kLanes;
  const auto strip = [&]<std::size_t kVecs>(std::size_t k, const float* part, std::size_t size) {
    multiply_strip<kVecs>({part, 1, n}, part + k, size, out + k, k + kVecs * kLanes, n);
  };
  for (std::size_t first = 0; first < count; first += kDepthBlock) {
    const std::size_t size = count - first < kDepthBlock ? count - first : kDepthBlock;
    const float* const part = rows + first * n;
    std::size_t k = 0;
    for (; k + kStrip <= n; k += kStrip) strip.template operator()<kTileVecs>(k, part, size);
    for (; k < n; k += kLanes) strip.template operator()<1>(k, part, size);
  }
}
