#include "learner/softmax_fit.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <span>
#include <stdexcept>

#include "kernels/kernels.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/parallel.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {

constexpr std::size_t kTile = 32;    // users whose scores of all negatives are held at once
constexpr float kShortest = 1e-12f;  // length below which a row has no direction
constexpr std::uint32_t kNone = 0xFFFFFFFF;
constexpr float kFirstDecay = 0.9f, kSecondDecay = 0.99f, kTiny = 1e-8f;  // Adam's

void check_fit_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return;
  throw std::invalid_argument(message(name, " must be between ", low, " and ", high, ", not ", value));
}

void shuffle(std::vector<std::uint32_t>& numbers, std::uint64_t seed, std::uint64_t position) {
  Random random(seed, position);
  for (std::size_t k = numbers.size(); k > 1; --k) {
    std::swap(numbers[k - 1], numbers[random.below(static_cast<std::uint32_t>(k))]);
  }
}

}  // namespace

void SoftmaxFitSettings::validate() const {
  check_fit_range("temperature", temperature, 0.025, 1e3);  // exponents within 80
  check_fit_range("history_weight", history_weight, 0, 1e3);
  check_fit_range("user_exponent", user_exponent, 0, 1);
  check_fit_range("learning_rate", learning_rate, 0, 10);
  check_fit_range("user_rate", user_rate, 0, 1e3);
  check_fit_range("popularity", popularity, -100, 100);
  check_fit_range("negatives", negatives, 1, 1 << 20);
  check_fit_range("batch", batch, 1, 1 << 16);
  check_fit_range("epochs", epochs, 1, 1e9);
}

// What the threads of one batch share.
struct SoftmaxFit::Batch {
  std::span<const std::uint32_t> users;
  std::vector<std::uint32_t> negatives;  // items
  std::vector<std::uint32_t> places;     // of each item among the negatives, or kNone
  std::size_t width = 0;                 // their number, rounded up
  AlignedFloats rows;                    // (width, n): theirs, at length one
  AlignedFloats biases;                  // in temperatures, as cosines are
  float highest_bias = 0;
  std::vector<AlignedFloats> pushes;  // of each thread's users on them: gradients
  AlignedFloats pulls;                // of each user on all its items
  // The batch's pairs by item: touched[k] is chosen by choosers[ends[k - 1]] to choosers[ends[k]].
  std::vector<std::uint32_t> touched, ends, choosers, counts;
  float rate = 0;
};

struct SoftmaxFit::Scratch {
  AlignedFloats units, gradients, scores;  // of some users
  std::vector<float> inverse_lengths;
  AlignedFloats* push = nullptr;
};

void SoftmaxFit::Parameters::step(std::size_t row, const float* gradient, std::size_t n, float rate) {
  const auto t = static_cast<float>(++steps[row]);
  const float first_scale = rate / (1 - std::pow(kFirstDecay, t));
  const float second_scale = 1 / (1 - std::pow(kSecondDecay, t));
  float* const x = &rows[row * n];
  float* const m = &first[row * n];
  float* const v = &second[row * n];
  for (std::size_t k = 0; k < n; ++k) {
    m[k] = kFirstDecay * m[k] + (1 - kFirstDecay) * gradient[k];
    v[k] = kSecondDecay * v[k] + (1 - kSecondDecay) * gradient[k] * gradient[k];
    x[k] -= first_scale * m[k] / (std::sqrt(second_scale * v[k]) + kTiny);
  }
}

