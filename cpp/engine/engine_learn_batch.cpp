// learn_many on threads: a batch is cut into units that each learn in order, and logged as one record.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "engine/engine.hpp"
#include "engine/event_record.hpp"
#include "storage/interrupt.hpp"
#include "storage/parallel.hpp"

namespace recengine {

namespace {

constexpr std::size_t kSharesPerThread = 8;
constexpr std::size_t kMaxShares = 255;
constexpr int kYields = 100;  // before a thread that waits for another sleeps
constexpr auto kNap = std::chrono::microseconds(50);

}  // namespace

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
