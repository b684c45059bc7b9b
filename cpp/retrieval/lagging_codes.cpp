#include "retrieval/lagging_codes.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/relaxed.hpp"
#include "retrieval/flat.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr Row kWord = 64;                      // rows of a liveness word
constexpr std::size_t kGroup = 16;             // blocks screened with one threshold
constexpr std::size_t kEarly = 1024;           // rows screened while the threshold still rises fast
constexpr std::size_t kHits = 16;              // rows scored together
constexpr Row kExtended = 1024;                // rows coded for the first time by a query,
constexpr Row kExtendedShare = 32;             // or one in so many
constexpr std::size_t kRecoded = 512;          // rows coded anew by a query
constexpr std::size_t kGroupsPerCheck = 1024;  // between two looks at the interrupt

// Relaxed: read under the sequence lock, or before the rows it bounds are published.
void raise(std::atomic<float>& bound, float value) {
  if (!(value <= bound.load(std::memory_order_relaxed))) bound.store(value, std::memory_order_relaxed);
}

}  // namespace

// Whether nobody else codes.
class LaggingCodes::Turn {
 public:
  // Acquire and release: each sees what the one before it did.
  explicit Turn(std::atomic<bool>& taken) : taken_(taken), owns_(!taken.exchange(true, std::memory_order_acquire)) {}
  ~Turn() {
    if (owns_) taken_.store(false, std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  explicit operator bool() const { return owns_; }

 private:
  std::atomic<bool>& taken_;
  const bool owns_;
};

unsigned char* LaggingCodes::block(Row row) const {
  const ChunkPosition at = locate(row);
  std::byte* const start = blocks_.start(at.chunk) + at.offset / kBlockRows * block_bytes(items_.stride());
  return reinterpret_cast<unsigned char*>(start);
}

float* LaggingCodes::scale(Row row) const {
  return reinterpret_cast<float*>(block(row) + items_.stride() / 2 * kBlockRows) + row % kBlockRows;
}

void LaggingCodes::begin(float query_norm) {
  // Of a query that says nothing about others it is not learned how biases compare.
  if (begun() || !(query_norm > 1e-35f && query_norm < 1e35f)) return;
  coded_.store(0, std::memory_order_relaxed);  // whoever saw more left before a row is coded: ticket_
  typical_norm_.store(query_norm, std::memory_order_relaxed);
  items_.movement.track(1 / query_norm);
  ticket_ = domain_.ticket();
  begun_.store(true, std::memory_order_relaxed);
}

void LaggingCodes::end() {
  const Turn turn(turn_);
  if (!turn || !begun()) return;
  coded_.store(0, std::memory_order_relaxed);
  items_.movement.stop();
  begun_.store(false, std::memory_order_relaxed);
}

// The code of a row as it is now. REQUIRES: reset, then a full fence.
void LaggingCodes::encode(Row row) {
  items_.rows.load(row, copy_.data());
  const float bias = load_relaxed(&items_.bias[row]);
  VectorCode code;
  active_kernels().encode_row(copy_.data(), items_.stride(), bias, block(row), row % kBlockRows, &code);
  raise(length_, code.length);
  raise(error_, code.error);
  raise(norm_, code.norm);
  raise(largest_bias_, std::abs(bias));
  const float lag = code.scale * code.error / 2;
  if (std::isfinite(lag)) lag_ += (lag - lag_) / 64;
}

void LaggingCodes::code(Row row) {
  lock_.begin_write();
  items_.movement.reset(row);
  full_fence();
  encode(row);
  lock_.end_write();
}

void LaggingCodes::drop_replaced() {
  const Row coded = coded_.load(std::memory_order_relaxed);
  items_.movement.replaced.take([&](Row row) {
    if (row >= coded) return;
    lock_.begin_write();
    store_relaxed(scale(row), NAN);
    lock_.end_write();
  });
}

// Some more rows get their first code, which nobody reads before `coded_` says so.
void LaggingCodes::extend() {
  const Row first = coded_.load(std::memory_order_relaxed);
  const Row whole = items_.count() / kWord * kWord;
  if (first >= whole || !begun() || !domain_.passed(ticket_)) return;
  const Row most = std::max(kExtended, whole / kExtendedShare / kWord * kWord);
  const Row end = first + std::min(most, whole - first);
  blocks_.reserve(end, block_bytes(items_.stride()) / kBlockRows);
  for (Row word = first; word < end; word += kWord) {
    for (Row row = word; row < word + kWord; ++row) items_.movement.reset(row);
    full_fence();
    for (Row row = word; row < word + kWord; ++row) encode(row);
  }
  // Release: with their codes and what bounds them.
  coded_.store(end, std::memory_order_release);
}

struct LaggingCodes::Scan {
  LaggingCodes& codes;
  const EmbeddingTable& items;
  const float* query;
  const Selection& selection;
  TopK<float>& top;
  const Turn& turn;
  CodedQuery coded{};
  std::vector<Row> pending{};  // ascending; rows that were replaced, of which it is not known whether they were dropped
  std::array<Row, kHits + kWord> hits{};
  std::size_t num_hits = 0;
  std::size_t recoded = 0;
  SearchReport report{};

  void hit(Row row) {
    if (!items.is_live(row)) return;
    items.rows.prefetch(row);
    __builtin_prefetch(&items.bias[row]);
    hits[num_hits++] = row;
  }

  void score_hits() {
    std::array<float, kHits + kWord> scores;
    const std::span<const Row> rows(hits.data(), num_hits);
    items.rows.gather_dot(query, rows, scores.data());
    report.scored += num_hits;
    for (std::size_t i = 0; i < num_hits; ++i) {
      const float value = scores[i] + load_relaxed(&items.bias[rows[i]]);
      if (value >= top.threshold() && selection.admits(rows[i])) top.push(value, rows[i]);
      // While it is in the cache.
      if (turn && recoded < kRecoded && lags(rows[i])) {
        codes.code(rows[i]);
        ++recoded;
      }
    }
    num_hits = 0;
  }

  bool lags(Row row) const {
    return items.movement.distance(row) > codes.lag_ || std::isnan(load_relaxed(codes.scale(row)));
  }

  void score_pending() {
    for (const Row row : pending) {
      hit(row);
      if (num_hits >= kHits) score_hits();
    }
    score_hits();
    report.pending = pending.size();
  }

  // The blocks of `count` rows that lie one behind the other.
  void screen(Row first, std::size_t count) {
    const float norm = std::max(coded.code.norm, codes.typical_norm_.load(std::memory_order_relaxed));
    const float reach = norm * (1 + coded.rounding + 0x1p-18f);  // rounding: of longer rows, too, and larger biases
    const std::size_t blocks = count / kBlockRows;
    std::array<unsigned short, kGroup> found;
    const std::uint32_t start = codes.lock_.begin_read();
    const auto bound = [](const std::atomic<float>& value) { return value.load(std::memory_order_relaxed); };
    const float slack = CodedQuery::bias_slack(bound(codes.largest_bias_));
    const Screening screening =
        coded.screening(bound(codes.length_), bound(codes.error_), bound(codes.norm_), top.threshold() - slack);
    bool any = active_kernels().screen_moved(codes.block(first), blocks, items.stride(), screening,
                                             items.movement.distances(first), reach, found.data());
    if (!codes.lock_.unchanged(start)) {  // written while we looked: none of it counts
      found.fill(0xFFFF);
      any = true;
    }
    report.screened += count;
    if (!any) return;
    for (std::size_t b = 0; b < blocks; ++b) {
      for (unsigned left = found[b]; left != 0; left &= left - 1) {
        const Row row = first + static_cast<Row>(b * kBlockRows) + static_cast<Row>(std::countr_zero(left));
        if (pending.empty() || !std::binary_search(pending.begin(), pending.end(), row)) hit(row);
      }
      if (num_hits >= kHits) score_hits();
    }
    if (report.screened < kEarly) score_hits();
  }

  void run(Row count) {
    std::size_t groups = 0;
    for_each_run(count, [&](std::size_t begin, std::size_t rows) {
      for (std::size_t done = 0, size = 0; done < rows; done += size) {
        size = std::min(report.screened < kEarly ? std::size_t{kWord} : kGroup * kBlockRows, rows - done);
        screen(static_cast<Row>(begin + done), size);
        if (++groups % kGroupsPerCheck == 0) check_interrupt();
      }
    });
    score_hits();
  }
};

SearchReport LaggingCodes::scan(const float* query, const Selection& selection, TopK<float>& top) {
  const Turn turn(turn_);
  Scan scan{*this, items_, query, selection, top, turn};
  scan.coded.encode(query, items_.stride());
  if (turn) {
    begin(scan.coded.code.norm);
    drop_replaced();
    extend();
  } else {
    items_.movement.replaced.for_each_pending([&scan](Row row) { scan.pending.push_back(row); });
    std::sort(scan.pending.begin(), scan.pending.end());
    scan.pending.erase(std::unique(scan.pending.begin(), scan.pending.end()), scan.pending.end());
  }
  const Row coded = coded_.load(std::memory_order_acquire);  // acquire: with the codes
  std::erase_if(scan.pending, [coded](Row row) { return row >= coded; });
  scan.score_pending();
  scan.run(coded);
  scan_flat(items_, query, selection, top, coded);
  scan.report.scored += items_.count() - coded;
  return scan.report;
}

}  // namespace recengine
