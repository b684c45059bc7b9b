#include "learner/learner.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "learner/objectives.hpp"
#include "storage/fence.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr float kMaxValue = 1e15f;
constexpr std::uint64_t kRoundingStream = 0x726F756E64u;  // "round": not what draws negatives

// A candidate with a smaller slope is left as it is, where there is a history: a quarter to a third of them, whose
// steps together change nothing that could be measured.
constexpr float kLeastSlope = 1e-3f;
// The rate of the numbers in ContextWeights, relative to that of rows.
constexpr float kContextRate = 0.5f;

}  // namespace

// The memory of one step, one a thread.
struct Learner::Scratch {
  QueryVector query;
  AlignedFloats gradient, row, before;
  std::vector<Row> items, history;
  std::vector<Slot> slots;
  std::vector<float> scores, slopes, correction;
  std::array<float, 2 * ContextWeights::kRepeats> repeat_slopes;
};

std::vector<Row>& Learner::written() {
  thread_local std::vector<Row> rows;
  return rows;
}

void Learner::mark_written() {
  full_fence();
  for (const Row row : written()) model_.items.dirty.mark(row);
  model_.items.movement.count(written().size());
  if (model_.fold_in) model_.fold_in->moved(written().size());
  written().clear();
}

Learner::Scratch& Learner::scratch() {
  thread_local Scratch work;
  return work;
}

Learner::Learner(Model& model, const Settings& settings)
    : model_(model), settings_(settings), sampler_(model), learning_rate_(settings.learning_rate) {}

bool Learner::takes(float value) const {
  if (!(std::abs(value) <= kMaxValue)) return false;  // also NaN
  if (settings_.objective == Objective::kLogistic) return value == 0 || value == 1;
  return !ranks() || value != 0;
}

void Learner::check_value(float value) const {
  if (takes(value)) return;
  const char* expected = "finite and at most 1e15";
  if (settings_.objective == Objective::kLogistic) expected = "0 or 1 for objective 'logistic'";
  if (ranks() && value == 0) expected = "positive or negative for objectives 'softmax' and 'bpr'";
  throw std::invalid_argument(message("value must be ", expected, ", not ", value));
}

float Learner::full_score(float score, Row user) const {
  const float user_bias = user == kNoRow ? 0.0f : load_relaxed(&model_.users.bias[user]);
  return score + user_bias + load_relaxed(&model_.global_bias);
}

void Learner::learn_candidates(const Event& event) {
  Scratch& work = scratch();
  model_.compose(event.user, event.timestamp, work.query);
  const std::size_t count = draw_candidates(event, work);
  float user_bias_slope = 0;
  take_slopes(event, work, count, &user_bias_slope);
  apply(event, work, count, user_bias_slope);
}

std::size_t Learner::draw_candidates(const Event& event, Scratch& work) const {
  const std::size_t most = std::size_t{1} + settings_.negatives + work.query.repeated.size();
  work.items.resize(most);
  work.correction.resize(most);
  work.items[0] = event.item;
  work.correction[0] = 1;
  Random random(settings_.seed, event.sequence);
  std::size_t count = 1;
  if (settings_.objective == Objective::kSoftmax) {
    count += sampler_.mixed(random, event.item, settings_.negatives, settings_.recent_share, work.items.data() + 1,
                            work.correction.data() + 1);
    // The items of the history for certain: what they add to the sum is known, not estimated. A dislike says nothing of
    // them.
    for (const Row item : work.query.repeated) {
      if (item == event.item || event.value < 0) continue;
      work.items[count] = item;
      work.correction[count++] = 1;
    }
  } else if (settings_.objective == Objective::kBpr || event.value > 0) {  // logistic: for positives; squared has none
    const RowSet& seen = model_.user_state.seen(event.user);
    for (std::uint32_t draw = 0; draw < settings_.negatives; ++draw) {
      const Row item = sampler_.uniform(random, event.item, &seen);
      if (item != kNoRow) work.items[count++] = item;
    }
  }
  work.slots.resize(count);
  for (std::size_t j = 0; j < count; ++j) work.slots[j] = model_.items.slot(work.items[j]);
  return count;
}

