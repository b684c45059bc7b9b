#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/engine.hpp"
#include "storage/file.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/parallel.hpp"

namespace recengine {

namespace {

constexpr std::size_t kSharesPerThread = 8;
constexpr std::size_t kMaxShares = 255;
constexpr int kYields = 100;  // before a thread that waits for another sleeps
constexpr auto kNap = std::chrono::microseconds(50);
// Of what is logged and applied as a whole.
constexpr auto kChunkTime = std::chrono::milliseconds(20);
constexpr std::size_t kSmallestChunk = 1024, kLargestChunk = std::size_t{1} << 16;  // events
constexpr std::uint64_t kTimedEvents = 16;                                          // one learn_one in so many is timed

// Memory for an id that is new, and its kind: before the event is logged, so that nothing can go wrong afterwards.
void reserve_for(EmbeddingTable& table, const Id& id) {
  if (find(table.ids, id) != kNoRow) return;
  table.reserve(1);
  table.ids.claim_kind(id.kind);
}

void check_source(const SourceSpan& source, std::size_t events) {
  if (source.offsets.empty()) return;
  validate_id(source.name);
  if (source.offsets.size() != events) {
    throw std::invalid_argument(message("offsets must be ", events, " numbers, not ", source.offsets.size()));
  }
  for (std::size_t e = 1; e < events; ++e) {
    if (source.offsets[e] > source.offsets[e - 1]) continue;
    throw std::invalid_argument(message("offsets must ascend, but ", source.offsets[e], " follows ",
                                        source.offsets[e - 1], " at position ", e));
  }
}

// A column of one id.
class OneId {
 public:
  explicit OneId(const Id& id) : id_(id), offsets_{0, id.text.size()} {}
  OneId(const OneId&) = delete;
  OneId& operator=(const OneId&) = delete;
  IdSpan span() const { return {id_.kind, 1, &id_.number, id_.text.data(), offsets_.data()}; }

