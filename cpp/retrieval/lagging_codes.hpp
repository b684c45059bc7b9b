// LaggingCodes: 4-bit codes of all rows, in their order, for a table that is learned faster than codes can follow.
//
// A code may lag behind its row. How far the row has moved since (storage/movement.hpp) bounds how much its score has
// changed, so that the screening adds it, and a row is coded anew only once that makes it a hit: a query codes the rows
// that nearly rank, and leaves all others as they are. The ranking is that of the fp32 scan, but for steps that several
// learners took with one row at the same instant.
//
// Codes are made little by little, by the queries; what has none yet is scanned in fp32. Between `end` and `begin`
// learners need not say how far they move rows.
//
// Thread safety: every method under a pin, from any thread. Whoever finds nobody coding codes; nobody waits.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "retrieval/cell_index.hpp"
#include "retrieval/coded_query.hpp"
#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"
#include "storage/embedding_table.hpp"
#include "storage/epoch.hpp"
#include "storage/fence.hpp"

namespace recengine {

class LaggingCodes {
 public:
  LaggingCodes(EpochDomain& domain, EmbeddingTable& items) : domain_(domain), items_(items), copy_(items.stride()) {}
  LaggingCodes(const LaggingCodes&) = delete;
  LaggingCodes& operator=(const LaggingCodes&) = delete;

  // The best of the selection, which has no filter, into `top`. Begins where it has not.
  SearchReport scan(const float* query, const Selection& selection, TopK<float>& top);

  bool begun() const { return begun_.load(std::memory_order_relaxed); }
  void end();

  std::size_t memory_bytes() const { return blocks_.memory_bytes(); }

 private:
  class Turn;
  struct Scan;

  unsigned char* block(Row row) const;
  float* scale(Row row) const;  // live

  // What is done in turns.
  void begin(float query_norm);
  void fit_norm(float query_norm);
  void drop_replaced();
  void start_anew();
  void extend();
  bool lags(Row row);
  void code(Row row);
  void encode(Row row);

  EpochDomain& domain_;
  EmbeddingTable& items_;
  ChunkDirectory blocks_;  // kept from one beginning to the next
  std::atomic<bool> begun_{false};
  std::atomic<Row> coded_{0};  // rows below it have a code, or a scale of NaN; a multiple of 64
  SequenceLock lock_;          // of their codes, and the bounds of all: running maxima
  std::atomic<float> length_{0}, error_{0}, norm_{0};
  std::atomic<float> typical_norm_{0};  // of queries: what makes a bias's movement comparable with a row's
  std::atomic<bool> turn_{false};
  AlignedFloats copy_;            // GUARDED_BY(turn_), as is what follows
  std::uint64_t extensible_ = 0;  // ticket: before, a row has no first code
  float lag_ = 0;                 // a hit that moved so far is coded anew: half a code's usual error
  int unfitting_ = 0;             // queries in a row that were much longer or shorter than a typical one
  // A learner that was in the middle of a step of a row that was dropped may put back what it read, and says only how
  // long its step was: the row is coded once a ticket has passed. Rows that wait for this one, and those that are
  // dropped meanwhile, are told apart by their NaN's sign.
  std::uint64_t dropped_ = 0;
  bool dropping_sign_ = false;
  bool waiting_ = false;  // some were hit that have no ticket yet
};

}  // namespace recengine