SoftmaxFit::SoftmaxFit(const Interactions& by_user, const SoftmaxFitSettings& settings, const AlignedFloats& users,
                       const AlignedFloats& items)
    : by_user_(by_user),
      settings_(settings),
      n_(items.size() / std::max<std::size_t>(by_user.num_others(), 1)),
      users_(users, by_user.num_rows()),
      items_(items, by_user.num_others()),
      inverse_norms_(by_user.num_others()),
      biases_(by_user.num_others(), 0.0f),
      deck_(by_user.num_others()) {
  settings_.validate();
  std::iota(deck_.begin(), deck_.end(), 0u);
  dealt_ = deck_.size();
  for (std::size_t item = 0; item < deck_.size(); ++item) measure_item(item);
  double total = 0, pairs = 0;
  for (std::size_t u = 0; u < by_user.num_rows(); ++u) {
    for (const std::uint32_t item : by_user.others(u)) ++biases_[item];
    const auto count = static_cast<double>(by_user.size(u));
    pairs += count;
    if (count > 0) total += std::pow(count, double{settings_.user_exponent});
    // A user starts at the mean of the items: with a row of its own at zero, or, without a history, as a first row.
    float* const row = &users_.rows[u * n_];
    if (settings_.history_weight > 0) {
      std::fill_n(row, n_, 0.0f);
    } else if (!(active_kernels().square_norm(row, n_) > 0)) {
      add_mean(u, 1, row);
    }
  }
  mean_weight_ = pairs > 0 ? static_cast<float>(total / pairs) : 1.0f;
  for (float& bias : biases_) bias = settings_.popularity * std::log(std::max(bias, 1.0f));
}

void SoftmaxFit::measure_item(std::size_t item) {
  const float norm = std::sqrt(active_kernels().square_norm(&items_.rows[item * n_], n_));
  inverse_norms_[item] = norm > kShortest ? 1 / norm : 0.0f;
}

void SoftmaxFit::add_mean(std::size_t user, float scale, float* x) const {
  if (scale == 0) return;
  const auto chosen = by_user_.others(user);
  const float weight = scale / static_cast<float>(chosen.size());
  for (const std::uint32_t item : chosen) {
    active_kernels().add_scaled(x, &items_.rows[item * n_], weight * inverse_norms_[item], n_);
  }
}

// Deals the negatives of the next batch and sorts its pairs by item.
void SoftmaxFit::prepare(Batch& batch, std::size_t threads) {
  const std::size_t items = by_user_.num_others();
  for (const std::uint32_t item : batch.negatives) batch.places[item] = kNone;
  batch.negatives.clear();
  const std::size_t wanted = std::min<std::size_t>(settings_.negatives, items);
  if (dealt_ + wanted > items) {
    shuffle(deck_, settings_.seed, (std::uint64_t{1} << 32) + shuffles_++);
    dealt_ = 0;
  }
  batch.negatives.assign(deck_.begin() + static_cast<std::ptrdiff_t>(dealt_),
                         deck_.begin() + static_cast<std::ptrdiff_t>(dealt_ + wanted));
  dealt_ += wanted;
  batch.width = padded(wanted);
  batch.rows.assign(batch.width * n_, 0.0f);
  batch.biases.assign(batch.width, 0.0f);
  for (std::size_t k = 0; k < wanted; ++k) {
    const std::uint32_t item = batch.negatives[k];
    batch.places[item] = static_cast<std::uint32_t>(k);
    active_kernels().add_scaled(&batch.rows[k * n_], &items_.rows[item * n_], inverse_norms_[item], n_);
    batch.biases[k] = biases_[item] * settings_.temperature;
  }
  batch.highest_bias =
      *std::max_element(batch.biases.begin(), batch.biases.begin() + static_cast<std::ptrdiff_t>(wanted));
  batch.pulls.assign(batch.users.size() * n_, 0.0f);
  batch.pushes.resize(threads);
  for (AlignedFloats& push : batch.pushes) push.assign(batch.width * n_, 0.0f);

  std::fill(batch.counts.begin(), batch.counts.end(), 0u);
  for (const std::uint32_t user : batch.users) {
    for (const std::uint32_t item : by_user_.others(user)) ++batch.counts[item];
  }
  batch.touched.clear();
  batch.ends.clear();
  std::uint32_t end = 0;
  for (std::uint32_t item = 0; item < items; ++item) {
    const std::uint32_t count = batch.counts[item];
    if (count == 0 && batch.places[item] == kNone) continue;
    batch.counts[item] = end;  // where the next of its choosers goes
    end += count;
    batch.touched.push_back(item);
    batch.ends.push_back(end);
  }
  batch.choosers.resize(end);
  for (std::uint32_t u = 0; u < batch.users.size(); ++u) {
    for (const std::uint32_t item : by_user_.others(batch.users[u])) batch.choosers[batch.counts[item]++] = u;
  }
}