 private:
  const Id& id_;
  const std::array<std::uint64_t, 2> offsets_;
};

std::uint32_t learn_flags(const EventColumns& events, const SourceSpan& source) {
  return (events.values != nullptr ? kHasValues : 0u) | (events.weights != nullptr ? kHasWeights : 0u) |
         (events.timestamps != nullptr ? kHasTimestamps : 0u) | (source.offsets.empty() ? 0u : kHasSource);
}

void put_events(PayloadWriter& to, const EventColumns& events, double latest, const SourceSpan& source) {
  const std::size_t size = events.users.size;
  to.put(latest);
  if (!source.offsets.empty()) {
    to.put_text(source.name);
    to.put(source.offsets.back());
  }
  to.put_ids(events.users, 0, size);
  to.put_ids(events.items, 0, size);
  if (events.values != nullptr) to.put_array(events.values, size);
  if (events.weights != nullptr) to.put_array(events.weights, size);
  if (events.timestamps != nullptr) to.put_array(events.timestamps, size);
}

}  // namespace

void Engine::learn_one(const Id& user, const Id& item, float value, float weight, double timestamp,
                       const SourceSpan& source) {
  check_kind(model_.users.ids, user.kind, "user");
  check_kind(model_.items.ids, item.kind, "item");
  check_.require(user, item, value, weight);
  if (!std::isnan(timestamp)) check_.require_timestamp(timestamp);
  check_source(source, 1);
  if (!source.offsets.empty()) sources_.require_room(source.name);
  check_writable();
  if (sources_.count_old(source) > 0) return;

  // Relaxed: which events are timed matters to nobody.
  const bool timed = sequence_.load(std::memory_order_relaxed) % kTimedEvents == 0;
  const auto start = timed ? LatencyHistogram::Clock::now() : LatencyHistogram::Clock::time_point{};
  std::uint64_t record = 0;
  {
    std::optional pin(domain_.pin_writer());
    std::optional<Claims> claims;
    if (is_bounded()) claim_rows(user, item, claims.emplace(user_capacity_, item_capacity_), pin);
    record = learn_pinned(user, item, value, weight, timestamp, source, nullptr, claims ? &*claims : nullptr);
  }
  acknowledge(record);
  if (timed) learn_latency_.record(LatencyHistogram::Clock::now() - start);
}

std::uint64_t Engine::learn_pinned(const Id& user, const Id& item, float value, float weight, double timestamp,
                                   const SourceSpan& source, const Joined* joined, Claims* claims) {
  double when = std::isnan(timestamp) ? latest_timestamp() : timestamp;
  std::uint64_t sequence = 0, use = 0;
  const auto take_number = [&] {
    sequence = sequence_.fetch_add(1, std::memory_order_relaxed);
    if (is_bounded()) use = take_uses(1);
    if (!source.offsets.empty()) sources_.take(source.name, source.offsets[0]);
    if (joined != nullptr) join(*joined);
  };
  const auto learn = [&] {
    if (!std::isnan(timestamp)) {
      saw_timestamp(timestamp);
    } else if (!journal_) {
      when = latest_timestamp();
    }
    const Row who = user_row(user, claims), what = item_row(item, claims);
    const Event event{who, what, value, weight, when, sequence};
    const bool counts = is_within_budget(who);
    user_capacity_.touch(who, use);
    if (counts) item_capacity_.touch(what, use);
    if (!counts) {
      remember_only(event);
    } else if (learner_.is_dislike(event)) {
      learner_.dislike(event);
    } else {
      if (ranker_.on() && ranker_.is_due(event)) ranker_.learn(event);
      learner_.learn(event);
      learner_.count({&event, 1});
    }
    events_.fetch_add(1, std::memory_order_relaxed);
  };
  if (!journal_) {
    take_number();
    learn();
    return 0;
  }
  reserve_for(model_.users, user);
  reserve_for(model_.items, item);
  const OneId user_id(user), item_id(item);
  const EventColumns event{user_id.span(), item_id.span(), value == 1 ? nullptr : &value,
                           weight == 1 ? nullptr : &weight, std::isnan(timestamp) ? nullptr : &timestamp};
  const std::uint64_t record = journal_->append(
      joined == nullptr ? RecordKind::kLearn : RecordKind::kFeedback,
      learn_flags(event, source) | (joined == nullptr ? 0u : kLearns),
      [&](PayloadWriter& to) {
        if (joined != nullptr) put_joined(to, *joined);
        put_events(to, event, when, source);
      },
      take_number);
  journal_->apply(learn);
  return record;
}

// One call of learn_many: what its threads share.
//
// Users are spread over shares, events over pieces in order; what both give is a unit, and the threads take units in
// order. A user's events are learned one after the other, by one thread at a time: a unit waits until the one of its
// share in the piece before is done. There are more shares than threads, so that this hardly ever takes time, and no
// thread has to wait long at the end for another that was held up.
struct Engine::Batch {
  Batch(const EventColumns& columns, double latest, std::size_t threads, Claims* claimed)
      : events(columns),
        timestamp(latest),
        claims(claimed),
        shares(threads == 1
                   ? 1
                   : std::min({kSharesPerThread * threads, std::max(threads, size() / kRowsPerPin), kMaxShares})),
        pieces((columns.users.size + kEventsPerCheck - 1) / kEventsPerCheck),
        users(std::make_unique_for_overwrite<Row[]>(size())),
        items(std::make_unique_for_overwrite<Row[]>(size())),
        order(std::make_unique_for_overwrite<std::uint16_t[]>(size())),
        ends(pieces * shares),
        done(shares) {}

  const EventColumns& events;
  const double timestamp;  // of events without one
  Claims* const claims;    // of new ids; null: there is no limit
  const std::size_t shares, pieces;
  std::uint64_t first_sequence = 0, first_use = 0;
  std::uint64_t removals = 0;  // when the rows were looked up
  // Written first by the threads that look up, each its part: not by the constructor, not twice.
  std::unique_ptr<Row[]> users, items;
  std::unique_ptr<std::uint16_t[]> order;      // of a piece: its events by share, as offsets
  std::vector<std::uint16_t> ends;             // where in the order those of a piece and share end
  std::vector<std::atomic<std::size_t>> done;  // pieces of each share
  std::atomic<bool> has_unknown{false};        // ids without a row
  std::atomic<std::size_t> next_unit{0};
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> applied{0};

  std::size_t size() const { return events.users.size; }
  std::size_t piece_size(std::size_t piece) const {
    return std::min(kEventsPerCheck, size() - piece * kEventsPerCheck);
  }

