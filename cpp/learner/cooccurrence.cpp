#include "learner/cooccurrence.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/kernels.hpp"
#include "storage/turn.hpp"

namespace recengine {

namespace {

constexpr int kWindow = 32;               // half-lives; an event's factor is below 2^32
constexpr std::int64_t kForgotten = 8;    // windows, after which every count is below the smallest float
constexpr float kWindowDecay = 0x1p-32f;  // 2^-kWindow
constexpr double kMaxCount = 1e30;
constexpr float kDistanceDecay = 0.8f;  // from each of the last items to the one before it
constexpr std::uint32_t kWordsPerLine = 16;

// 128-bit vectors are on every machine; find and least run under the turn, on words that nobody else writes.
using Words [[gnu::vector_size(16)]] = std::uint32_t;

Words load_words(const std::uint32_t* words) {
  Words value;
  std::memcpy(&value, words, sizeof(value));
  return value;
}

// Whether a comparison found anything.
template <class Lanes>
bool any(Lanes lanes) {
  using Halves [[gnu::vector_size(16)]] = std::uint64_t;
  const Halves halves = reinterpret_cast<Halves>(lanes);
  return (halves[0] | halves[1]) != 0;
}

std::uint32_t load_acquire(const std::uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
void store_release(std::uint32_t* word, std::uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

std::uint32_t parity(std::int64_t window) { return (window & 1) != 0 ? kWindowParity : 0; }
float magnitude(std::uint32_t bits) { return std::bit_cast<float>(bits & ~kWindowParity); }
std::uint32_t stored_bits(float count, std::int64_t window) {
  return std::bit_cast<std::uint32_t>(count) | parity(window);
}

std::int64_t encode(std::int64_t window) { return 2 * window + 1; }
std::int64_t decode(std::int64_t stored) { return stored >> 1; }

}  // namespace

Cooccurrence::Cooccurrence(std::uint32_t slots, double half_life)
    : slots_(slots),
      padded_((slots + kWordsPerLine - 1) / kWordsPerLine * kWordsPerLine),
      bytes_(kCacheLine + 3 * std::size_t{padded_} * sizeof(Word)),
      half_life_(half_life),
      events_(half_life) {
  static_assert(sizeof(Header) <= kCacheLine);
  float weight = 1;
  for (float& value : distance_weight_) {
    value = weight;
    weight *= kDistanceDecay;
  }
}

void Cooccurrence::reserve(std::size_t items) {
  if (!on() || stored_) return;
  lists_.reserve(items, bytes_);
  events_.reserve(items);
}

Row Cooccurrence::entry_at(Row item, std::uint32_t slot) const { return load_acquire(entries(header(item)) + slot); }

void Cooccurrence::clear(Row item, std::uint32_t slot) { clear(header(item), slot); }

// A free slot counts nothing, so that newcomers take it first. Release: who still reads the counts for the old entry
// finds it gone afterwards.
void Cooccurrence::clear(Header& list, std::uint32_t slot) {
  store_release(entries(list) + slot, 0);
  store_release(after(list) + slot, 0);
  store_release(before(list) + slot, 0);
}

void Cooccurrence::wipe(Row item) {
  if (!on()) return;
  for (std::uint32_t s = 0; s < slots_; ++s) clear(item, s);
  header(item).window.store(0, std::memory_order_release);
  events_.wipe(item);
}

void Cooccurrence::prefetch(Row item) const {
  Header& list = header(item);
  __builtin_prefetch(&list, 1, 2);
  for (std::uint32_t s = 0; s < padded_; s += kWordsPerLine) __builtin_prefetch(entries(list) + s, 1, 2);
}

Cooccurrence::Moment Cooccurrence::moment(double timestamp) const {
  const double time = timestamp / half_life_;
  const double window = std::floor(time / kWindow);
  // Far from the origin, doubles are further apart than a window is long.
  return {static_cast<std::int64_t>(window), std::exp2(std::clamp(time - kWindow * window, 0.0, double{kWindow}))};
}

// Brings a list to the window of an event and returns what one event weighs there: 0 for one so old that it does not
// count. REQUIRES: the turn.
float Cooccurrence::enter(Header& list, const Moment& now) {
  // Relaxed: the turn orders writers.
  const std::int64_t stored = list.window.load(std::memory_order_relaxed);
  if (stored == 0 || decode(stored) < now.window) shift(list, now.window);
  const std::int64_t ahead = decode(list.window.load(std::memory_order_relaxed)) - now.window;
  return ahead >= kForgotten ? 0.0f : static_cast<float>(std::ldexp(now.factor, static_cast<int>(-kWindow * ahead)));
}

void Cooccurrence::shift(Header& list, std::int64_t window) {
  const std::int64_t stored = list.window.load(std::memory_order_relaxed);
  Word* const entry = entries(list);
  if (stored == 0 || window - decode(stored) >= kForgotten) {
    for (std::uint32_t s = 0; s < slots_; ++s) clear(list, s);
    list.window.store(encode(window), std::memory_order_release);
    return;
  }
  for (std::int64_t next = decode(stored) + 1; next <= window; ++next) {
    // Before the counts, and they with release: who reads one of the next window then finds that the window has moved.
    list.window.store(encode(next), std::memory_order_release);
    for (Word* counts : {after(list), before(list)}) {
      for (std::uint32_t s = 0; s < slots_; ++s) {
        if (entry[s] != 0) store_release(counts + s, stored_bits(magnitude(counts[s]) * kWindowDecay, next));
      }
    }
  }
}

// The first slot that holds `entry`; slots_ or more if none does.
std::uint32_t Cooccurrence::find(const Word* entries, Word entry) const {
  for (std::uint32_t s = 0; s < padded_; s += kWordsPerLine) {
    const auto same = (load_words(entries + s) == entry) | (load_words(entries + s + 4) == entry) |
                      (load_words(entries + s + 8) == entry) | (load_words(entries + s + 12) == entry);
    if (!any(same)) continue;
    while (entries[s] != entry) ++s;
    return s;
  }
  return padded_;
}

// The slot that counts least, the first of several: a free one, if there is any.
std::uint32_t Cooccurrence::least(Header& list) const {
  return static_cast<std::uint32_t>(active_kernels().least_sum(after(list), before(list), slots_));
}

// REQUIRES: the turn, the window entered.
void Cooccurrence::put(Header& list, Row neighbor, float weight, bool came_after) {
  const std::int64_t window = decode(list.window.load(std::memory_order_relaxed));
  Word* const entry = entries(list);
  Word* const counts = came_after ? after(list) : before(list);
  std::uint32_t slot = find(entry, neighbor + 1);
  if (slot < slots_) {
    store_release(counts + slot, stored_bits(magnitude(counts[slot]) + weight, window));
    return;
  }
  slot = least(list);
  Word* const others = came_after ? before(list) : after(list);
  // Gone before its counts change, there again after: a reader who finds the same neighbour before and after it read
  // the counts has read that neighbour's.
  store_release(entry + slot, 0);
  store_release(counts + slot, stored_bits(weight, window));
  store_release(others + slot, stored_bits(0, window));
  store_release(entry + slot, neighbor + 1);
}

void Cooccurrence::add(Row item, std::span<const Row> last, double timestamp) {
  events_.add(&item, &timestamp, 1);
  const Moment now = moment(timestamp);
  if (last.empty()) return;
  {
    Header& own = header(item);
    const Turn turn(own.writing);
    const float unit = enter(own, now);
    for (std::size_t p = 0; unit > 0 && p < last.size(); ++p) {
      if (last[p] != item) put(own, last[p], unit * distance_weight_[p], false);
    }
  }
  for (std::size_t p = 0; p < last.size(); ++p) {
    if (last[p] == item) continue;
    Header& other = header(last[p]);
    const Turn turn(other.writing);
    const float unit = enter(other, now);
    if (unit > 0) put(other, item, unit * distance_weight_[p], true);
  }
}

void Cooccurrence::adopt(const StoredAll& stored) {
  stored_ = stored;
  events_.adopt(stored.levels);
}

std::uint32_t Cooccurrence::stored_neighbors(Row item, double now, Neighbor* out) const {
  const std::int64_t encoded = stored_->windows[item];
  if (encoded == 0) return 0;
  const StoredLists::Part part = stored_->entries.part(item);
  const double scale =
      std::min(std::exp2(static_cast<double>(decode(encoded)) * kWindow - now / half_life_), kMaxCount);
  // A NaN of a damaged file counts as nothing.
  const auto count_of = [scale](float stored) {
    return static_cast<float>(std::min(stored > 0 ? double{stored} * scale : 0.0, kMaxCount));
  };
  std::uint32_t count = 0;
  for (std::size_t at = part.first; at < part.first + std::min<std::size_t>(part.size, slots_); ++at) {
    const Row entry = stored_->entries.values[at];
    if (entry == 0 || entry > stored_->items) continue;
    const Neighbor neighbor{entry - 1, count_of(stored_->after[at]), count_of(stored_->before[at])};
    if (neighbor.after + neighbor.before > 0) out[count++] = neighbor;
  }
  return count;
}

std::uint32_t Cooccurrence::neighbors(Row item, double now, Neighbor* out) const {
  if (stored_) [[unlikely]]
    return stored_neighbors(item, now, out);
  Header& list = header(item);
  const Word* const entry = entries(list);
  const Word* const after_counts = after(list);
  const Word* const before_counts = before(list);
  for (;;) {
    // Acquire: the counts of this window or, still to be shifted, of the one before it.
    const std::int64_t stored = list.window.load(std::memory_order_acquire);
    if (stored == 0) return 0;
    const std::int64_t window = decode(stored);
    // Capped, should `now` be long before the events.
    const double scale = std::min(std::exp2(static_cast<double>(window) * kWindow - now / half_life_), kMaxCount);
    const auto count_of = [&](std::uint32_t bits) {
      const double factor = (bits & kWindowParity) == parity(window) ? scale : scale * double{kWindowDecay};
      return static_cast<float>(std::min(magnitude(bits) * factor, kMaxCount));
    };
    std::uint32_t count = 0;
    for (std::uint32_t s = 0; s < slots_; ++s) {
      const Word before_reading = load_acquire(entry + s);
      if (before_reading == 0) continue;
      const Neighbor neighbor{before_reading - 1, count_of(load_acquire(after_counts + s)),
                              count_of(load_acquire(before_counts + s))};
      // A count that is zero by now is none.
      const bool counts = neighbor.after + neighbor.before > 0;
      if (load_acquire(entry + s) == before_reading && counts) out[count++] = neighbor;
    }
    // Unchanged: every count was of this window or the one before. It moves once in 32 half-lives.
    if (list.window.load(std::memory_order_relaxed) == stored) return count;
  }
}

bool Cooccurrence::can_restore(std::int64_t window, std::size_t slots) const {
  if (window == 0) return slots == 0;
  return window % 2 != 0 && std::abs(static_cast<double>(decode(window))) <= kMaxTimestamp / half_life_ / kWindow + 1;
}

void Cooccurrence::restore(Row item, const Stored& list) {
  events_.restore(item, list.level);
  if (list.window == 0) return;  // as it is: a list takes no memory before it holds something
  Header& target = header(item);
  target.window.store(list.window, std::memory_order_relaxed);
  const std::int64_t window = decode(list.window);
  for (std::size_t s = 0; s < list.entries.size(); ++s) {
    store_release(after(target) + s, stored_bits(list.after[s], window));
    store_release(before(target) + s, stored_bits(list.before[s], window));
    store_release(entries(target) + s, list.entries[s]);
  }
}

}  // namespace recengine
