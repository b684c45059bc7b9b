// The screen of many queries (table.hpp has the contract). Included by kernels.inl, after codes.inl, inside the namespace
// of one instruction set.

// What fits the registers beside the rows: queries, and blocks.
constexpr std::size_t kScreenTile = kBytes == 64 ? 4 : 2;
constexpr std::size_t kBlockTile = kBytes == 64 ? 2 : 1;

// hits[q * stride + b] for these queries and blocks; any[q] becomes non-zero where there is one.
template <std::size_t kQueries, std::size_t kBlocks>
RECENGINE_INLINE void screen_tile(const unsigned char* blocks, std::size_t n, const Screening* queries,
                                  unsigned short* hits, std::size_t stride, unsigned (&any)[kQueries]) {
  ints sums[kQueries][kBlocks][kParts];
  for (std::size_t q = 0; q < kQueries; ++q) {
    for (std::size_t b = 0; b < kBlocks; ++b) {
      for (ints& sum : sums[q][b]) sum = splat_integer(queries[q].offset);
    }
  }
  multiply_blocks(
      blocks, n, [queries](std::size_t q, std::size_t d) { return query_group(queries[q].codes + d); }, sums);
  for (std::size_t b = 0; b < kBlocks; ++b) {
    const Scalars scalars = load_scalars(blocks + b * block_bytes(n), n);
    for (std::size_t q = 0; q < kQueries; ++q) {
      hits[q * stride + b] = reaching(sums[q][b], scalars, queries[q]);
      any[q] |= hits[q * stride + b];
    }
  }
}

template <std::size_t kQueries>
RECENGINE_INLINE unsigned screen_tiles(const unsigned char* blocks, std::size_t count, std::size_t n,
                                       const Screening* queries, unsigned short* hits) {
  unsigned any[kQueries] = {};
  std::size_t b = 0;
  for (; b + kBlockTile <= count; b += kBlockTile) {
    screen_tile<kQueries, kBlockTile>(blocks + b * block_bytes(n), n, queries, hits + b, count, any);
  }
  for (; b < count; ++b) screen_tile<kQueries, 1>(blocks + b * block_bytes(n), n, queries, hits + b, count, any);
  unsigned which = 0;
  for (std::size_t q = 0; q < kQueries; ++q) which |= static_cast<unsigned>(any[q] != 0) << q;
  return which;
}

unsigned screen_by_vectors(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening* queries,
                     std::size_t num_queries, unsigned short* hits) {
  unsigned which = 0;
  std::size_t q = 0;
  for (; q + kScreenTile <= num_queries; q += kScreenTile) {
    which |= screen_tiles<kScreenTile>(blocks, count, n, queries + q, hits + q * count) << q;
  }
  for (; q < num_queries; ++q) {
    which |= static_cast<unsigned>(screen(blocks, count, n, queries[q], hits + q * count)) << q;
  }
  return which;
}

#if defined(__AMX_INT8__)

// Tiles multiply 16 rows by 16 queries and 64 dimensions in one instruction, eight times as fast as vectors do. They want
// codes of a byte each: halves are taken apart in between, once for all queries. Blocks go in steps, a few at a time, so
// that what one step stores has reached the cache when the next one loads it: tiles cannot be forwarded what is on its
// way there.
constexpr std::size_t kTileBytes = 1024;                 // 16 lines of 64 bytes
constexpr std::size_t kTileDims = 64;                    // of 16 queries, or of a block
constexpr std::size_t kMostTileDims = 8 * kTileDims;     // longer vectors are left to vectors
constexpr std::size_t kTileQueries = 16;
constexpr std::size_t kStepTiles = 8;                    // of rows, in one step

struct alignas(64) TileConfig {
  unsigned char palette = 1, start_row = 0, reserved[14] = {};
  unsigned short line_bytes[16] = {};
  unsigned char lines[16] = {};
};

struct TileBuffers {
  alignas(64) signed char queries[kMostTileDims / kTileDims][kTileBytes];
  alignas(64) unsigned char rows[kStepTiles][kTileBytes];
  alignas(64) int products[kStepTiles][kTileQueries][kBlockRows];
};

