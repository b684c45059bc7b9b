// Every kernel of every instruction set of the machine against loops in float64, the promise of equal bits, steps fed
// with infinities and NaNs, and threads that step and scan the same rows (for ThreadSanitizer).
//
// Bounds are those of Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 3.1): a sum of k rounded terms,
// in any order, is off by at most gamma_k = k u / (1 - k u) times the sum of their magnitudes, u = 2^-24.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/fence.hpp"

using namespace recengine;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSentinel = 12345.0f;

// Floats on the alignment that rows and vectors have, zero at first.
class Buffer {
 public:
  explicit Buffer(std::size_t size)
      : size_(size), data_(static_cast<float*>(::operator new(size * sizeof(float), std::align_val_t{64}))) {
    std::fill_n(data_, size, 0.0f);
  }
  Buffer(const Buffer& other) : Buffer(other.size_) { std::copy_n(other.data_, size_, data_); }
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete(data_, std::align_val_t{64}); }

  float* data() { return data_; }
  const float* data() const { return data_; }
  float& operator[](std::size_t i) { return data_[i]; }
  float operator[](std::size_t i) const { return data_[i]; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  float* data_;
};

std::mt19937 generator(20240607);

float normal(float scale = 1.0f) { return std::normal_distribution<float>(0.0f, scale)(generator); }

// `count` rows of `dim` random floats, padded with zeros to n.
Buffer random_rows(std::size_t count, std::size_t dim, std::size_t n, float scale = 1.0f) {
  Buffer rows(count * n);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t i = 0; i < dim; ++i) rows[r * n + i] = normal(scale);
  }
  return rows;
}

double gamma(std::size_t terms) {
  const double error = static_cast<double>(terms) * 0x1p-24;
  return error / (1.0 - error);
}

struct Sum {
  double value = 0.0;
  double magnitude = 0.0;

  void add(double term) {
    value += term;
    magnitude += std::abs(term);
  }
};

Sum reference_dot(const float* a, const float* b, std::size_t n) {
  Sum sum;
  for (std::size_t i = 0; i < n; ++i) sum.add(static_cast<double>(a[i]) * static_cast<double>(b[i]));
  return sum;
}

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

// ---- inner products ----