bool SoftmaxFit::run_epoch(std::size_t threads) {
  std::vector<std::uint32_t> order;
  for (std::uint32_t user = 0; user < by_user_.num_rows(); ++user) {
    if (by_user_.size(user) > 0) order.push_back(user);
  }
  shuffle(order, settings_.seed, epoch_);
  const float left =
      1 - static_cast<float>(std::min<std::uint64_t>(epoch_, settings_.epochs)) / static_cast<float>(settings_.epochs);
  Batch batch;
  batch.rate = settings_.learning_rate * std::max(left, 0.01f);
  batch.places.assign(by_user_.num_others(), kNone);
  batch.counts.assign(by_user_.num_others(), 0);
  std::atomic<bool> stop{false};
  for (std::size_t first = 0; first < order.size(); first += settings_.batch) {
    if (interrupt_requested()) return false;
    batch.users = std::span(order).subspan(first, std::min<std::size_t>(settings_.batch, order.size() - first));
    prepare(batch, threads);
    // Relaxed: who takes which tile; what was written is read once all have ended.
    std::atomic<std::size_t> next{0};
    run_parallel(threads, stop, [&](std::size_t thread) {
      Scratch scratch;
      scratch.push = &batch.pushes[thread];
      for (std::size_t t; (t = kTile * next.fetch_add(1, std::memory_order_relaxed)) < batch.users.size();) {
        learn_users(batch, t, std::min(kTile, batch.users.size() - t), scratch);
      }
    });
    next.store(0, std::memory_order_relaxed);
    run_parallel(threads, stop, [&](std::size_t) {
      AlignedFloats gradient(n_);
      for (std::size_t t; (t = kTile * next.fetch_add(1, std::memory_order_relaxed)) < batch.touched.size();) {
        for (std::size_t k = t; k < std::min(t + kTile, batch.touched.size()); ++k) learn_item(batch, k, gradient);
      }
    });
  }
  ++epoch_;
  return true;
}

