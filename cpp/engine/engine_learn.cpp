#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "engine/engine.hpp"
#include "engine/event_record.hpp"
#include "storage/file.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

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

}  // namespace recengine