void Learner::take_slopes(const Event& event, Scratch& work, std::size_t count, float* user_bias_slope) const {
  work.scores.resize(count);
  work.slopes.resize(count);
  float* const scores = work.scores.data();
  float* const slopes = work.slopes.data();
  model_.items.rows.gather_dot(work.query.x.data(), std::span<const Slot>(work.slots), scores);
  for (std::size_t j = 0; j < count; ++j) scores[j] += load_relaxed(work.slots[j].bias);
  if (!work.query.repeats.empty()) {
    for (std::size_t j = 0; j < count; ++j) scores[j] += work.query.offset(work.items[j]);
  }
  if (is_dislike(event)) {
    dislike_slopes(scores, count, slopes);
  } else {
    choice_slopes(event, work, count);
  }
  for (std::size_t j = 0; j < count; ++j) {
    slopes[j] *= event.weight;
    // Scores that overflowed say nothing about a direction.
    if (!std::isfinite(slopes[j])) slopes[j] = 0;
    *user_bias_slope += slopes[j];
  }
}

void Learner::choice_slopes(const Event& event, Scratch& work, std::size_t count) const {
  const float* const scores = work.scores.data();
  float* const slopes = work.slopes.data();
  switch (settings_.objective) {
    case Objective::kSoftmax:
      softmax_slopes(scores, work.correction.data(), count, slopes);
      break;
    case Objective::kBpr:
      bpr_slopes(scores, count, slopes);
      break;
    case Objective::kLogistic:
      for (std::size_t j = 0; j < count; ++j) {
        slopes[j] = logistic_slope(full_score(scores[j], event.user), j == 0 ? event.value : 0.0f);
      }
      break;
    case Objective::kSquared:
      slopes[0] = squared_slope(full_score(scores[0], event.user), event.value);
      break;
  }
}

std::uint64_t Learner::rounding_seed(std::uint64_t sequence) const {
  return Random(settings_.seed ^ kRoundingStream, sequence).next();
}

float Learner::rate_now(std::uint64_t sequence) const {
  if (settings_.learning_rate_decay == 0) return learning_rate();
  return learning_rate() / (1 + settings_.learning_rate_decay * static_cast<float>(sequence));
}

float Learner::row_rate(float rate, float* accumulator, float mean_square) const {
  if (settings_.optimizer == Optimizer::kSgd) return rate;
  // A mean square that overflowed (or infinity times zero) counts as the largest.
  const float added = mean_square <= kMaxAccumulator ? mean_square : kMaxAccumulator;
  const float sum = std::min(load_relaxed(accumulator) * kKeptSum + added, kMaxAccumulator);
  store_relaxed(accumulator, sum);
  return rate / std::sqrt(sum + kEpsilon);
}

void Learner::step_scalar(float* value, float* accumulator, float slope, float rate, float l2) const {
  const float old = load_relaxed(value);
  const float step = row_rate(rate, accumulator, slope * slope) * slope + rate * l2 * old;
  const float clipped = std::clamp(step, -settings_.max_step, settings_.max_step);
  if (std::isfinite(clipped)) store_relaxed(value, old - clipped);
}

// An item's step, which moves its row, its bias, or both.
template <class Step>
void Learner::step_item(Row row, const Slot& slot, Scratch& work, Step step) {
  EmbeddingTable& items = model_.items;
  written().push_back(row);
  if (!items.movement.tracked()) return step();
  const std::size_t n = items.stride();
  work.before.resize(n);
  items.rows.load(row, work.before.data());
  const float bias = load_relaxed(slot.bias);
  step();
  items.rows.add_scaled(work.before.data(), row, -1);
  const float moved = Movement::norm(active_kernels().square_norm(work.before.data(), n), n);
  order_stores();
  items.movement.add(row, moved + items.movement.bias_weight() * std::abs(load_relaxed(slot.bias) - bias));
}

