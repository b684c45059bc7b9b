#include "retrieval/lagging_codes.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <new>
#include <vector>

#include "kernels/relaxed.hpp"
#include "retrieval/flat.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr Row kWord = 64;                  // rows of a liveness word
constexpr Row kExtended = 1024;            // rows coded for the first time by a query,
constexpr Row kExtendedShare = 32;         // or one in so many
constexpr std::size_t kRecoded = 512;      // rows coded anew by a query,
constexpr std::size_t kRecodedShare = 64;  // or one in so many
constexpr std::size_t kReplacedShare = 8;  // more replaced rows than one in so many: all are coded again, in order
constexpr float kTypical = 4;              // norms within this factor are much the same
constexpr int kUnfitting = 64;
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
  if (!(query_norm > 1e-35f && query_norm < 1e35f)) return;
  start_anew();
  // Release: who sees it sees that nothing is coded.
  typical_norm_.store(query_norm, std::memory_order_release);
  items_.movement.track(1 / query_norm);
  extensible_ = domain_.ticket();  // learners from before do not say how far they move rows, or in other weights
  unfitting_ = 0;
  begun_.store(true, std::memory_order_relaxed);
}

// Where queries are not what the first one was: bounds of biases in its measure hold, but are loose.
void LaggingCodes::fit_norm(float query_norm) {
  const float typical = typical_norm_.load(std::memory_order_relaxed);
  const bool fits = query_norm <= kTypical * typical && typical <= kTypical * query_norm;
  unfitting_ = fits ? 0 : unfitting_ + 1;
  if (!begun() || unfitting_ >= kUnfitting) begin(query_norm);
}

void LaggingCodes::end() {
  const Turn turn(turn_);
  if (!turn || !begun()) return;
  start_anew();
  items_.movement.stop();
  begun_.store(false, std::memory_order_relaxed);
}

// Those who saw codes have left before one is written again.
void LaggingCodes::start_anew() {
  coded_.store(0, std::memory_order_release);
  extensible_ = domain_.ticket();
}

