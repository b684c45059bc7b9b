#include "learner/learner.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
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

// Adagrad's sum once `square` is added. One that overflowed (or infinity times zero) counts as the largest.
float grown(float sum, float square) {
  return std::min(sum * kKeptSum + (square <= kMaxAccumulator ? square : kMaxAccumulator), kMaxAccumulator);
}

}  // namespace

// Rows that move along one vector, each by its own factor: the first `count` of each list.
struct Learner::Moves {
  std::size_t count = 0;
  std::vector<Row> rows;
  std::vector<Slot> slots;
  std::vector<float> slopes, distances;
  AlignedFloats rates, bias_rates;

  void begin(std::size_t most) {
    count = 0;
    if (most <= rows.size()) return;
    rows.resize(most);
    slots.resize(most);
    slopes.resize(most);
    distances.resize(most);
    rates.resize(padded(most));
    bias_rates.resize(padded(most));
  }
  // Counts only `if_so`: no branch that depends on a slope.
  void add(Row row, const Slot& slot, float slope, bool if_so = true) {
    rows[count] = row;
    slots[count] = slot;
    slopes[count] = slope;
    count += if_so ? 1 : 0;
  }
};

// The memory of one step, one a thread.
struct Learner::Scratch {
  // A candidate that the history holds, and where in the query's `repeats`.
  struct Repeated {
    std::size_t candidate, place;
  };

  QueryVector query;
  AlignedFloats gradient, row, before;
  std::vector<Row> items, history;
  std::vector<Slot> slots;
  std::vector<Repeated> repeated;
  AlignedFloats scores, slopes, correction;  // padded
  Moves moves;
  std::array<float, 2 * ContextWeights::kRepeats> repeat_slopes;
  std::vector<LearnedScalar*> scalars;
  std::vector<float> scalar_slopes;
  AlignedFloats scalar_rates;
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
  take_slopes(event, work, count);
  if (!ranks()) user_bias_slope = std::accumulate(work.slopes.data(), work.slopes.data() + count, 0.0f);
  apply(event, work, count, user_bias_slope);
}

