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

// One user x and two items: row_after is row_before - clip(rate * slope * direction + decay * row) up to rounding.
void check_pair_step(const Buffer& before, const Buffer& after, const std::vector<double>& direction, double rate,
                     double slope, double decay, double clip) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    Sum move;
    move.add(rate * slope * direction[i]);
    move.add(decay * double{before[i]});
    const double expected = double{before[i]} - clipped(move.value, clip);
    CHECK_NEAR(after[i], expected, gamma(5) * move.magnitude + 0x1p-23 * std::abs(expected));
  }
}

void check_pairs(const Kernels& kernels, std::size_t dim, const Step& step) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const Buffer x = random_rows(1, dim, n), a = random_rows(1, dim, n), b = random_rows(1, dim, n);
  Sum dot, x_square, difference_square;
  std::vector<double> to_user(n), to_a(n), to_b(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double difference = double{a[i]} - double{b[i]};
    dot.add(double{x[i]} * difference);
    x_square.add(double{x[i]} * double{x[i]});
    difference_square.add(difference * difference);
    to_user[i] = -difference;
    to_a[i] = -double{x[i]};
    to_b[i] = double{x[i]};
  }
  float sums[3];
  kernels.pair(x.data(), a.data(), b.data(), n, sums);
  CHECK_NEAR(sums[0], dot.value, gamma(n + 2) * dot.magnitude);
  CHECK_NEAR(sums[1], x_square.value, gamma(n + 2) * x_square.magnitude);
  CHECK_NEAR(sums[2], difference_square.value, gamma(n + 3) * difference_square.magnitude);

  const float slope = std::abs(step.slope), x_rate = step.rate, a_rate = 2 * step.rate, b_rate = 3 * step.rate;
  Buffer user = x, better = a, worse = b;
  kernels.step_pair(user.data(), better.data(), worse.data(), slope, x_rate, a_rate, b_rate, step.l2, step.clip, n);
  check_pair_step(x, user, to_user, x_rate, slope, step.l2, step.clip);
  check_pair_step(a, better, to_a, a_rate, slope, step.l2, step.clip);
  check_pair_step(b, worse, to_b, b_rate, slope, step.l2, step.clip);
  for (std::size_t i = dim; i < n; ++i) CHECK(user[i] == 0.0f && better[i] == 0.0f && worse[i] == 0.0f);

  Buffer hostile = x;
  hostile[0] = std::numeric_limits<float>::infinity();
  Buffer first = a, second = b;
  kernels.step_pair(hostile.data(), first.data(), second.data(), 1e30f, 1e30f, 1e30f, 1e30f, 0.0f, step.clip, n);
  for (std::size_t i = 0; i < n; ++i) {
    CHECK(std::isfinite(first[i]) && std::abs(double{first[i]} - double{a[i]}) <= double{step.clip} * 1.0001 + 1e-6);
    CHECK(std::isfinite(second[i]) && std::abs(double{second[i]} - double{b[i]}) <= double{step.clip} * 1.0001 + 1e-6);
  }
}

void check_steps(const Kernels& kernels, std::size_t dim, const Step& step) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const Buffer row = random_rows(1, dim, n), x = random_rows(1, dim, n), gradient = random_rows(1, dim, n);

  Buffer stepped = row, gathered = gradient;
  kernels.step_candidate(stepped.data(), x.data(), gathered.data(), step.slope, step.rate, step.l2, step.clip, n);
  check_step(row, stepped, x, step);
  for (std::size_t i = 0; i < n; ++i) {
    Sum expected{gradient[i], std::abs(gradient[i])};
    expected.add(double{step.slope} * double{row[i]});
    CHECK_NEAR(gathered[i], expected.value, gamma(2) * expected.magnitude);
  }

  Buffer walked = row;
  kernels.step_row(walked.data(), x.data(), step.slope, step.rate, step.l2, step.clip, n);
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
    kernels.step_candidate(stepped.data(), x.data(), gradient.data(), 2.0f, 3.0f, 0.01f, clip, n);
    kernels.step_row(walked.data(), x.data(), 2.0f, 3.0f, 0.01f, clip, n);
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
        kernels.step_candidate(stepped.data(), x.data(), gradient.data(), slope, rate, l2, clip, n);
        kernels.step_row(walked.data(), x.data(), slope, rate, l2, clip, n);
        check_clipped(row, stepped, dim, clip);
        check_clipped(row, walked, dim, clip);
        // A gradient that became infinite or NaN, padding included, is as harmless one step later.
        Buffer user = row;
        kernels.step_row(user.data(), gradient.data(), 1.0f, 0.1f, 0.0f, clip, n);
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
      kernels.step_candidate(row, queries.data(), gradient.data(), sign, 0.1f, 0.01f, 0.5f, kN);
      kernels.step_row(row, queries.data(), -sign, 0.1f, 0.01f, 0.5f, kN);
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

// kernels_test [STEP]: every STEP-th dimension instead of every one, for emulators and sanitizers.
int main(int argc, char** argv) {
  const std::size_t step = argc > 1 ? std::stoul(argv[1]) : 1;
  check_selection();
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    const Kernels& kernels = active_kernels();
    for (std::size_t dim = 1; dim <= 1024; dim += step) {
      check_products(kernels, dim, dim % 10, 1 + dim % 9);
      for (const Step& values : {Step{0.7f, 0.05f, 0.01f, 0.02f}, Step{-1.3f, 0.1f, 0.0f, 1e3f}}) {
        check_steps(kernels, dim, values);
        check_pairs(kernels, dim, values);
      }
    }
    for (std::size_t dim : {1u, 16u, 64u, 80u, 1024u}) {
      for (std::size_t count = 0; count <= 20; ++count) check_products(kernels, dim, count, count % 6);
    }
    check_products(kernels, 64, 333, 7);  // several blocks of scan_many
    check_products(kernels, 4096, 9, 5);  // rows longer than a block
    check_negative_zero(kernels);
    for (std::size_t dim : {1u, 50u, 64u, 200u}) check_hostile_steps(kernels, dim);
    check_threads(kernels, 3000);
    std::printf("%s: ok\n", kernels.name);
  }
}
