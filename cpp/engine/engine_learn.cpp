#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/engine.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/parallel.hpp"

namespace recengine {

namespace {

constexpr std::size_t kBlock = 256;    // events a writer's pin is held for
constexpr std::size_t kPiece = 16384;  // events prepared between two looks at the interrupt
constexpr std::size_t kSharesPerThread = 8;
constexpr std::size_t kMaxShares = 255;
constexpr int kYields = 100;  // before a thread that waits for another sleeps
constexpr auto kNap = std::chrono::microseconds(50);
constexpr std::uint64_t kTimedEvents = 16;  // one learn_one in so many is timed

void check_weight(float weight) {
  if (!(weight >= 0 && std::isfinite(weight))) {
    throw std::invalid_argument(message("weight must be finite and at least 0, not ", weight));
  }
}

Row find_or_insert(EmbeddingTable& table, const Id& id) {
  return with_key(id, [&table](auto key) { return table.find_or_insert(key); });
}

}  // namespace

void check_timestamp(double timestamp) {
  if (!(std::abs(timestamp) <= kMaxTimestamp)) {
    throw std::invalid_argument(message("timestamp must be a number of seconds within 1e15, not ", timestamp));
  }
}

void Engine::learn_one(const Id& user, const Id& item, float value, float weight, double timestamp) {
  learner_.check_value(value);
  check_weight(weight);
  if (!std::isnan(timestamp)) check_timestamp(timestamp);
  check_kind(model_.users.ids, user.kind, "user");
  check_kind(model_.items.ids, item.kind, "item");
  if (user.kind == IdKind::kString) validate_id(user.text);
  if (item.kind == IdKind::kString) validate_id(item.text);

  const std::uint64_t sequence = sequence_.fetch_add(1, std::memory_order_relaxed);
  const bool timed = sequence % kTimedEvents == 0;
  const auto start = timed ? LatencyHistogram::Clock::now() : LatencyHistogram::Clock::time_point{};
  {
    const auto pin = domain_.pin_writer();
    if (!std::isnan(timestamp)) saw_timestamp(timestamp);
    const Row user_row = find_or_insert(model_.users, user);
    const Row item_row = find_or_insert(model_.items, item);
    const double when = std::isnan(timestamp) ? latest_timestamp() : timestamp;
    const Event event{user_row, item_row, value, weight, when, sequence};
    if (learner_.is_dislike(event)) {
      learner_.dislike(event);
    } else {
      if (ranker_.on() && ranker_.is_due(event)) ranker_.learn(event);
      learner_.learn(event);
      count_learned({&event, 1});
    }
    events_.fetch_add(1, std::memory_order_relaxed);
  }
  if (timed) learn_latency_.record(LatencyHistogram::Clock::now() - start);
}

void Engine::count_learned(std::span<const Event> events) {
  learner_.count(events);
  if (ranker_.on()) ranker_.count(events);
}

// One call of learn_many: what its threads share.
//
// Users are spread over shares, events over pieces in order; what both give is a unit, and the threads take units in
// order. A user's events are learned one after the other, by one thread at a time: a unit waits until the one of its
// share in the piece before is done. There are more shares than threads, so that this hardly ever takes time, and no
// thread has to wait long at the end for another that was held up.
struct Engine::Batch {
  Batch(const EventColumns& columns, double latest, std::size_t threads)
      : events(columns),
        timestamp(latest),
        shares(threads == 1 ? 1
                            : std::min({kSharesPerThread * threads, std::max(threads, size() / kBlock), kMaxShares})),
        pieces((columns.users.size + kPiece - 1) / kPiece),
        users(std::make_unique_for_overwrite<Row[]>(size())),
        items(std::make_unique_for_overwrite<Row[]>(size())),
        order(std::make_unique_for_overwrite<std::uint16_t[]>(size())),
        ends(pieces * shares),
        done(shares) {}

  const EventColumns& events;
  const double timestamp;  // of events without one
  const std::size_t shares, pieces;
  std::uint64_t first_sequence = 0;
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
  std::size_t piece_size(std::size_t piece) const { return std::min(kPiece, size() - piece * kPiece); }