void check_products(const Kernels& kernels, std::size_t dim, std::size_t count, std::size_t num_queries) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const Buffer queries = random_rows(std::max<std::size_t>(num_queries, 1), dim, n);
  const Buffer rows = random_rows(count, dim, n);
  const Buffer shifted_bias = random_rows(1, count + 1, count + 1);
  const float* bias = shifted_bias.data() + 1;  // biases and outputs need no alignment

  std::vector<const float*> shuffled;
  for (std::size_t r = 0; r < count; ++r) shuffled.push_back(rows.data() + r * n);
  std::shuffle(shuffled.begin(), shuffled.end(), generator);

  const std::size_t stride = count + 3;
  std::vector<float> many(num_queries * stride + 1, kSentinel), many_biased = many;
  float* many_out = many.data() + 1;
  float* many_biased_out = many_biased.data() + 1;
  kernels.scan_many(queries.data(), num_queries, rows.data(), nullptr, count, n, many_out, stride);
  kernels.scan_many(queries.data(), num_queries, rows.data(), bias, count, n, many_biased_out, stride);

  for (std::size_t q = 0; q < num_queries; ++q) {
    const float* query = queries.data() + q * n;
    std::vector<float> plain(count + 2, kSentinel), biased = plain, gathered = plain;
    const float largest = kernels.scan(query, rows.data(), nullptr, count, n, plain.data() + 1);
    const float largest_biased = kernels.scan(query, rows.data(), bias, count, n, biased.data() + 1);
    kernels.gather_dot(query, shuffled.data(), count, n, gathered.data() + 1);

    float expected_largest = -kInfinity, expected_largest_biased = -kInfinity;
    for (std::size_t r = 0; r < count; ++r) {
      const float* row = rows.data() + r * n;
      Sum expected = reference_dot(query, row, n);
      CHECK_NEAR(plain[r + 1], expected.value, gamma(n) * expected.magnitude);
      CHECK(same_bits(plain[r + 1], kernels.dot(query, row, n)));
      CHECK(same_bits(plain[r + 1], many_out[q * stride + r]));
      CHECK(same_bits(gathered[r + 1], kernels.dot(query, shuffled[r], n)));
      expected_largest = std::max(expected_largest, plain[r + 1]);

      expected.add(bias[r]);
      CHECK_NEAR(biased[r + 1], expected.value, gamma(n + 1) * expected.magnitude);
      CHECK(same_bits(biased[r + 1], many_biased_out[q * stride + r]));
      expected_largest_biased = std::max(expected_largest_biased, biased[r + 1]);
    }
    CHECK(largest == expected_largest);
    CHECK(largest_biased == expected_largest_biased);
    for (const auto& out : {plain, biased, gathered}) CHECK(out.front() == kSentinel && out.back() == kSentinel);
    for (std::size_t r = count; r < stride; ++r) {
      CHECK(many_out[q * stride + r] == kSentinel && many_biased_out[q * stride + r] == kSentinel);
    }
  }
  CHECK(many[0] == kSentinel && many_biased[0] == kSentinel);

  std::vector<float> norms(count + 1, kSentinel);
  kernels.square_norms(rows.data(), count, n, norms.data());
  for (std::size_t r = 0; r < count; ++r) {
    const float* row = rows.data() + r * n;
    const Sum expected = reference_dot(row, row, n);
    CHECK_NEAR(norms[r], expected.value, gamma(n) * expected.magnitude);
    CHECK(same_bits(norms[r], kernels.square_norm(row, n)));
  }
  CHECK(norms[count] == kSentinel);
}

// A sum of products that underflow is -0 where multiply-adds round once: no kernel may turn it into +0 on its own.
void check_negative_zero(const Kernels& kernels) {
  constexpr std::size_t kN = 16, kCount = 5;
  Buffer queries(2 * kN), rows(kCount * kN);
  std::fill_n(queries.data(), queries.size(), -1e-30f);
  std::fill_n(rows.data(), rows.size(), 1e-30f);
  std::vector<float> one(kCount), many(2 * kCount);
  kernels.scan(queries.data(), rows.data(), nullptr, kCount, kN, one.data());
  kernels.scan_many(queries.data(), 2, rows.data(), nullptr, kCount, kN, many.data(), kCount);
  const float alone = kernels.dot(queries.data(), rows.data(), kN);
  for (float score : one) CHECK(same_bits(score, alone));
  for (float score : many) CHECK(same_bits(score, alone));
}

// ---- steps and copies ----

struct Step {
  float slope, rate, l2, clip;
};

double clipped(double step, double clip) { return std::clamp(step, -clip, clip); }

// row_after is row_before - clip(rate * (slope * x + l2 * row)) up to rounding, whatever the clip.
void check_step(const Buffer& before, const Buffer& after, const Buffer& x, const Step& step) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    Sum move;
    move.add(double{step.rate} * double{step.slope} * double{x[i]});
    move.add(double{step.rate} * double{step.l2} * double{before[i]});
    const double expected = double{before[i]} - clipped(move.value, step.clip);
    CHECK_NEAR(after[i], expected, gamma(4) * move.magnitude + 0x1p-23 * std::abs(expected));
  }
}

// A user, an item and a negative with their scalars, in memory of their own.
struct PairData {
  Buffer x, a, b;
  float a_bias, b_bias, weight, rate;
  Accumulators x_sums, a_sums, b_sums;
  float x_bias = 0;

  PairRows rows() {
    return {{x.data(), &x_bias, &x_sums}, {a.data(), &a_bias, &a_sums}, {b.data(), &b_bias, &b_sums}, weight, rate};
  }
};