std::size_t Learner::draw_candidates(const Event& event, Scratch& work) const {
  const QueryVector& query = work.query;
  const std::size_t most = padded(std::size_t{1} + settings_.negatives + query.repeated.size());
  work.items.resize(most);
  work.scores.resize(most);
  work.slopes.resize(most);
  work.correction.resize(most);
  work.repeated.clear();
  work.items[0] = event.item;
  work.correction[0] = 1;
  Random random(settings_.seed, event.sequence);
  std::size_t count = 1;
  if (settings_.objective == Objective::kSoftmax) {
    count += sampler_.mixed(random, event.item, settings_.negatives, settings_.recent_share, work.items.data() + 1,
                            work.correction.data() + 1);
    for (std::size_t j = 0; j < count; ++j) {
      const std::size_t place = query.find(work.items[j]);
      if (place < query.repeats.size()) work.repeated.push_back({j, place});
    }
    // The items of the history for certain: what they add to the sum is known, not estimated. A dislike says nothing of
    // them.
    for (std::size_t place = 0; place < query.repeated.size() && event.value > 0; ++place) {
      if (query.repeated[place] == event.item) continue;
      work.repeated.push_back({count, place});
      work.items[count] = query.repeated[place];
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

void Learner::take_slopes(const Event& event, Scratch& work, std::size_t count) const {
  float* const scores = work.scores.data();
  float* const slopes = work.slopes.data();
  model_.items.rows.gather_dot(work.query.x.data(), std::span<const Slot>(work.slots), scores);
  for (std::size_t j = 0; j < count; ++j) scores[j] += load_relaxed(work.slots[j].bias);
  for (const auto& [j, place] : work.repeated) scores[j] += work.query.repeats[place].offset;
  if (is_dislike(event)) {
    dislike_slopes(scores, count, slopes);
  } else {
    choice_slopes(event, work, count);
  }
  for (std::size_t j = 0; j < count; ++j) {
    const float slope = slopes[j] * event.weight;
    // Scores that overflowed say nothing about a direction.
    slopes[j] = std::abs(slope) <= std::numeric_limits<float>::max() ? slope : 0.0f;
  }
}

void Learner::choice_slopes(const Event& event, Scratch& work, std::size_t count) const {
  float* const scores = work.scores.data();
  float* const slopes = work.slopes.data();
  switch (settings_.objective) {
    case Objective::kSoftmax:
      // Sampled softmax: -log(exp(s_0) / (exp(s_0) + sum_j exp(s_j) correction_j)), where correction_j = 1 / (n Q_j)
      // makes the sum an unbiased estimate of that over all items (logQ correction; Bengio and Senecal 2008, Yi et al.
      // 2019).
      for (std::size_t j = count; j < padded(count); ++j) {
        scores[j] = scores[0];
        work.correction[j] = 0;
      }
      active_kernels().softmax_slopes(scores, work.correction.data(), padded(count), slopes);
      slopes[0] -= 1;
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
  const float sum = grown(load_relaxed(accumulator), mean_square);
  store_relaxed(accumulator, sum);
  return rate / std::sqrt(sum + kEpsilon);
}

void Learner::step_scalar(float* value, float own_rate, float slope, float decay) const {
  const float old = load_relaxed(value);
  const float step = own_rate * slope + decay * old;
  const float clipped = std::clamp(step, -settings_.max_step, settings_.max_step);
  if (std::isfinite(clipped)) store_relaxed(value, old - clipped);
}

// Moves.rates from Adagrad's sums, which grow by slope^2 mean_square, and with `biases` Moves.bias_rates, by slope^2.
void Learner::adapt(Moves& moves, float rate, float mean_square, bool biases) const {
  const std::size_t count = moves.count, most = padded(count);
  if (settings_.optimizer == Optimizer::kSgd) {
    std::fill(moves.rates.begin(), moves.rates.end(), rate);
    std::fill(moves.bias_rates.begin(), moves.bias_rates.end(), rate);
    return;
  }
  for (std::size_t j = 0; j < count; ++j) {
    Accumulators& sums = *moves.slots[j].sums;
    const float square = moves.slopes[j] * moves.slopes[j];
    store_relaxed(&sums.row, moves.rates[j] = grown(load_relaxed(&sums.row), square * mean_square));
    if (biases) store_relaxed(&sums.bias, moves.bias_rates[j] = grown(load_relaxed(&sums.bias), square));
  }
  active_kernels().adapted_rates(moves.rates.data(), rate, most);
  if (biases) active_kernels().adapted_rates(moves.bias_rates.data(), rate, most);
}

// row_j -= clip(rate_j slope_j x + decay row_j), and gradient += slope_j row_j, if there is one. With `measured`,
// moves.distances.
void Learner::step_rows(EmbeddingTable& table, Scratch& work, const float* x, float* gradient, float decay,
                        std::uint64_t seed, bool measured) {
  Moves& moves = work.moves;
  const std::size_t n = table.stride(), count = moves.count;
  float* const distances = measured ? moves.distances.data() : nullptr;
  const Kernels& kernels = active_kernels();
  const RowSteps all{moves.slots.data(), moves.slopes.data(), moves.rates.data(), count, decay, settings_.max_step};
  if (table.storage() == Storage::kFp32) return kernels.step_rows(all, x, gradient, n, distances);
  work.before.resize(n);
  for (std::size_t j = 0; j < count; ++j) {
    if (measured) table.rows.load(moves.rows[j], work.before.data());
    table.rows.modify(moves.rows[j], moves.slots[j], seed, work.row, [&](float* row) {
      const Slot slot{row, nullptr, nullptr};
      kernels.step_rows({&slot, all.slopes + j, all.rates + j, 1, decay, all.clip}, x, gradient, n, nullptr);
    });
    if (!measured) continue;
    table.rows.add_scaled(work.before.data(), moves.rows[j], -1);  // as it was rounded
    distances[j] = Movement::norm(kernels.square_norm(work.before.data(), n), n);
  }
}

// The same of items, whose movement may be followed; and of their biases, with 1 for x.
void Learner::step_items(Scratch& work, const float* x, float* gradient, float decay, std::uint64_t seed, bool biases) {
  EmbeddingTable& items = model_.items;
  Moves& moves = work.moves;
  written().insert(written().end(), moves.rows.data(), moves.rows.data() + moves.count);
  const bool tracked = items.movement.tracked();
  const float bias_weight = tracked ? items.movement.bias_weight() : 0.0f;
  step_rows(items, work, x, gradient, decay, seed, tracked);
  for (std::size_t j = 0; j < moves.count && biases; ++j) {
    float* const bias = moves.slots[j].bias;
    const float before = load_relaxed(bias);
    step_scalar(bias, moves.bias_rates[j], moves.slopes[j], decay);
    if (tracked) moves.distances[j] += bias_weight * std::abs(load_relaxed(bias) - before);
  }
  if (!tracked) return;
  order_stores();
  for (std::size_t j = 0; j < moves.count; ++j) items.movement.add(moves.rows[j], moves.distances[j]);
}

void Learner::apply(const Event& event, Scratch& work, std::size_t count, float user_bias_slope) {
  const Kernels& kernels = active_kernels();
  const std::size_t n = model_.items.stride();
  const std::uint64_t seed = rounding_seed(event.sequence);
  const float dim = static_cast<float>(model_.items.dim());
  const float rate = rate_now(event.sequence);
  const float decay = rate * settings_.l2;  // plain, whatever a row's own rate
  const float* const x = work.query.x.data();
  Moves& moves = work.moves;

  const float least = settings_.history > 0 && ranks() ? kLeastSlope * event.weight : 0.0f;
  work.gradient.assign(n, 0.0f);
  float* const gradient = work.gradient.data();
  moves.begin(count);
  for (std::size_t j = 0; j < count; ++j) {
    moves.add(work.items[j], work.slots[j], work.slopes[j], std::abs(work.slopes[j]) >= least);
  }
  adapt(moves, rate, kernels.square_norm(x, n) / dim, true);
  step_items(work, x, gradient, decay, seed, true);
  // A vector that was solved has no row of its own; what it is solved from moves as candidates only.
  if (settings_.user_model == UserModel::kAls) {
    if (!ranks()) learn_biases(event, user_bias_slope);
    return;
  }
  const float mean_square = kernels.square_norm(gradient, n) / dim;
  moves.begin(1);
  moves.add(event.user, model_.users.slot(event.user), 1);
  adapt(moves, rate, mean_square, false);
  step_rows(model_.users, work, gradient, nullptr, decay, seed, false);
  learn_context(event, work);
  moves.begin(work.query.history.size());
  for (const QueryVector::Term& term : work.query.history) {
    moves.add(term.item, model_.items.slot(term.item), term.weight);
  }
  adapt(moves, rate, mean_square, false);
  step_items(work, gradient, nullptr, 0, seed, false);
  if (!ranks()) learn_biases(event, user_bias_slope);
}

void Learner::learn_biases(const Event& event, float slope) {
  const Slot user = model_.users.slot(event.user);
  const float rate = rate_now(event.sequence);
  step_scalar(user.bias, row_rate(rate, &user.sums->bias, slope * slope), slope, rate * settings_.l2);
  learn_global(event, slope);
}

// The weights of the history, with its rows as the candidates' steps have left them, and the offsets of its items.
void Learner::learn_context(const Event& event, Scratch& work) {
  const QueryVector& query = work.query;
  if (query.history.empty()) return;
  const float rate = kContextRate * rate_now(event.sequence);
  const std::size_t most = query.history.size() + work.repeat_slopes.size();
  if (work.scalars.size() < most) {
    work.scalars.resize(most);
    work.scalar_slopes.resize(most);
    work.scalar_rates.resize(padded(most));
  }
  std::size_t count = 0;  // of scalars that move; each comes once
  const auto add = [&](std::uint32_t number, float slope) {
    work.scalars[count] = &model_.context[number];
    work.scalar_slopes[count] = slope;
    count += std::isfinite(slope) ? 1 : 0;
  };
  if (!query.repeats.empty()) {
    const std::uint32_t first = model_.context.repeat(true, 0);
    work.repeat_slopes.fill(0);
    for (const auto& [j, place] : work.repeated) {
      work.repeat_slopes[query.repeats[place].scalar - first] += work.slopes[j];
    }
    for (std::uint32_t kind = 0; kind < work.repeat_slopes.size(); ++kind) {
      if (work.repeat_slopes[kind] != 0) add(first + kind, work.repeat_slopes[kind]);
    }
  }
  work.history.clear();
  for (const QueryVector::Term& term : query.history) work.history.push_back(term.item);
  work.scores.resize(padded(std::max(work.history.size(), work.items.size())));
  model_.items.rows.gather_dot(work.gradient.data(), work.history, work.scores.data());
  for (std::size_t t = 0; t < query.history.size(); ++t) {
    if (query.history[t].scalar != QueryVector::kFixed) add(query.history[t].scalar, work.scores[t]);
  }
  float* const rates = work.scalar_rates.data();
  if (settings_.optimizer == Optimizer::kSgd) {
    std::fill_n(rates, count, rate);
  } else {
    for (std::size_t s = 0; s < count; ++s) {
      float* const sum = &work.scalars[s]->sum;
      store_relaxed(sum, rates[s] = grown(load_relaxed(sum), work.scalar_slopes[s] * work.scalar_slopes[s]));
    }
    active_kernels().adapted_rates(rates, rate, padded(count));
  }
  for (std::size_t s = 0; s < count; ++s) {
    float* const value = &work.scalars[s]->value;
    const float longest = settings_.max_step;
    const float moved = load_relaxed(value) - std::clamp(rates[s] * work.scalar_slopes[s], -longest, longest);
    store_relaxed(value, std::clamp(moved, -ContextWeights::kMaxWeight, ContextWeights::kMaxWeight));
  }
}

void Learner::dislike(const Event& event) {
  const Marking marking(*this);
  if (event.weight > 0) learn_candidates(event);
  mark_written();
  model_.user_state.observe(event.user, event.item, event.timestamp, true);
}

void Learner::learn_global(const Event& event, float slope) {
  if (settings_.objective == Objective::kLogistic) {
    const float own_rate = row_rate(rate_now(event.sequence), &model_.global_accumulator, slope * slope);
    step_scalar(&model_.global_bias, own_rate, slope, 0);
    return;
  }
  // The weighted mean of all ratings so far.
  const float total = std::min(load_relaxed(&model_.global_accumulator) + event.weight, kMaxAccumulator);
  const float mean = load_relaxed(&model_.global_bias);
  store_relaxed(&model_.global_accumulator, total);
  store_relaxed(&model_.global_bias, mean + (event.value - mean) * std::min(event.weight / total, 1.0f));
}

}  // namespace recengine