// Scores, slopes and gradients of some users of the batch; moves their rows.
void SoftmaxFit::learn_users(Batch& batch, std::size_t first, std::size_t size, Scratch& scratch) {
  const Kernels& kernels = active_kernels();
  const float sharpness = 1 / settings_.temperature;
  const std::size_t width = batch.width, negatives = batch.negatives.size();
  scratch.units.assign(size * n_, 0.0f);
  scratch.gradients.assign(size * n_, 0.0f);
  scratch.scores.resize(size * width);
  scratch.inverse_lengths.resize(size);
  AlignedFloats x(n_);
  for (std::size_t u = 0; u < size; ++u) {
    const std::size_t user = batch.users[first + u];
    std::copy_n(&users_.rows[user * n_], n_, x.begin());
    add_mean(user, settings_.history_weight, x.data());
    const float length = std::sqrt(kernels.square_norm(x.data(), n_));
    scratch.inverse_lengths[u] = length > kShortest ? 1 / length : 0.0f;
    kernels.add_scaled(&scratch.units[u * n_], x.data(), scratch.inverse_lengths[u], n_);
  }
  kernels.scan_many(scratch.units.data(), size, batch.rows.data(), batch.biases.data(), width, n_,
                    scratch.scores.data(), width);
  // No score is above a cosine of one with the highest bias, and that item's is at most two cosines below: no
  // exponential is above one, and not all of them vanish.
  const float shift = -sharpness * (1 + batch.highest_bias);
  for (std::size_t u = 0; u < size; ++u) {
    float* const scores = &scratch.scores[u * width];
    std::fill(scores + negatives, scores + width, -1e9f);
    const float sum = kernels.exponentials(scores, sharpness, shift, width);
    const auto count = static_cast<float>(by_user_.size(batch.users[first + u]));
    const float weight = std::pow(count, settings_.user_exponent - 1) / mean_weight_;
    const float scale = weight * count * sharpness / sum;
    for (std::size_t k = 0; k < width; ++k) scores[k] *= scale;
  }
  kernels.multiply(scratch.scores.data(), width, 1, batch.rows.data(), width, scratch.gradients.data(), size, n_);
  kernels.multiply(scratch.scores.data(), 1, width, scratch.units.data(), size, scratch.push->data(), width, n_);

  for (std::size_t u = 0; u < size; ++u) {
    const std::size_t user = batch.users[first + u];
    const auto chosen = by_user_.others(user);
    const auto count = static_cast<float>(chosen.size());
    const float weight = std::pow(count, settings_.user_exponent - 1) / mean_weight_ * sharpness;
    float* const gradient = &scratch.gradients[u * n_];
    const float* const unit = &scratch.units[u * n_];
    for (const std::uint32_t item : chosen) {
      kernels.add_scaled(gradient, &items_.rows[item * n_], -weight * inverse_norms_[item], n_);
    }
    // What lies along x does not turn it.
    kernels.add_scaled(gradient, unit, -kernels.dot(gradient, unit, n_), n_);
    float* const pull = &batch.pulls[(first + u) * n_];
    kernels.add_scaled(pull, unit, -weight, n_);
    kernels.add_scaled(pull, gradient, scratch.inverse_lengths[u] * settings_.history_weight / count, n_);
    for (std::size_t k = 0; k < n_; ++k) gradient[k] *= scratch.inverse_lengths[u];
    users_.step(user, gradient, n_, batch.rate * settings_.user_rate);
  }
}

void SoftmaxFit::learn_item(const Batch& batch, std::size_t number, AlignedFloats& gradient) {
  const Kernels& kernels = active_kernels();
  const std::uint32_t item = batch.touched[number];
  std::fill(gradient.begin(), gradient.end(), 0.0f);
  if (const std::uint32_t place = batch.places[item]; place != kNone) {
    for (const AlignedFloats& push : batch.pushes) kernels.add_scaled(gradient.data(), &push[place * n_], 1, n_);
  }
  for (std::uint32_t k = number == 0 ? 0 : batch.ends[number - 1]; k < batch.ends[number]; ++k) {
    kernels.add_scaled(gradient.data(), &batch.pulls[batch.choosers[k] * n_], 1, n_);
  }
  const float* const row = &items_.rows[item * n_];
  const float inverse = inverse_norms_[item];
  kernels.add_scaled(gradient.data(), row, -inverse * inverse * kernels.dot(gradient.data(), row, n_), n_);
  for (float& slope : gradient) slope *= inverse;
  items_.step(item, gradient.data(), n_, batch.rate);
  measure_item(item);
}

void SoftmaxFit::write_rows(AlignedFloats& users, AlignedFloats& items) const {
  const Kernels& kernels = active_kernels();
  const float scale = 1 / std::sqrt(settings_.temperature);
  for (std::size_t item = 0; item < by_user_.num_others(); ++item) {
    float* const out = &items[item * n_];
    std::fill_n(out, n_, 0.0f);
    kernels.add_scaled(out, &items_.rows[item * n_], scale * inverse_norms_[item], n_);
  }
  AlignedFloats x(n_);
  for (std::size_t user = 0; user < by_user_.num_rows(); ++user) {
    std::copy_n(&users_.rows[user * n_], n_, x.begin());
    add_mean(user, settings_.history_weight, x.data());
    const float length = std::sqrt(kernels.square_norm(x.data(), n_));
    float* const out = &users[user * n_];
    std::fill_n(out, n_, 0.0f);
    if (length > kShortest) kernels.add_scaled(out, x.data(), scale / length, n_);
  }
}

}  // namespace recengine