PairData random_pair(std::size_t dim, std::size_t n, float weight) {
  const Buffer scalars = random_rows(1, 8, 16);
  return {random_rows(1, dim, n),
          random_rows(1, dim, n),
          random_rows(1, dim, n),
          scalars[0],
          scalars[1],
          weight,
          0.05f + std::abs(scalars[2]),
          {std::abs(scalars[3]), 0},
          {0, std::abs(scalars[4])},
          {1000, 2000}};
}

// One parameter after its step: before - clip(rate * slope * direction + decay * before), and its Adagrad sum.
void check_moved(float before, float after, double rate, double slope, double direction, double decay, double clip,
                 double tolerance) {
  const double expected = double{before} - clipped(rate * slope * direction + decay * double{before}, clip);
  CHECK_NEAR(after, expected, tolerance);
}

void check_pair_step(const PairData& before, const PairData& after, const PairStep& step, std::size_t dim) {
  double margin = double{before.a_bias} - double{before.b_bias}, x_square = 0, difference_square = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    const double difference = double{before.a[i]} - double{before.b[i]};
    margin += double{before.x[i]} * difference;
    x_square += double{before.x[i]} * double{before.x[i]};
    difference_square += difference * difference;
  }
  const double slope = double{before.weight} / (1 + std::exp(margin));
  const auto rate = [&](float sum_before, float sum_after, double added) {
    if (!step.adagrad) {
      CHECK(sum_after == sum_before);
      return double{before.rate};
    }
    // The rounding of the margin, an inner product of `dim` terms, goes into the slope.
    const double relative = 1e-4 + 5e-7 * static_cast<double>(dim);
    const double kept = double{kKeptSum} * double{sum_before};
    CHECK_NEAR(sum_after, kept + added, relative * added + 2e-7 * kept + 1e-12);
    return double{before.rate} / std::sqrt(kept + added + 1e-8);
  };
  const double mean = slope * slope / double{step.dim};
  const double x_rate = rate(before.x_sums.row, after.x_sums.row, mean * difference_square);
  const double a_rate = rate(before.a_sums.row, after.a_sums.row, mean * x_square);
  const double b_rate = rate(before.b_sums.row, after.b_sums.row, mean * x_square);
  const double a_bias_rate = rate(before.a_sums.bias, after.a_sums.bias, slope * slope);
  const double b_bias_rate = rate(before.b_sums.bias, after.b_sums.bias, slope * slope);
  const double decay = double{before.rate} * double{step.l2}, clip = double{step.clip};
  const double scale = 1 + std::sqrt(x_square) + std::sqrt(difference_square);
  const auto tolerance = [&](double its_rate) { return 1e-6 + 3e-4 * std::min(clip, its_rate * slope * scale); };
  for (std::size_t i = 0; i < before.x.size(); ++i) {
    const double x = double{before.x[i]}, difference = double{before.a[i]} - double{before.b[i]};
    check_moved(before.x[i], after.x[i], x_rate, slope, -difference, decay, clip, tolerance(x_rate));
    check_moved(before.a[i], after.a[i], a_rate, slope, -x, decay, clip, tolerance(a_rate));
    check_moved(before.b[i], after.b[i], b_rate, slope, x, decay, clip, tolerance(b_rate));
  }
  check_moved(before.a_bias, after.a_bias, a_bias_rate, slope, -1, decay, clip, tolerance(a_bias_rate));
  check_moved(before.b_bias, after.b_bias, b_bias_rate, slope, 1, decay, clip, tolerance(b_bias_rate));
  for (std::size_t i = dim; i < before.x.size(); ++i) {
    CHECK(after.x[i] == 0.0f && after.a[i] == 0.0f && after.b[i] == 0.0f);
  }
}

bool same(const Buffer& one, const Buffer& other) {
  return std::equal(one.data(), one.data() + one.size(), other.data(), other.data() + other.size());
}