  void sort(std::size_t piece);
  std::span<const std::uint16_t> unit(std::size_t piece, std::size_t share) const {
    const std::size_t begin = share == 0 ? 0 : ends[piece * shares + share - 1];
    return {&order[piece * kEventsPerCheck + begin], ends[piece * shares + share] - begin};
  }
};

// A counting sort by share, which keeps the order of each.
void Engine::Batch::sort(std::size_t piece) {
  const std::size_t first = piece * kEventsPerCheck, count = piece_size(piece);
  std::array<std::uint8_t, kEventsPerCheck> share;
  std::array<std::uint16_t, 256> starts{};
  for (std::size_t i = 0; i < count; ++i) {
    // The upper half of the hash, scaled to the number of shares.
    share[i] = shares == 1 ? std::uint8_t{0}
                           : static_cast<std::uint8_t>((hash_at(events.users, first + i) >> 32) * shares >> 32);
    ++starts[share[i] + std::size_t{1}];
  }
  for (std::size_t s = 0; s < shares; ++s) {
    starts[s + 1] = static_cast<std::uint16_t>(starts[s + 1] + starts[s]);
    ends[piece * shares + s] = starts[s + 1];
  }
  for (std::size_t i = 0; i < count; ++i) order[first + starts[share[i]]++] = static_cast<std::uint16_t>(i);
}

// Checks and looks up the events of a piece. Reads only: nothing has changed when it throws.
void Engine::prepare(Batch& batch, std::size_t piece, bool is_checked) const {
  const EventColumns& events = batch.events;
  const std::size_t first = piece * kEventsPerCheck, count = batch.piece_size(piece);
  if (!is_checked) check_.require(events, first, count);
  batch.sort(piece);
  const auto look_up = [&](const IdMap& ids, const IdSpan& names, Row* rows) {
    ids.find_many(names, first, count, rows + first);
    bool unknown = false;
    for (std::size_t e = first; e < first + count; ++e) unknown |= rows[e] == kNoRow;
    if (unknown) batch.has_unknown.store(true, std::memory_order_relaxed);
  };
  look_up(model_.users.ids, events.users, batch.users.get());
  look_up(model_.items.ids, events.items, batch.items.get());
}

std::size_t Engine::learn_many(const EventColumns& all, std::size_t threads, const SourceSpan& whole_source,
                               OnBad on_bad) {
  if (all.users.size != all.items.size) {
    throw std::invalid_argument(
        message("users and items must be of equal length, not ", all.users.size, " and ", all.items.size));
  }
  if (all.users.size == 0) return 0;
  check_kind(model_.users.ids, all.users.kind, "user");
  check_kind(model_.items.ids, all.items.kind, "item");
  check_source(whole_source, all.users.size);
  if (!whole_source.offsets.empty()) sources_.require_room(whole_source.name);
  check_writable();
  const std::size_t old = sources_.count_old(whole_source);
  if (old == all.users.size) return old;
  const EventColumns events = part_of(all, old, all.users.size - old);
  const SourceSpan source{whole_source.name, whole_source.offsets.subspan(old)};
  return old +
         (on_bad == OnBad::kSkip ? learn_good(events, threads, source) : learn_all(events, threads, source, false));
}

std::size_t Engine::learn_all(const EventColumns& events, std::size_t threads, const SourceSpan& source,
                              bool is_checked, Claims* claims) {
  std::size_t applied = 0;
  try {
    if (is_bounded() && claims == nullptr) {
      if (!is_checked) check_all(events);
      learn_bounded(events, threads, source, applied);
    } else {
      learn_some(events, threads, source, is_checked, claims, applied);
    }
  } catch (const std::system_error& failure) {
    if (applied == 0) throw;
    fail_after(message(applied, " of ", events.users.size, " events were learned"), failure);
  }
  return applied;
}

void Engine::learn_some(const EventColumns& events, std::size_t threads, const SourceSpan& source, bool is_checked,
                        Claims* claims, std::size_t& applied) {
  // Of a source it must be known how far it came, wherever it stops.
  if (journal_ || !source.offsets.empty()) {
    return learn_in_chunks(events, threads, source, is_checked, claims, applied);
  }
  applied += learn_batch(events, threads, latest_timestamp(), source, is_checked, claims, nullptr);
}

void Engine::check_all(const EventColumns& events) const {
  const std::size_t size = events.users.size;
  for (std::size_t first = 0; first < size; first += kEventsPerCheck) {
    check_interrupt();
    check_.require(events, first, std::min(kEventsPerCheck, size - first));
  }
}

// Chunk by chunk: each is one record, logged and then applied as a whole.
void Engine::learn_in_chunks(const EventColumns& events, std::size_t threads, const SourceSpan& source, bool is_checked,
                             Claims* claims, std::size_t& applied) {
  using Clock = std::chrono::steady_clock;
  const std::size_t size = events.users.size;
  if (!is_checked) check_all(events);
  const double latest = latest_timestamp();
  std::size_t done = 0, chunk = kEventsPerCheck;
  acknowledging([&](std::uint64_t& record) {
    while (done < size && !interrupt_requested()) {
      const auto start = Clock::now();
      const std::size_t count = std::min(chunk, size - done);
      const SourceSpan offsets{source.name,
                               source.offsets.empty() ? source.offsets : source.offsets.subspan(done, count)};
      domain_.refuse_within_pause();
      {
        const auto passage = journal_ ? journal_->gate.pass() : Gate::Passage();
        const Uninterrupted whole;
        learn_batch(part_of(events, done, count), threads, latest, offsets, true, claims, &record);
      }
      done += count;
      applied += count;
      // As large as can be applied between two looks at the interrupt.
      const auto taken = Clock::now() - start;
      if (taken < kChunkTime / 2) chunk = std::min(chunk * 2, kLargestChunk);
      if (taken > kChunkTime) chunk = std::max(chunk / 2, kSmallestChunk);
    }
  });
}

std::size_t Engine::learn_batch(const EventColumns& events, std::size_t threads, double latest,
                                const SourceSpan& source, bool is_checked, Claims* claims, std::uint64_t* record) {
  const std::size_t size = events.users.size;
  threads = std::clamp<std::size_t>(std::min(threads, (size + kRowsPerPin - 1) / kRowsPerPin), 1, 255);

  Batch batch(events, latest, threads, claims);
  // Pinned piece by piece, and never while an interrupt is asked: a signal handler may use the engine. A removal in
  // between shows in the count.
  batch.removals = removals_.load(std::memory_order_acquire);
  run_parallel(threads, batch.stop, [&](std::size_t number) {
    for (std::size_t piece = number; piece < batch.pieces && !batch.stop.load(std::memory_order_relaxed);
         piece += threads) {
      {
        const auto pin = domain_.pin_reader();
        prepare(batch, piece, is_checked);
      }
      check_interrupt();
    }
  });
  if (batch.stop.load(std::memory_order_relaxed)) throw Interrupted();
  if (batch.has_unknown.load(std::memory_order_relaxed)) {
    const auto pin = domain_.pin_writer();
    // Memory for the newcomers is taken now, so that no event of the batch can run out of it.
    model_.users.reserve(count_new(events.users, batch.users.get()));
    model_.items.reserve(count_new(events.items, batch.items.get()));
    model_.users.ids.claim_kind(events.users.kind);
    model_.items.ids.claim_kind(events.items.kind);
  }
  const auto take_numbers = [&] {
    batch.first_sequence = sequence_.fetch_add(size, std::memory_order_relaxed);
    if (is_bounded()) batch.first_use = take_uses(size);
  };
  const auto learn = [&] { run_parallel(threads, batch.stop, [&](std::size_t) { learn_units(batch); }); };
  if (journal_) {
    *record = journal_->append(
        RecordKind::kLearn, learn_flags(events, source),
        [&](PayloadWriter& to) { put_events(to, events, latest, source); },
        [&] {
          take_numbers();
          if (!source.offsets.empty()) sources_.take(source.name, source.offsets.back());
        });
    journal_->apply(learn);
    return size;
  }
  take_numbers();
  learn();
  const std::size_t applied = batch.applied.load(std::memory_order_relaxed);
  if (applied < size && threads == 1) {
    // The events left over give back their numbers, if nobody has drawn any since: learned later, they will be what
    // they would have been.
    std::uint64_t next = batch.first_sequence + size;
    sequence_.compare_exchange_strong(next, batch.first_sequence + applied, std::memory_order_relaxed);
  }
  if (!source.offsets.empty()) sources_.take(source.name, source.offsets.back());  // a chunk: all were applied
  return applied;
}

// One block under one pin: events of a piece, as offsets.
void Engine::learn_block(Batch& batch, std::size_t piece, std::span<const std::uint16_t> block) {
  const EventColumns& events = batch.events;
  const std::size_t first = piece * kEventsPerCheck;
  const auto pin = domain_.pin_writer();
  // Removals wait for this pin: the count stands still while it is held.
  if (removals_.load(std::memory_order_relaxed) != batch.removals) {
    for (const std::size_t offset : block) {
      const std::size_t e = first + offset;
      batch.users[e] = find(model_.users.ids, id_at(events.users, e));
      batch.items[e] = find(model_.items.ids, id_at(events.items, e));
    }
  }
  std::vector<Event> run;
  run.reserve(block.size());
  std::size_t next = 0;  // the first event of `run` that is not learned
  const auto learn_waiting = [&] {
    const auto waiting = std::span(run).subspan(next);
    learner_.learn_run(waiting);
    learner_.count(waiting);
    next = run.size();
  };
  for (const std::size_t offset : block) {
    const std::size_t e = first + offset;
    const double timestamp = events.timestamps == nullptr ? batch.timestamp : events.timestamps[e];
    if (events.timestamps != nullptr) saw_timestamp(timestamp);
    Row user = batch.users[e], item = batch.items[e];
    if (user == kNoRow || item == kNoRow) [[unlikely]] {
      learn_waiting();  // they shall not draw the newcomer
      if (user == kNoRow) user = user_row(id_at(events.users, e), batch.claims);
      if (item == kNoRow) item = item_row(id_at(events.items, e), batch.claims);
    }
    run.push_back({user, item, events.values == nullptr ? 1.0f : events.values[e],
                   events.weights == nullptr ? 1.0f : events.weights[e], timestamp, batch.first_sequence + e});
    const bool counts = is_within_budget(user);
    user_capacity_.touch(user, batch.first_use + e);
    if (counts) item_capacity_.touch(item, batch.first_use + e);
    if (!counts) [[unlikely]] {
      const Event event = run.back();
      run.pop_back();
      learn_waiting();
      remember_only(event);
    } else if (learner_.is_dislike(run.back())) [[unlikely]] {
      const Event event = run.back();
      run.pop_back();
      learn_waiting();
      learner_.dislike(event);
    } else if (ranker_.on() && ranker_.is_due(run.back())) [[unlikely]] {
      const Event event = run.back();
      run.pop_back();
      learn_waiting();
      if (ranker_.is_due(event)) ranker_.learn(event);  // now that what the user did before is known
      run.push_back(event);
    }
  }
  learn_waiting();
}

void Engine::learn_units(Batch& batch) {
  const auto stopped = [&batch] { return batch.stop.load(std::memory_order_relaxed); };
  for (;;) {
    const std::size_t number = batch.next_unit.fetch_add(1, std::memory_order_relaxed);
    const std::size_t piece = number / batch.shares, share = number % batch.shares;
    if (piece >= batch.pieces) return;
    // Acquire and release: what was learned of these users before.
    for (int waits = 0; batch.done[share].load(std::memory_order_acquire) != piece; ++waits) {
      if (interrupt_requested()) batch.stop.store(true, std::memory_order_relaxed);
      if (stopped()) return;
      if (waits < kYields) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(kNap);
      }
    }
    const std::span<const std::uint16_t> unit = batch.unit(piece, share);
    for (std::size_t begin = 0; begin < unit.size(); begin += kRowsPerPin) {
      if (stopped()) return;
      const auto block = unit.subspan(begin, std::min(kRowsPerPin, unit.size() - begin));
      learn_block(batch, piece, block);
      batch.applied.fetch_add(block.size(), std::memory_order_relaxed);
      events_.fetch_add(block.size(), std::memory_order_relaxed);
      if (interrupt_requested()) batch.stop.store(true, std::memory_order_relaxed);
    }
    batch.done[share].store(piece + 1, std::memory_order_release);
  }
}

}  // namespace recengine