void Learner::apply(const Event& event, Scratch& work, std::size_t count, float user_bias_slope) {
  const Kernels& kernels = active_kernels();
  const std::size_t n = model_.items.stride();
  const std::uint64_t seed = rounding_seed(event.sequence);
  const float dim = static_cast<float>(model_.items.dim());
  const float rate = rate_now(event.sequence);
  const float l2 = settings_.l2;
  // Kernels multiply a row's own rate by this, so that every row decays at the plain one.
  const auto decay = [rate, l2](float own_rate) { return l2 > 0 && own_rate > 0 ? l2 * (rate / own_rate) : 0.0f; };
  const float clip = settings_.max_step;
  const float* const x = work.query.x.data();
  const float x_mean_square = kernels.square_norm(x, n) / dim;

  const float least = settings_.history > 0 && ranks() ? kLeastSlope * event.weight : 0.0f;
  work.gradient.assign(n, 0.0f);
  float* const gradient = work.gradient.data();
  for (std::size_t j = 0; j < count; ++j) {
    const Slot& item = work.slots[j];
    const float slope = work.slopes[j];
    if (std::abs(slope) < least) continue;  // false where that is zero
    const float row_step = row_rate(rate, &item.sums->row, slope * slope * x_mean_square);
    step_item(work.items[j], item, work, [&] {
      model_.items.rows.modify(work.items[j], item, seed, work.row, [&](float* row) {
        kernels.step_candidate(row, x, gradient, slope, row_step, decay(row_step), clip, n);
      });
      step_scalar(item.bias, &item.sums->bias, slope, rate, l2);
    });
  }
  // A vector that was solved has no row of its own; what it is solved from moves as candidates only.
  if (settings_.user_model == UserModel::kAls) {
    if (!ranks()) learn_biases(event, user_bias_slope);
    return;
  }
  const float gradient_mean_square = kernels.square_norm(gradient, n) / dim;
  const Slot user = model_.users.slot(event.user);
  const float user_step = row_rate(rate, &user.sums->row, gradient_mean_square);
  model_.users.rows.modify(event.user, user, seed, work.row, [&](float* row) {
    kernels.step_row(row, gradient, 1, user_step, decay(user_step), clip, n);
  });
  learn_context(event, work, count);
  for (const QueryVector::Term& term : work.query.history) {
    const Slot item = model_.items.slot(term.item);
    const float row_step = row_rate(rate, &item.sums->row, term.weight * term.weight * gradient_mean_square);
    step_item(term.item, item, work, [&] {
      model_.items.rows.modify(term.item, item, seed, work.row,
                               [&](float* row) { kernels.step_row(row, gradient, term.weight, row_step, 0, clip, n); });
    });
  }
  if (!ranks()) learn_biases(event, user_bias_slope);
}

void Learner::learn_biases(const Event& event, float slope) {
  const Slot user = model_.users.slot(event.user);
  step_scalar(user.bias, &user.sums->bias, slope, rate_now(event.sequence), settings_.l2);
  learn_global(event, slope);
}

// The weights of the history, with its rows as the candidates' steps have left them, and the offsets of its items.
void Learner::learn_context(const Event& event, Scratch& work, std::size_t count) {
  const QueryVector& query = work.query;
  if (query.history.empty()) return;
  const float rate = kContextRate * rate_now(event.sequence);
  const auto step = [&](std::uint32_t number, float slope) {
    LearnedScalar& scalar = model_.context[number];
    if (!std::isfinite(slope)) return;
    step_scalar(&scalar.value, &scalar.sum, slope, rate, 0);
    const float value = load_relaxed(&scalar.value);
    const float within = std::clamp(value, -ContextWeights::kMaxWeight, ContextWeights::kMaxWeight);
    if (within != value) store_relaxed(&scalar.value, within);
  };
  if (!query.repeats.empty()) {
    const std::uint32_t first = model_.context.repeat(true, 0);
    work.repeat_slopes.fill(0);
    for (std::size_t j = 0; j < count; ++j) {
      const std::size_t at = query.find(work.items[j]);
      if (at < query.repeats.size()) work.repeat_slopes[query.repeats[at].scalar - first] += work.slopes[j];
    }
    for (std::uint32_t kind = 0; kind < work.repeat_slopes.size(); ++kind) {
      if (work.repeat_slopes[kind] != 0) step(first + kind, work.repeat_slopes[kind]);
    }
  }
  work.history.clear();
  for (const QueryVector::Term& term : query.history) work.history.push_back(term.item);
  work.scores.resize(work.history.size());
  model_.items.rows.gather_dot(work.gradient.data(), work.history, work.scores.data());
  for (std::size_t t = 0; t < query.history.size(); ++t) {
    if (query.history[t].scalar != QueryVector::kFixed) step(query.history[t].scalar, work.scores[t]);
  }
}