bool same_pair(const PairData& one, const PairData& other) {
  return same(one.x, other.x) && same(one.a, other.a) && same(one.b, other.b) && one.a_bias == other.a_bias &&
         one.b_bias == other.b_bias && one.x_sums.row == other.x_sums.row && one.a_sums.row == other.a_sums.row &&
         one.a_sums.bias == other.a_sums.bias && one.b_sums.row == other.b_sums.row &&
         one.b_sums.bias == other.b_sums.bias;
}

// At least how far a row and its bias have moved, and hardly more.
void check_distance(float distance, const Buffer& before, const Buffer& after, float bias_before, float bias_after,
                    float bias_weight) {
  double square = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double moved = double{after[i]} - double{before[i]};
    square += moved * moved;
  }
  const double expected = std::sqrt(square) + double{bias_weight} * std::abs(double{bias_after} - double{bias_before});
  CHECK(double{distance} * (1 + 0x1p-22) >= expected);
  CHECK(double{distance} <= 1.001 * expected + 0x1p-50);
}

void check_pairs(const Kernels& kernels, std::size_t dim, const Step& values) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  for (const bool adagrad : {true, false}) {
    const PairStep step{values.l2, values.clip, static_cast<float>(dim), adagrad, 0.3f};
    std::vector<PairData> before;
    for (std::size_t g = 0; g < kMaxPairs; ++g)
      before.push_back(random_pair(dim, n, std::abs(values.slope) * (1.0f + static_cast<float>(g))));
    std::vector<PairData> alone = before;
    for (PairData& pair : alone) {
      const PairRows rows = pair.rows();
      const PairRows* const one = &rows;
      CHECK(kernels.learn_pairs(&one, 1, step, n, nullptr) == 0);
    }
    for (std::size_t g = 0; g < kMaxPairs; ++g) {
      check_pair_step(before[g], alone[g], step, dim);
      // The same step, measured.
      PairData measured = before[g];
      const PairRows rows = measured.rows();
      const PairRows* const one = &rows;
      float distances[3] = {kNan, kNan, kSentinel};
      CHECK(kernels.learn_pairs(&one, 1, step, n, distances) == 0);
      CHECK(same_pair(measured, alone[g]));
      check_distance(distances[0], before[g].a, measured.a, before[g].a_bias, measured.a_bias, step.bias_weight);
      check_distance(distances[1], before[g].b, measured.b, before[g].b_bias, measured.b_bias, step.bias_weight);
      CHECK(distances[2] == kSentinel);
    }
    if (dim > 20 && dim % 64 != 0) continue;
    // In company, and beside one that is too large to be learned.
    for (std::size_t count = 1; count <= kMaxPairs; ++count) {
      for (std::size_t large = 0; large <= count; ++large) {
        std::vector<PairData> together = before;
        std::vector<PairRows> rows;
        std::vector<const PairRows*> pairs;
        if (large < count) together[large].x[0] = 1e20f;
        const std::vector<PairData> start = together;
        for (std::size_t g = 0; g < count; ++g) rows.push_back(together[g].rows());
        for (const PairRows& pair : rows) pairs.push_back(&pair);
        std::vector<float> distances(2 * count, kNan);
        float* const measured = large % 2 == 0 ? distances.data() : nullptr;
        CHECK(kernels.learn_pairs(pairs.data(), count, step, n, measured) == (large < count ? 1u << large : 0u));
        for (std::size_t g = 0; g < kMaxPairs; ++g) {
          CHECK(same_pair(together[g], g >= count || g == large ? start[g] : alone[g]));
          if (g >= count || measured == nullptr) continue;
          check_distance(distances[2 * g], start[g].a, together[g].a, start[g].a_bias, together[g].a_bias, 0.3f);
          check_distance(distances[2 * g + 1], start[g].b, together[g].b, start[g].b_bias, together[g].b_bias, 0.3f);
        }
      }
    }
  }
}