// The intrinsics of GCC do not say that they read memory.
RECENGINE_INLINE void before_tiles() { __asm__ volatile("" ::: "memory"); }

// Up to kTileQueries queries. Bit q of the result: query q has a hit.
unsigned screen_by_tiles(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening* queries,
                         std::size_t num_queries, unsigned short* hits, TileBuffers& buffers) {
  constexpr int kLow = 0x0f0f0f0f;
  const std::size_t parts = (n + kTileDims - 1) / kTileDims;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t size = n - part * kTileDims < kTileDims ? n - part * kTileDims : kTileDims;
    for (std::size_t q = 0; q < num_queries; ++q) {
      signed char* const line = buffers.queries[part] + q * kTileDims;
      __builtin_memcpy(line, queries[q].codes + part * kTileDims, size);
      __builtin_memset(line + size, 0, kTileDims - size);  // so that it does not matter what the rows have there
    }
  }
  // Tile 0: products, 1: queries, 2: rows.
  TileConfig config;
  config.lines[0] = config.lines[1] = static_cast<unsigned char>(num_queries);
  config.lines[2] = kTileDims / kGroup;
  config.line_bytes[0] = config.line_bytes[1] = config.line_bytes[2] = 64;
  before_tiles();
  _tile_loadconfig(&config);

  unsigned any[kTileQueries] = {};
  const std::size_t step_blocks = kStepTiles / parts;
  for (std::size_t first = 0; first < count; first += step_blocks) {
    const std::size_t size = count - first < step_blocks ? count - first : step_blocks;
    const unsigned char* const step = blocks + first * block_bytes(n);
    for (std::size_t b = 0; b < size; ++b) {
      const unsigned char* const block = step + b * block_bytes(n);
      unsigned char* const out = buffers.rows[b * parts];
      for (std::size_t d = 0; d < n; d += 2 * kGroup) {
        const ints rows = load_codes(block + d / 2 * kBlockRows);
        *reinterpret_cast<ints*>(out + d * kBlockRows) = rows & kLow;
        *reinterpret_cast<ints*>(out + d * kBlockRows + kGroupBytes) = (rows >> 4) & kLow;
      }
    }
    before_tiles();
    for (std::size_t b = 0; b < size; ++b) {
      _tile_zero(0);
      for (std::size_t part = 0; part < parts; ++part) {
        _tile_loadd(1, buffers.queries[part], kTileDims);
        _tile_loadd(2, buffers.rows[b * parts + part], kTileDims);
        _tile_dpbsud(0, 1, 2);
      }
      _tile_stored(0, buffers.products[b], kTileDims);
    }
    for (std::size_t b = 0; b < size; ++b) {
      const Scalars scalars = load_scalars(step + b * block_bytes(n), n);
      for (std::size_t q = 0; q < num_queries; ++q) {
        const ints sums[kParts] = {*reinterpret_cast<const ints*>(buffers.products[b][q]) + queries[q].offset};
        const unsigned short reached = reaching(sums, scalars, queries[q]);
        hits[q * count + first + b] = reached;
        any[q] |= reached;
      }
    }
  }
  _tile_release();
  unsigned which = 0;
  for (std::size_t q = 0; q < num_queries; ++q) which |= static_cast<unsigned>(any[q] != 0) << q;
  return which;
}

unsigned screen_many(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening* queries,
                     std::size_t num_queries, unsigned short* hits) {
  if (n > kMostTileDims || num_queries == 1) return screen_by_vectors(blocks, count, n, queries, num_queries, hits);
  TileBuffers buffers;
  unsigned which = 0;
  for (std::size_t q = 0; q < num_queries; q += kTileQueries) {
    const std::size_t size = num_queries - q < kTileQueries ? num_queries - q : kTileQueries;
    which |= screen_by_tiles(blocks, count, n, queries + q, size, hits + q * count, buffers) << q;
  }
  return which;
}

#else

unsigned screen_many(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening* queries,
                     std::size_t num_queries, unsigned short* hits) {
  return screen_by_vectors(blocks, count, n, queries, num_queries, hits);
}

#endif
