// The screen of many queries (table.hpp has the contract). Included by kernels.inl, after codes.inl, inside the
// namespace of one instruction set.

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

unsigned screen_many(const unsigned char* blocks, std::size_t count, std::size_t n, const Screening* queries,
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