// log2(2^a + 2^b) against long double, and where there is nothing to add.
void check_log2_add(const Kernels& kernels) {
  constexpr double kNothing = -std::numeric_limits<double>::infinity();
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> level(-2000, 2000), distance(0, 70);
  for (std::size_t n = 0; n <= 70; ++n) {
    std::vector<double> a(n), b(n), out(n, 5.0);
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = level(random);
      b[i] = a[i] + (i % 2 == 0 ? distance(random) : -distance(random));
      if (i % 7 == 3) b[i] = a[i];
      if (i % 11 == 5) a[i] = kNothing;
      if (i % 13 == 6) b[i] = kNothing;
    }
    kernels.log2_add(a.data(), b.data(), n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double high = std::max(a[i], b[i]), low = std::min(a[i], b[i]);
      if (low == kNothing) {
        CHECK(out[i] == high);
        continue;
      }
      const long double expected =
          static_cast<long double>(high) +
          std::log2(1 + std::exp2(static_cast<long double>(low) - static_cast<long double>(high)));
      CHECK_NEAR(out[i], static_cast<double>(expected), 1e-14 + std::abs(high) * 0x1p-52);
    }
  }
}

// One row, as a candidate where there is a gradient.
void step_row(const Kernels& kernels, float* row, const float* x, float* gradient, const Step& step, std::size_t n,
              float* distance = nullptr) {
  const Slot slot{row, nullptr, nullptr};
  kernels.step_rows({&slot, &step.slope, &step.rate, 1, step.rate * step.l2, step.clip}, x, gradient, n, distance);
}

// Many at once are, bit for bit, one after the other, also where a row comes twice; and no distance is too short.
void check_many_steps(const Kernels& kernels, std::size_t dim, std::size_t count, const Step& step) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const Buffer rows = random_rows(count, dim, n), x = random_rows(1, dim, n);
  Buffer together = rows, gathered(n), alone = rows, gradient(n), distances(count), of_one(count), slopes(count),
         rates(count);
  std::vector<Slot> slots;
  for (std::size_t j = 0; j < count; ++j) {
    const std::size_t r = j % 7 == 6 ? j - 1 : j;  // some twice
    slots.push_back({together.data() + r * n, nullptr, nullptr});
    slopes[j] = normal() * step.slope;
    rates[j] = std::abs(normal()) * step.rate;
    float* const row = alone.data() + r * n;
    Buffer before(n);
    std::copy_n(row, n, before.data());
    const Slot slot{row, nullptr, nullptr};
    kernels.step_rows({&slot, &slopes[j], &rates[j], 1, step.l2, step.clip}, x.data(), gradient.data(), n, &of_one[j]);
    double square = 0;
    for (std::size_t i = 0; i < n; ++i) square += std::pow(double{row[i]} - double{before[i]}, 2);
    CHECK(of_one[j] >= std::sqrt(square));
    CHECK(of_one[j] <= std::sqrt(square) * (1 + 3 * gamma(n + 64)) + 1e-15);  // rounding, and the room for it
  }
  kernels.step_rows({slots.data(), slopes.data(), rates.data(), count, step.l2, step.clip}, x.data(), gathered.data(),
                    n, distances.data());
  CHECK(std::memcmp(together.data(), alone.data(), count * n * sizeof(float)) == 0);
  CHECK(std::memcmp(gathered.data(), gradient.data(), n * sizeof(float)) == 0);
  CHECK(std::memcmp(distances.data(), of_one.data(), count * sizeof(float)) == 0);
  // Without a gradient, or distances, the same steps.
  Buffer again = rows;
  for (std::size_t j = 0; j < count; ++j) slots[j].row = again.data() + (slots[j].row - together.data());
  kernels.step_rows({slots.data(), slopes.data(), rates.data(), count, step.l2, step.clip}, x.data(), nullptr, n,
                    nullptr);
  CHECK(std::memcmp(again.data(), alone.data(), count * n * sizeof(float)) == 0);
}