// The code of a row as it is now. REQUIRES: reset, then a full fence.
void LaggingCodes::encode(Row row) {
  items_.rows.load(row, copy_.data());
  const float bias = CodedQuery::coded_bias(load_relaxed(&items_.bias[row]));
  VectorCode code;
  active_kernels().encode_row(copy_.data(), items_.stride(), bias, block(row), row % kBlockRows, &code);
  raise(length_, code.length);
  raise(error_, code.error);
  raise(norm_, code.norm);
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

// Whether a row that was hit should be coded anew.
bool LaggingCodes::lags(Row row) {
  const float its_scale = load_relaxed(scale(row));
  if (!std::isnan(its_scale)) return items_.movement.distance(row) > lag_;
  if (std::signbit(its_scale) != dropping_sign_) return domain_.passed(dropped_);
  waiting_ = true;
  return false;
}

void LaggingCodes::drop_replaced() {
  if (waiting_ && domain_.passed(dropped_)) {
    waiting_ = false;
    dropping_sign_ = !dropping_sign_;
    dropped_ = domain_.ticket();
  }
  DirtyRows& replaced = items_.movement.replaced;
  if (!replaced.any()) return;
  if (replaced.count() > coded_.load(std::memory_order_relaxed) / kReplacedShare) start_anew();
  const Row coded = coded_.load(std::memory_order_relaxed);
  const float dropped = std::copysign(NAN, dropping_sign_ ? -1.0f : 1.0f);
  bool beyond = false;
  lock_.begin_write();
  replaced.take([&](Row row) {
    if (row < coded) {
      store_relaxed(scale(row), dropped);
    } else {
      beyond = true;
    }
  });
  lock_.end_write();
  if (beyond) extensible_ = domain_.ticket();
}

// Some more rows get their first code, which nobody reads before `coded_` says so.
void LaggingCodes::extend() {
  const Row first = coded_.load(std::memory_order_relaxed);
  const Row whole = items_.count() / kWord * kWord;
  if (first >= whole || !begun() || !domain_.passed(extensible_)) return;
  const Row most = std::max(kExtended, whole / kExtendedShare / kWord * kWord);
  const Row end = first + std::min(most, whole - first);
  try {
    blocks_.reserve(end, block_bytes(items_.stride()) / kBlockRows);
  } catch (const std::bad_alloc&) {
    return;  // without codes it is right as well
  }
  if (first == 0) {
    for (std::atomic<float>* const bound : {&length_, &error_, &norm_}) bound->store(0, std::memory_order_relaxed);
  }
  for (Row word = first; word < end; word += kWord) {
    for (Row row = word; row < word + kWord; ++row) items_.movement.reset(row);
    full_fence();
    for (Row row = word; row < word + kWord; ++row) encode(row);
    if (word % kRowsPerCheck == 0) check_interrupt();
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
  // Ascending: rows that were replaced, of which it is not known whether they were dropped.
  std::vector<Row> pending{};
  float typical_norm = 0;
  std::size_t most_recoded = 0;
  std::array<Row, kScoredTogether + kWord> hits{};
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
    std::array<float, kScoredTogether + kWord> scores;
    const std::span<const Row> rows(hits.data(), num_hits);
    items.rows.gather_dot(query, rows, scores.data());
    report.scored += num_hits;
    for (std::size_t i = 0; i < num_hits; ++i) {
      const float value = scores[i] + load_relaxed(&items.bias[rows[i]]);
      if (value >= top.threshold() && selection.admits(rows[i])) top.push(value, rows[i]);
      // While it is in the cache.
      if (turn && recoded < most_recoded && codes.lags(rows[i])) {
        codes.code(rows[i]);
        ++recoded;
      }
    }
    num_hits = 0;
  }

  void score_pending() {
    for (std::size_t i = 0; i < pending.size(); ++i) {
      hit(pending[i]);
      if (num_hits >= kScoredTogether) score_hits();
      if (i % kRowsPerCheck == 0) check_interrupt();
    }
    score_hits();
    report.pending = pending.size();
  }

  // The blocks of `count` rows that lie one behind the other.
  void screen(Row first, std::size_t count) {
    const float norm = std::max(coded.code.norm, typical_norm);
    const float reach = norm * (1 + coded.rounding + 0x1p-18f);  // rounding: of longer rows, too, and larger biases
    const std::size_t blocks = count / kBlockRows;
    std::array<unsigned short, kScreenedBlocks> found;
    const std::uint32_t start = codes.lock_.begin_read();
    const auto bound = [](const std::atomic<float>& value) { return value.load(std::memory_order_relaxed); };
    const Screening screening =
        coded.screening(bound(codes.length_), bound(codes.error_), bound(codes.norm_), top.threshold());
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
      if (num_hits >= kScoredTogether) score_hits();
    }
    if (report.screened < kEarlyRows) score_hits();
  }

  void run(Row count) {
    std::size_t groups = 0;
    for_each_run(count, [&](std::size_t begin, std::size_t rows) {
      for (std::size_t done = 0, size = 0; done < rows; done += size) {
        size = std::min(report.screened < kEarlyRows ? std::size_t{kWord} : kScreenedBlocks * kBlockRows, rows - done);
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
    fit_norm(scan.coded.code.norm);
    drop_replaced();
    extend();
  }
  // Before `coded_`: what was coded later than this was found lies behind this query's pin. Acquire: as in begin.
  scan.typical_norm = typical_norm_.load(std::memory_order_acquire);
  Row coded = coded_.load(std::memory_order_acquire);  // acquire: with the codes
  if (!turn) {
    items_.movement.replaced.for_each_pending([&scan, coded](Row row) {
      if (row < coded) scan.pending.push_back(row);
    });
    std::sort(scan.pending.begin(), scan.pending.end());
    scan.pending.erase(std::unique(scan.pending.begin(), scan.pending.end()), scan.pending.end());
    // Whoever took the marks of many rows has first put all codes out of use.
    coded = std::min(coded, coded_.load(std::memory_order_acquire));
    std::erase_if(scan.pending, [coded](Row row) { return row >= coded; });
  }
  scan.most_recoded = std::max<std::size_t>(kRecoded, coded / kRecodedShare);
  scan.score_pending();
  scan.run(coded);
  scan_flat(items_, query, selection, top, coded);
  scan.report.scored += items_.count() - coded;
  return scan.report;
}

}  // namespace recengine