  void sort(std::size_t piece);
  std::span<const std::uint16_t> unit(std::size_t piece, std::size_t share) const {
    const std::size_t begin = share == 0 ? 0 : ends[piece * shares + share - 1];
    return {&order[piece * kPiece + begin], ends[piece * shares + share] - begin};
  }
};

// A counting sort by share, which keeps the order of each.
void Engine::Batch::sort(std::size_t piece) {
  const std::size_t first = piece * kPiece, count = piece_size(piece);
  std::array<std::uint8_t, kPiece> share;
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
void Engine::prepare(Batch& batch, std::size_t piece) const {
  const EventColumns& events = batch.events;
  const std::size_t first = piece * kPiece, count = batch.piece_size(piece);
  for (std::size_t e = first; e < first + count; ++e) {
    if (events.values != nullptr) learner_.check_value(events.values[e]);
    if (events.weights != nullptr) check_weight(events.weights[e]);
    if (events.timestamps != nullptr) check_timestamp(events.timestamps[e]);
    if (events.users.kind == IdKind::kString) validate_id(events.users.string_at(e));
    if (events.items.kind == IdKind::kString) validate_id(events.items.string_at(e));
  }
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

std::size_t Engine::learn_many(const EventColumns& events, std::size_t threads) {
  const std::size_t size = events.users.size;
  if (size != events.items.size) {
    throw std::invalid_argument(
        message("users and items must be of equal length, not ", size, " and ", events.items.size));
  }
  if (size == 0) return 0;
  check_kind(model_.users.ids, events.users.kind, "user");
  check_kind(model_.items.ids, events.items.kind, "item");
  threads = std::clamp<std::size_t>(std::min(threads, (size + kBlock - 1) / kBlock), 1, 255);

  Batch batch(events, latest_timestamp(), threads);
  // Pinned piece by piece, and never while an interrupt is asked: a signal handler may use the engine. A removal in
  // between shows in the count.
  batch.removals = removals_.load(std::memory_order_acquire);
  run_parallel(threads, batch.stop, [&](std::size_t number) {
    for (std::size_t piece = number; piece < batch.pieces && !batch.stop.load(std::memory_order_relaxed);
         piece += threads) {
      {
        const auto pin = domain_.pin_reader();
        prepare(batch, piece);
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
  }
  batch.first_sequence = sequence_.fetch_add(size, std::memory_order_relaxed);

  run_parallel(threads, batch.stop, [&](std::size_t) { learn_units(batch); });
  const std::size_t applied = batch.applied.load(std::memory_order_relaxed);
  if (applied < size && threads == 1) {
    // The events left over give back their numbers, if nobody has drawn any since: learned later, they will be what
    // they would have been.
    std::uint64_t next = batch.first_sequence + size;
    sequence_.compare_exchange_strong(next, batch.first_sequence + applied, std::memory_order_relaxed);
  }
  return applied;
}

// One block under one pin: events of a piece, as offsets.
void Engine::learn_block(Batch& batch, std::size_t piece, std::span<const std::uint16_t> block) {
  const EventColumns& events = batch.events;
  const std::size_t first = piece * kPiece;
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
    count_learned(waiting);
    next = run.size();
  };
  for (const std::size_t offset : block) {
    const std::size_t e = first + offset;
    const double timestamp = events.timestamps == nullptr ? batch.timestamp : events.timestamps[e];
    if (events.timestamps != nullptr) saw_timestamp(timestamp);
    Row user = batch.users[e], item = batch.items[e];
    if (user == kNoRow || item == kNoRow) [[unlikely]] {
      learn_waiting();  // they shall not draw the newcomer
      if (user == kNoRow) user = find_or_insert(model_.users, id_at(events.users, e));
      if (item == kNoRow) item = find_or_insert(model_.items, id_at(events.items, e));
    }
    run.push_back({user, item, events.values == nullptr ? 1.0f : events.values[e],
                   events.weights == nullptr ? 1.0f : events.weights[e], timestamp, batch.first_sequence + e});
    if (learner_.is_dislike(run.back())) [[unlikely]] {
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
    for (std::size_t begin = 0; begin < unit.size(); begin += kBlock) {
      if (stopped()) return;
      const auto block = unit.subspan(begin, std::min(kBlock, unit.size() - begin));
      learn_block(batch, piece, block);
      batch.applied.fetch_add(block.size(), std::memory_order_relaxed);
      events_.fetch_add(block.size(), std::memory_order_relaxed);
      if (interrupt_requested()) batch.stop.store(true, std::memory_order_relaxed);
    }
    batch.done[share].store(piece + 1, std::memory_order_release);
  }
}

}  // namespace recengine