void check_rates(const Kernels& kernels) {
  for (const float rate : {0.0f, 0.1f, 5.0f}) {
    Buffer sums(16);
    for (std::size_t k = 0; k < 16; ++k) sums[k] = k == 0 ? 0.0f : std::pow(10.0f, static_cast<float>(k) * 2 - 8);
    Buffer rates = sums;
    kernels.adapted_rates(rates.data(), rate, 16);
    for (std::size_t k = 0; k < 16; ++k) {
      const double expected = double{rate} / std::sqrt(double{sums[k]} + double{kEpsilon});
      CHECK_NEAR(rates[k], expected, 0x1p-22 * expected);
    }
  }
}

void check_least_sum(const Kernels& kernels, std::size_t count) {
  std::vector<unsigned> a((count + 15) / 16 * 16), b(a.size());  // zeros behind, which must not count
  for (std::size_t k = 0; k < count; ++k) {
    const auto whole = static_cast<float>(1 + generator() % 5);  // so that several are the smallest
    a[k] = std::bit_cast<unsigned>(generator() % 2 == 0 ? whole : -whole);
    b[k] = std::bit_cast<unsigned>(static_cast<float>(generator() % 3));
  }
  std::size_t expected = 0;
  const auto sum = [&](std::size_t k) {
    return std::abs(std::bit_cast<float>(a[k])) + std::abs(std::bit_cast<float>(b[k]));
  };
  for (std::size_t k = 1; k < count; ++k) expected = sum(k) < sum(expected) ? k : expected;
  CHECK(kernels.least_sum(a.data(), b.data(), count) == expected);
}

void check_softmax(const Kernels& kernels, std::size_t count) {
  const std::size_t n = (count + kRowPadding - 1) / kRowPadding * kRowPadding;
  Buffer scores(n), weights(n), slopes(n);
  for (std::size_t k = 0; k < n; ++k) {
    scores[k] = k < count ? normal(10.0f) : scores[0];
    weights[k] = k < count ? std::abs(normal()) : 0.0f;
  }
  kernels.softmax_slopes(scores.data(), weights.data(), n, slopes.data());
  const float highest = *std::max_element(scores.data(), scores.data() + count);
  double total = 0;
  const auto term = [&](std::size_t k) {
    return double{weights[k]} * std::exp(std::max(double{scores[k]} - double{highest}, -87.0));
  };
  for (std::size_t k = 0; k < count; ++k) total += term(k);
  // Exponentials are within 2^-20, of differences of up to 87 that were rounded.
  for (std::size_t k = 0; k < n; ++k) CHECK_NEAR(slopes[k], term(k) / total, 1e-5 * term(k) / total + 1e-37);

  for (const float bad : {kInfinity, -kInfinity, kNan}) {
    Buffer hostile = scores;
    hostile[count / 2] = bad;
    kernels.softmax_slopes(hostile.data(), weights.data(), n, slopes.data());
    for (std::size_t k = 0; k < count; ++k) CHECK(std::isnan(slopes[k]));
  }
}

void check_steps(const Kernels& kernels, std::size_t dim, const Step& step) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const Buffer row = random_rows(1, dim, n), x = random_rows(1, dim, n), gradient = random_rows(1, dim, n);

  Buffer stepped = row, gathered = gradient;
  step_row(kernels, stepped.data(), x.data(), gathered.data(), step, n);
  check_step(row, stepped, x, step);
  for (std::size_t i = 0; i < n; ++i) {
    Sum expected{gradient[i], std::abs(gradient[i])};
    expected.add(double{step.slope} * double{row[i]});
    CHECK_NEAR(gathered[i], expected.value, gamma(2) * expected.magnitude);
  }

  Buffer walked = row;
  step_row(kernels, walked.data(), x.data(), nullptr, step, n);
  check_step(row, walked, x, step);

  Buffer sum = x;
  kernels.add_scaled(sum.data(), row.data(), step.slope, n);
  for (std::size_t i = 0; i < n; ++i) {
    Sum expected{x[i], std::abs(x[i])};
    expected.add(double{step.slope} * double{row[i]});
    CHECK_NEAR(sum[i], expected.value, gamma(2) * expected.magnitude);
  }

  Buffer copy(n), back(n);
  kernels.load(copy.data(), row.data(), n);
  kernels.store(back.data(), copy.data(), n);
  CHECK(std::memcmp(copy.data(), row.data(), n * sizeof(float)) == 0);
  CHECK(std::memcmp(back.data(), row.data(), n * sizeof(float)) == 0);

  for (std::size_t i = dim; i < n; ++i) {
    CHECK(stepped[i] == 0.0f && gathered[i] == 0.0f && walked[i] == 0.0f && sum[i] == 0.0f);
  }
}

