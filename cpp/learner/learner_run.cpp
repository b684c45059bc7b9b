// Learning many events in a row: their memory is asked for some events ahead, so that several cache misses are under
// way at once. An event asks in two steps, since what a user has seen lies two dependent loads away: the user's state,
// then everything.
#include <algorithm>
#include <array>
#include <bit>

#include "kernels/kernels.hpp"
#include "learner/learner.hpp"

namespace recengine {

namespace {

constexpr std::size_t kAhead = 8;   // events between two steps
constexpr std::size_t kPairs = 16;  // a pair lives from its preparation until its group is learned
static_assert(kPairs >= kAhead + kMaxPairs);
constexpr std::size_t kPrefetched = 256;  // floats of a row; the hardware follows by itself from there
constexpr float kMaxPairFactor = 1e6f;    // as much as the kernel takes of a weight or a decay

// To the second level: the first is too small for what several events need, and has too few misses under way.
[[gnu::always_inline]] inline void prefetch_slot(const Slot& slot, std::size_t stride) {
  for (std::size_t d = 0; d < std::min(stride, kPrefetched); d += kRowPadding) __builtin_prefetch(slot.row + d, 0, 2);
  __builtin_prefetch(slot.sums, 0, 2);
}

// From there to the first.
[[gnu::always_inline]] inline void prefetch_row(const float* row, std::size_t stride) {
  for (std::size_t d = 0; d < std::min(stride, kPrefetched); d += kRowPadding) __builtin_prefetch(row + d, 0, 3);
}

}  // namespace

// What is known of an event when its memory is asked for.
struct Learner::Pair {
  PairRows rows;
  const RowSet* seen;
  Row drawn;  // the negative, unless the user has seen it by then; kNoRow: the first draw is none
};

// Events that share no row and await the kernel. (A user occurs once: nobody's seen items change meanwhile.)
struct Learner::PairGroup {
  explicit PairGroup(std::vector<Row>& all) : written(all) { clear(); }

  std::vector<Row>& written;  // the items of all that was learned
  std::array<const PairRows*, kMaxPairs> rows;
  std::array<const Event*, kMaxPairs> events;
  alignas(16) std::array<Row, kMaxPairs> users;
  alignas(16) std::array<Row, 2 * kMaxPairs> items;  // chosen and drawn; kNoRow: no such event
  std::size_t size = 0;

  void clear() {
    users.fill(kNoRow);
    items.fill(kNoRow);
    size = 0;
  }

  void add(const Event& event, const Pair& pair, Row negative) {
    rows[size] = &pair.rows;
    events[size] = &event;
    users[size] = event.user;
    items[2 * size] = event.item;
    items[2 * size + 1] = negative;
    ++size;
  }