void Learner::learn_global(const Event& event, float slope) {
  if (settings_.objective == Objective::kLogistic) {
    step_scalar(&model_.global_bias, &model_.global_accumulator, slope, rate_now(event.sequence), 0);
    return;
  }
  // The weighted mean of all ratings so far.
  const float total = std::min(load_relaxed(&model_.global_accumulator) + event.weight, kMaxAccumulator);
  const float mean = load_relaxed(&model_.global_bias);
  store_relaxed(&model_.global_accumulator, total);
  store_relaxed(&model_.global_bias, mean + (event.value - mean) * std::min(event.weight / total, 1.0f));
}

// An item that was shown and not chosen (label 0), or disliked, is no choice.
bool Learner::is_choice(const Event& event) const {
  if (is_dislike(event)) return false;
  return settings_.objective != Objective::kLogistic || event.value != 0;
}

void Learner::count(std::span<const Event> events) {
  std::array<Row, Popularity::kBatch> items;
  std::array<double, Popularity::kBatch> timestamps;
  std::size_t count = 0;
  for (std::size_t e = 0; e < events.size(); ++e) {
    if (is_choice(events[e])) {
      items[count] = events[e].item;
      timestamps[count++] = events[e].timestamp;
    }
    if (count == Popularity::kBatch || e + 1 == events.size()) {
      model_.popularity.add(items.data(), timestamps.data(), count);
      count = 0;
    }
  }
}

std::span<const Row> Learner::last_items(const Event& event) const {
  thread_local std::array<HistoryEntry, kMaxNeighborsWindow> entries;
  thread_local std::array<Row, kMaxNeighborsWindow> last;
  const std::uint32_t most =
      model_.user_state.last_items(event.user, event.timestamp, entries.data(), settings_.neighbors_window);
  std::size_t count = 0;
  for (const HistoryEntry& entry : std::span(entries).first(most)) {
    if (!entry.disliked && model_.items.is_live(entry.item)) last[count++] = entry.item;
  }
  return {last.data(), count};
}

void Learner::prefetch_neighbors(const Event& event) const {
  if (!model_.cooccurrence.on()) return;
  model_.cooccurrence.prefetch(event.item);
  for (const Row item : last_items(event)) model_.cooccurrence.prefetch(item);
}

void Learner::dislike(const Event& event) {
  if (event.weight > 0) learn_candidates(event);
  mark_written();
  model_.user_state.observe(event.user, event.item, event.timestamp, true);
}

void Learner::record(const Event& event) {
  const bool disliked = is_dislike(event);
  if (disliked || is_choice(event)) {
    model_.user_state.observe(event.user, event.item, event.timestamp, disliked);
  }
}

// What the user did, whether or not it moved a row.
void Learner::observe(const Event& event) {
  if (!is_choice(event)) return;
  if (settings_.objective == Objective::kSoftmax) model_.recent.push(event.item);
  if (model_.cooccurrence.on()) model_.cooccurrence.add(event.item, last_items(event), event.timestamp);
  model_.user_state.observe(event.user, event.item, event.timestamp, false);
}

}  // namespace recengine