// No coordinate moves by more than `clip`, and the padding not at all.
void check_clipped(const Buffer& before, const Buffer& after, std::size_t dim, float clip) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    CHECK(std::isfinite(after[i]));
    CHECK_NEAR(after[i], before[i], clip + 0x1p-24f * std::abs(after[i]));
    if (i >= dim) CHECK(after[i] == 0.0f);
  }
}

void check_hostile_steps(const Kernels& kernels, std::size_t dim) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const float clip = 0.25f;
  const float hostile[] = {kNan, kInfinity, -kInfinity, std::numeric_limits<float>::max(), -1e38f, 1e-45f, 0.0f};
  const Buffer row = random_rows(1, dim, n);

  for (float value : hostile) {
    Buffer x = random_rows(1, dim, n);
    const std::size_t place = generator() % dim;
    x[place] = value;
    Buffer stepped = row, walked = row, gradient(n);
    step_row(kernels, stepped.data(), x.data(), gradient.data(), {2.0f, 3.0f, 0.01f, clip}, n);
    step_row(kernels, walked.data(), x.data(), nullptr, {2.0f, 3.0f, 0.01f, clip}, n);
    check_clipped(row, stepped, dim, clip);
    check_clipped(row, walked, dim, clip);
    if (std::isnan(value)) CHECK(stepped[place] == row[place] && walked[place] == row[place]);
    if (std::isinf(value)) {
      const float expected = row[place] - std::copysign(clip, value);
      CHECK(stepped[place] == expected && walked[place] == expected);
    }
  }
  for (float slope : hostile) {
    for (float rate : hostile) {
      for (float l2 : hostile) {
        const Buffer x = random_rows(1, dim, n);
        Buffer stepped = row, walked = row, gradient(n);
        step_row(kernels, stepped.data(), x.data(), gradient.data(), {slope, rate, l2, clip}, n);
        step_row(kernels, walked.data(), x.data(), nullptr, {slope, rate, l2, clip}, n);
        check_clipped(row, stepped, dim, clip);
        check_clipped(row, walked, dim, clip);
        // A gradient that became infinite or NaN, padding included, is as harmless one step later.
        Buffer user = row;
        step_row(kernels, user.data(), gradient.data(), nullptr, {1.0f, 0.1f, 0.0f, clip}, n);
        check_clipped(row, user, dim, clip);
      }
    }
  }
}

// ---- threads ----