  // Of all places, whatever the size: no branches, and the compiler compares four at a time.
  bool shares_row(const Event& event, Row negative) const {
    unsigned shared = 0;
    for (const Row user : users) shared |= unsigned{user == event.user};
    for (const Row item : items) shared |= unsigned{item == event.item} | unsigned{item == negative};
    return shared != 0;
  }
};

void Learner::prepare_pair(const Event& event, Pair& pair) const {
  Random random(settings_.seed, event.sequence);
  Row drawn = random.below(model_.items.count());
  if (drawn == event.item || !model_.items.is_live(drawn)) [[unlikely]]
    drawn = kNoRow;
  pair.rows.user = model_.users.slot(event.user);
  pair.rows.item = model_.items.slot(event.item);
  pair.rows.negative = model_.items.slot(drawn == kNoRow ? event.item : drawn);
  pair.rows.weight = event.weight;
  pair.rows.rate = rate_now(event.sequence);
  pair.seen = &model_.user_state.seen(event.user);
  pair.drawn = drawn;
}

void Learner::prefetch_pair(const Event& event, const Pair& pair) const {
  const std::size_t stride = model_.items.stride();
  prefetch_slot(pair.rows.user, stride);
  prefetch_slot(pair.rows.item, stride);
  __builtin_prefetch(pair.rows.item.bias, 0, 2);
  prefetch_slot(pair.rows.negative, stride);
  __builtin_prefetch(pair.rows.negative.bias, 0, 2);
  pair.seen->prefetch(event.item);
  pair.seen->prefetch(pair.drawn);
  model_.popularity.prefetch(event.item);
}

void Learner::learn_group(PairGroup& group) {
  if (group.size == 0) return;
  group.written.reserve(group.written.size() + 2 * group.size);  // before anything moves: it may throw
  Movement& movement = model_.items.movement;
  const bool tracked = movement.tracked();
  const PairStep step{settings_.l2, settings_.max_step, static_cast<float>(model_.items.dim()),
                      settings_.optimizer == Optimizer::kAdagrad, tracked ? movement.bias_weight() : 0.0f};
  std::array<float, 2 * kMaxPairs> distances;
  unsigned left = active_kernels().learn_pairs(group.rows.data(), group.size, step, model_.items.stride(),
                                               tracked ? distances.data() : nullptr);
  if (tracked) {
    order_stores();
    for (std::size_t i = 0; i < 2 * group.size; ++i) movement.add(group.items[i], distances[i]);
  }
  for (; left != 0; left &= left - 1) learn_candidates(*group.events[static_cast<std::size_t>(std::countr_zero(left))]);
  const auto items = group.items.begin();
  group.written.insert(group.written.end(), items, items + static_cast<std::ptrdiff_t>(2 * group.size));
  group.clear();
}

void Learner::learn_pair(const Event& event, Pair& pair, PairGroup& group) {
  Row negative = pair.drawn;
  if (negative == kNoRow || pair.seen->contains(negative)) [[unlikely]] {
    Random random(settings_.seed, event.sequence);
    negative = sampler_.uniform(random, event.item, pair.seen);
    if (negative != kNoRow) pair.rows.negative = model_.items.slot(negative);
  }
  if (negative == kNoRow || event.weight > kMaxPairFactor || pair.rows.rate * settings_.l2 > kMaxPairFactor)
      [[unlikely]] {
    learn_group(group);
    learn_candidates(event);
    return;
  }
  if (group.size == kMaxPairs || group.shares_row(event, negative)) learn_group(group);
  group.add(event, pair, negative);
  // While the group waits for others.
  const std::size_t stride = model_.items.stride();
  prefetch_row(pair.rows.user.row, stride);
  prefetch_row(pair.rows.item.row, stride);
  prefetch_row(pair.rows.negative.row, stride);
}

void Learner::learn(const Event& event) {
  const Marking marking(*this);
  if (event.weight > 0) {
    if (learns_pairs()) {
      Pair pair;
      PairGroup group(written());
      prepare_pair(event, pair);
      learn_pair(event, pair, group);
      learn_group(group);
    } else {
      learn_candidates(event);
    }
  }
  mark_written();
  observe(event);
}

void Learner::prefetch(const Event& event) const {
  const std::size_t stride = model_.items.stride();
  prefetch_slot(model_.users.slot(event.user), stride);
  const Slot item = model_.items.slot(event.item);
  prefetch_slot(item, stride);
  __builtin_prefetch(item.bias, 0, 2);
  model_.user_state.seen(event.user).prefetch(event.item);
  model_.popularity.prefetch(event.item);
  if (model_.demand) model_.demand->trends.prefetch(event.item);
}

void Learner::learn_run(std::span<const Event> events) {
  const Marking marking(*this);
  const bool in_pairs = learns_pairs();
  written().reserve(written().size() + 2 * events.size());
  std::array<Pair, kPairs> pairs;
  PairGroup group(written());
  for (std::size_t step = 0; step < events.size() + 2 * kAhead; ++step) {
    if (step < events.size()) model_.user_state.prefetch(events[step].user);
    if (step >= 2 * kAhead) {
      const Event& event = events[step - 2 * kAhead];
      if (!in_pairs) {
        learn(event);
      } else {
        Pair& pair = pairs[(step - kAhead) % kPairs];
        if (event.weight > 0) {
          learn_pair(event, pair, group);
        } else {
          learn_group(group);  // whose pairs' places are taken again by later events
        }
        if (model_.cooccurrence.on() || !pair.seen->contains(event.item)) observe(event);
      }
    }
    if (step >= kAhead && step - kAhead < events.size()) {
      const Event& event = events[step - kAhead];
      prefetch_neighbors(event);
      if (!in_pairs) {
        prefetch(event);
      } else {
        Pair& pair = pairs[step % kPairs];
        prepare_pair(event, pair);
        prefetch_pair(event, pair);
      }
    }
  }
  learn_group(group);
  mark_written();
}

}  // namespace recengine