void check_threads(const Kernels& kernels, int rounds) {
  constexpr std::size_t kDim = 40, kN = 48, kCount = 11, kQueries = 5;
  Buffer rows = random_rows(kCount, kDim, kN), bias = random_rows(1, kCount, kCount);
  const Buffer queries = random_rows(kQueries, kDim, kN);

  const auto write = [&](float sign) {
    Buffer gradient(kN), copy(kN);
    for (int round = 0; round < rounds; ++round) {
      const std::size_t r = static_cast<std::size_t>(round) % kCount;
      float* row = rows.data() + r * kN;
      step_row(kernels, row, queries.data(), gradient.data(), {sign, 0.1f, 0.01f, 0.5f}, kN);
      step_row(kernels, row, queries.data(), nullptr, {-sign, 0.1f, 0.01f, 0.5f}, kN);
      kernels.load(copy.data(), row, kN);
      kernels.store(row, copy.data(), kN);
      store_relaxed(bias.data() + r, load_relaxed(bias.data() + r) + sign);
    }
  };
  const auto read = [&] {
    std::vector<const float*> pointers;
    for (std::size_t r = 0; r < kCount; ++r) pointers.push_back(rows.data() + r * kN);
    std::vector<float> out(kQueries * kCount);
    Buffer sum(kN);
    for (int round = 0; round < rounds; ++round) {
      CHECK(std::isfinite(kernels.scan(queries.data(), rows.data(), bias.data(), kCount, kN, out.data())));
      kernels.scan_many(queries.data(), kQueries, rows.data(), bias.data(), kCount, kN, out.data(), kCount);
      kernels.gather_dot(queries.data(), pointers.data(), kCount, kN, out.data());
      kernels.square_norms(rows.data(), kCount, kN, out.data());
      kernels.add_scaled(sum.data(), rows.data(), 0.01f, kN);
      CHECK(std::all_of(out.begin(), out.end(), [](float score) { return std::isfinite(score); }));
      CHECK(std::isfinite(kernels.dot(queries.data(), rows.data(), kN)));
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(write, 1.0f);
  threads.emplace_back(write, -1.0f);
  threads.emplace_back(read);
  threads.emplace_back(read);
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK(std::isfinite(rows[i]));
  for (std::size_t r = 0; r < kCount; ++r) {
    for (std::size_t i = kDim; i < kN; ++i) CHECK(rows[r * kN + i] == 0.0f);
  }
}

// ---- dispatch ----

void check_selection() {
  const std::vector<std::string> names = available_kernels();
  CHECK(!names.empty());
  for (const std::string& name : names) {
    select_kernels(name);
    CHECK(active_kernels().name == name);
    for (const char* unknown : {"nonsense", "AVX2", "avx", " baseline"}) {
      CHECK_THROWS(std::invalid_argument, select_kernels(unknown));
      CHECK(active_kernels().name == name);
    }
  }
  try {
    select_kernels("nonsense");
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    CHECK(message.find("'nonsense'") != std::string::npos);
    for (const std::string& name : names) CHECK(message.find(name) != std::string::npos);
  }
  select_kernels("");
  const char* forced = std::getenv("RECENGINE_KERNELS");
  CHECK(active_kernels().name == (forced && *forced ? std::string(forced) : names.front()));
}

}  // namespace

// kernels_test [STEP]: every STEP-th dimension, for emulators. Odd steps meet every remainder of the padding.
int main(int argc, char** argv) {
  // Every one would take minutes under a sanitizer, which looks at accesses, not at sums.
  constexpr std::size_t kStep = check::kSanitized ? 31 : 5;
  const std::size_t step = argc > 1 ? std::stoul(argv[1]) : kStep;
  check_selection();
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    const Kernels& kernels = active_kernels();
    check_threads(kernels, 3000);
    if (check::kOnlyThreads) continue;
    for (std::size_t dim = 1; dim <= 1024; dim += step) {
      check_products(kernels, dim, dim % 10, 1 + dim % 9);
      for (const Step& values : {Step{0.7f, 0.05f, 0.01f, 0.02f}, Step{-1.3f, 0.1f, 0.0f, 1e3f}}) {
        check_steps(kernels, dim, values);
        check_many_steps(kernels, dim, 1 + dim % 40, values);
        check_pairs(kernels, dim, values);
      }
    }
    for (std::size_t dim : {1u, 16u, 64u, 80u, 1024u}) {
      for (std::size_t count = 0; count <= 20; ++count) check_products(kernels, dim, count, count % 6);
    }
    check_products(kernels, 64, 333, 7);  // several blocks of scan_many
    check_products(kernels, 4096, 9, 5);  // rows longer than a block
    check_negative_zero(kernels);
    check_log2_add(kernels);
    for (std::size_t dim : {1u, 50u, 64u, 200u}) check_hostile_steps(kernels, dim);
    check_rates(kernels);
    for (std::size_t count : {1u, 7u, 16u, 97u}) check_softmax(kernels, count);
    for (std::size_t count = 1; count <= 256; ++count) check_least_sum(kernels, count);
    std::printf("%s: ok\n", kernels.name);
  }
}
