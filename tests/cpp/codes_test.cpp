// int8 codes on every instruction set of the machine, against loops in integers and float64: what coding promises of
// its bounds, inner products that are the same integers everywhere, the scan, and threads that code rows which others
// step while others screen them (for ThreadSanitizer).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <new>
#include <random>
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
constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kTiny = 0x1p-100f;  // vectors below are coded as zero

// Zeros on the alignment of rows and blocks.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t size)
      : size_(size), data_(static_cast<T*>(::operator new(size * sizeof(T) + 64, std::align_val_t{64}))) {
    std::fill_n(data_, size, T{});
  }
  Aligned(const Aligned& other) : Aligned(other.size_) { std::copy_n(other.data_, size_, data_); }
  Aligned& operator=(const Aligned&) = delete;
  ~Aligned() { ::operator delete(data_, std::align_val_t{64}); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  T* data_;
};

using Floats = Aligned<float>;
using Bytes = Aligned<unsigned char>;
using Codes = Aligned<signed char>;

std::mt19937 generator(20240901);

float normal() { return std::normal_distribution<float>()(generator); }
float sign() { return generator() % 2 == 0 ? 1.0f : -1.0f; }

// Coordinates of every size and shape that a row can have.
const std::vector<std::function<float(std::size_t)>> kShapes = {
    [](std::size_t) { return normal(); },
    [](std::size_t) { return sign() * std::exp(4 * normal()); },  // skewed
    [](std::size_t) { return sign() * 3e38f; },                   // equal and huge: the norm overflows
    [](std::size_t) { return 1e38f * std::clamp(normal(), -3.0f, 3.0f); },
    [](std::size_t i) { return i == 0 ? kMax : 1e-45f; },
    [](std::size_t i) { return i == 3 ? -1.0f : 1e-30f * normal(); },  // squares underflow
    [](std::size_t) { return kTiny * sign() * (1.0f + 0.5f * std::abs(normal())); },
    [](std::size_t) { return 0.999f * kTiny * sign(); },
    [](std::size_t) { return 1e-38f * normal(); },
    [](std::size_t) { return 1.4e-45f * sign(); },
    [](std::size_t i) { return static_cast<float>(i % 255) - 127.0f; },                  // whole numbers
    [](std::size_t i) { return i == 0 ? 127.0f : 0.5f + static_cast<float>(i % 100); },  // ties
    [](std::size_t) { return 0.0f; },
    [](std::size_t) { return -0.0f; },
};

// One vector, of `dim` coordinates, padded with zeros to n.
Floats make_vector(std::size_t shape, std::size_t dim, std::size_t n) {
  Floats x(n);
  for (std::size_t i = 0; i < dim; ++i) x[i] = kShapes[shape](i);
  return x;
}

double norm_of(const std::vector<double>& x) {
  double largest = 0, sum = 0;
  for (const double value : x) largest = std::max(largest, std::abs(value));
  if (largest == 0) return 0;
  for (const double value : x) sum += (value / largest) * (value / largest);
  return largest * std::sqrt(sum);
}

std::vector<double> widened(const Floats& x) { return {x.data(), x.data() + x.size()}; }

// ---- coding ----

// What both kinds of codes promise. `codes` within +-limit.
void check_codes(const Floats& x, const std::vector<int>& codes, int limit, float scale, float norm, float error) {
  const std::size_t n = x.size();
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  std::vector<double> rest = widened(x);
  for (std::size_t i = 0; i < n; ++i) {
    CHECK(std::abs(codes[i]) <= limit);
    rest[i] -= double{scale} * codes[i];
  }
  const double true_norm = norm_of(widened(x)), true_error = norm_of(rest);
  CHECK(!std::isnan(norm) && !std::isnan(error));
  CHECK(double{norm} >= true_norm);
  CHECK(double{error} >= true_error);
  const double root = std::sqrt(static_cast<double>(n));
  const double slack = 1 + static_cast<double>(n + 32) * 0x1p-23;
  if (largest < kTiny) {
    CHECK(scale == 0);
    CHECK(norm == error);
    CHECK(double{norm} <= slack * largest * root + (largest > 0 ? 0x1p-125 : 0.0));
    return;
  }
  CHECK_NEAR(scale, largest / static_cast<float>(limit), scale * 0x1p-22f);
  for (std::size_t i = 0; i < n; ++i) CHECK_NEAR(double{x[i]} / double{scale}, codes[i], 0.5 + 0x1p-15);
  // And not much more than needed.
  if (true_norm * slack < double{kMax}) CHECK(double{norm} <= true_norm * slack);
  const double enough = (true_error + double{scale} * root * 0x1p-14) * slack;
  if (enough < double{kMax}) CHECK(double{error} <= enough);
}

std::vector<int> codes_of(const Bytes& block, std::size_t lane, std::size_t n) {
  std::vector<int> codes;
  for (std::size_t d = 0; d < n; ++d) codes.push_back(block[d / 4 * 64 + lane * 4 + d % 4] - 128);
  return codes;
}

void check_encoding(const Kernels& kernels, std::size_t dim) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  for (std::size_t shape = 0; shape < kShapes.size(); ++shape) {
    const Floats x = make_vector(shape, dim, n);
    const std::size_t lane = generator() % kBlockRows;
    Bytes block(n * kBlockRows);
    std::fill_n(block.data(), block.size(), static_cast<unsigned char>(0));  // which no code is
    RowCode row{};
    kernels.encode_row(x.data(), n, block.data(), lane, &row);
    check_codes(x, codes_of(block, lane, n), 127, row.scale, row.norm, row.error);
    for (std::size_t i = 0; i < block.size(); ++i) CHECK((block[i] == 0) == (i / 4 % kBlockRows != lane));

    Codes codes(n);
    QueryCode query{};
    kernels.encode_query(x.data(), n, codes.data(), &query);
    const std::vector<int> query_codes(codes.data(), codes.data() + n);
    check_codes(x, query_codes, kQueryLimit, query.scale, query.norm, query.error);
    int sum = 0;
    for (const int code : query_codes) sum += code;
    CHECK(query.correction == 128 * sum);
  }
}

// ---- products ----

std::int64_t reference_dot(const Bytes& blocks, std::size_t b, std::size_t r, const Codes& codes) {
  const std::size_t n = codes.size();
  std::int64_t sum = 0;
  for (std::size_t d = 0; d < n; ++d) {
    sum += std::int64_t{blocks[b * n * kBlockRows + d / 4 * 64 + r * 4 + d % 4] - 128} * codes[d];
  }
  return sum;
}

// Random codes, or the ones that come closest to overflowing.
struct Product {
  Bytes blocks;
  Codes codes;
  int correction = 0;

  Product(std::size_t count, std::size_t n, int byte, int code) : blocks(count * n * kBlockRows), codes(n) {
    std::uniform_int_distribution<int> any_byte(1, 255), any_code(-kQueryLimit, kQueryLimit);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = static_cast<unsigned char>(byte > 0 ? byte : any_byte(generator));
    }
    for (std::size_t d = 0; d < n; ++d) {
      codes[d] = static_cast<signed char>(code != 0 ? code : any_code(generator));
      correction += 128 * codes[d];
    }
  }
};

void check_products(const Kernels& kernels, std::size_t n, std::size_t count) {
  for (const int byte : {0, 1, 255}) {
    for (const int code : {0, kQueryLimit, -kQueryLimit}) {
      const Product product(count, n, byte, code);
      constexpr int kSentinel = 12345;
      std::vector<int> out(count * kBlockRows + 2, kSentinel);
      kernels.dot_codes(product.blocks.data(), count, n, product.codes.data(), product.correction, out.data() + 1);
      for (std::size_t b = 0; b < count; ++b) {
        for (std::size_t r = 0; r < kBlockRows; ++r) {
          CHECK(out[1 + b * kBlockRows + r] == reference_dot(product.blocks, b, r, product.codes));
        }
      }
      CHECK(out.front() == kSentinel && out.back() == kSentinel);
    }
  }
}

// ---- the scan ----

void check_screen(const Kernels& kernels, std::size_t n, std::size_t count) {
  const Product product(count, n, 0, 0);
  std::vector<int> dots(count * kBlockRows);
  kernels.dot_codes(product.blocks.data(), count, n, product.codes.data(), product.correction, dots.data());
  const std::size_t rows = count * kBlockRows;
  Floats shifted_scales(rows + 1), shifted_biases(rows + 1), limits(count);  // a float's alignment suffices
  float* scales = shifted_scales.data() + 1;
  float* biases = shifted_biases.data() + 1;
  const float query_scale = 0.013f;
  for (std::size_t r = 0; r < rows; ++r) {
    scales[r] = 0.01f * std::abs(normal());
    biases[r] = normal();
    if (r % 37 == 5) biases[r] = kNan;
    if (r % 41 == 7) biases[r] = -kInfinity;
    if (r % 43 == 9) scales[r] = 0;
    if (r % 53 == 11) scales[r] = kInfinity;
  }
  for (std::size_t b = 0; b < count; ++b) {
    const float odd[] = {kNan, kInfinity, -kInfinity, biases[b * kBlockRows]};
    limits[b] = b % 5 == 4 ? odd[b / 5 % 4] : 3 * normal();
  }

  constexpr unsigned short kSentinel = 0xa5a5;
  std::vector<unsigned short> hits(count + 2, kSentinel);
  const bool any = kernels.screen(product.blocks.data(), count, n, product.codes.data(), product.correction,
                                  query_scale, scales, biases, limits.data(), hits.data() + 1);
  CHECK(hits.front() == kSentinel && hits.back() == kSentinel);
  bool any_hit = false;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t b = r / kBlockRows;
    const bool hit = (hits[1 + b] >> r % kBlockRows & 1) != 0;
    any_hit |= hit;
    const double term = dots[r] * (double{scales[r]} * double{query_scale});
    const double sum = term + double{biases[r]}, limit = double{limits[b]};
    if (std::isnan(sum) || std::isnan(limit) || std::isinf(sum) || std::isinf(limit)) {
      CHECK(hit == !(sum < limit));
      continue;
    }
    const double rounding = 0x1p-22 * std::abs(term) + 0x1p-23 * std::abs(sum) + 0x1p-96;
    if (sum >= limit + rounding) CHECK(hit);
    if (sum < limit - rounding) CHECK(!hit);
  }
  CHECK(any == any_hit);
}

// The scale of a large row is close to overflow; the score is not.
void check_large_scales(const Kernels& kernels) {
  constexpr std::size_t kN = 64;
  const Product product(1, kN, 1, kQueryLimit);  // the most negative score
  const Floats scales = [] {
    Floats all(kBlockRows);
    std::fill_n(all.data(), all.size(), 2.6e36f);
    return all;
  }();
  const Floats biases(kBlockRows);
  unsigned short hits = 0;
  const float limit = -2e37f;  // the score is about -1.3e37
  CHECK(kernels.screen(product.blocks.data(), 1, kN, product.codes.data(), product.correction, 1e-5f, scales.data(),
                       biases.data(), &limit, &hits));
  CHECK(hits == 0xffff);
}

// ---- what all this is for ----

// |<q, x> - scales * dot| <= q.error * (x.norm + x.error) + q.norm * x.error
void check_bound(const Kernels& kernels, std::size_t dim) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  for (std::size_t query_shape = 0; query_shape < kShapes.size(); ++query_shape) {
    const Floats q = make_vector(query_shape, dim, n);
    Codes codes(n);
    QueryCode query{};
    kernels.encode_query(q.data(), n, codes.data(), &query);
    Bytes block(n * kBlockRows);
    std::vector<Floats> rows;
    std::vector<RowCode> row_codes(kBlockRows);
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      rows.push_back(make_vector(r % kShapes.size(), dim, n));
      kernels.encode_row(rows[r].data(), n, block.data(), r, &row_codes[r]);
    }
    int dots[kBlockRows];
    kernels.dot_codes(block.data(), 1, n, codes.data(), query.correction, dots);
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      double exact = 0, magnitude = 0;
      for (std::size_t i = 0; i < n; ++i) {
        exact += double{q[i]} * double{rows[r][i]};
        magnitude += std::abs(double{q[i]} * double{rows[r][i]});
      }
      const RowCode& row = row_codes[r];
      const double of_query = query.error == 0 ? 0 : double{query.error} * (double{row.norm} + double{row.error});
      const double of_row = row.error == 0 ? 0 : double{query.norm} * double{row.error};
      const double rounding = static_cast<double>(n) * 0x1p-52 * magnitude;
      CHECK(std::abs(exact - double{query.scale} * double{row.scale} * dots[r]) <= of_query + of_row + rounding);
    }
  }
}

// ---- threads ----

// A row beside its lane of a block, the scale and bias of which are stored as the engine stores them.
void check_threads(const Kernels& kernels, int rounds) {
  constexpr std::size_t kN = 64, kCount = 2, kRows = kCount * kBlockRows;
  Floats rows(kRows * kN), x(kN), scales(kRows), biases(kRows), limits(kCount);
  Bytes blocks(kRows * kN);
  std::fill_n(blocks.data(), blocks.size(), static_cast<unsigned char>(128));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = normal();
  for (std::size_t i = 0; i < kN; ++i) x[i] = normal();
  Codes codes(kN);
  QueryCode query{};
  kernels.encode_query(x.data(), kN, codes.data(), &query);

  // Two of these step and code the same rows.
  const auto write = [&](float step) {
    for (int round = 0; round < rounds; ++round) {
      const std::size_t r = static_cast<std::size_t>(round) % kRows;
      kernels.step_row(rows.data() + r * kN, x.data(), step, 0.01f, 0.001f, 0.5f, kN);
      RowCode code{};
      kernels.encode_row(rows.data() + r * kN, kN, blocks.data() + r / kBlockRows * kN * kBlockRows, r % kBlockRows,
                         &code);
      CHECK(std::isfinite(code.scale) && code.norm > 0 && code.error > 0 && code.error < code.norm);
      store_relaxed(scales.data() + r, code.scale);
      store_relaxed(biases.data() + r, step);
    }
  };
  const auto read = [&] {
    int dots[kRows];
    unsigned short hits[kCount];
    constexpr int kLargest = static_cast<int>(kN) * 127 * kQueryLimit;
    for (int round = 0; round < rounds; ++round) {
      const bool any = kernels.screen(blocks.data(), kCount, kN, codes.data(), query.correction, query.scale,
                                      scales.data(), biases.data(), limits.data(), hits);
      CHECK(any == ((hits[0] | hits[1]) != 0));
      kernels.dot_codes(blocks.data(), kCount, kN, codes.data(), query.correction, dots);
      CHECK(std::all_of(dots, dots + kRows, [](int dot) { return std::abs(dot) <= kLargest; }));
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(write, 1.0f);
  threads.emplace_back(write, -1.0f);
  threads.emplace_back(read);
  threads.emplace_back(read);
  for (std::thread& thread : threads) thread.join();

  // In the quiet, a code is that of its row.
  for (std::size_t r = 0; r < kRows; ++r) {
    Bytes block(kN * kBlockRows);
    RowCode again{}, code{};
    kernels.encode_row(rows.data() + r * kN, kN, block.data(), r % kBlockRows, &again);
    unsigned char* shared = blocks.data() + r / kBlockRows * kN * kBlockRows;
    kernels.encode_row(rows.data() + r * kN, kN, shared, r % kBlockRows, &code);
    CHECK(code.scale == again.scale && code.norm == again.norm && code.error == again.error);
    for (std::size_t d = 0; d < kN; ++d) {
      const std::size_t place = d / 4 * 64 + r % kBlockRows * 4 + d % 4;
      CHECK(block[place] == shared[place]);
    }
  }
}

}  // namespace

// codes_test [STEP]: every STEP-th dimension instead of every one, for emulators and sanitizers.
int main(int argc, char** argv) {
  const std::size_t step = argc > 1 ? std::stoul(argv[1]) : 1;
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    const Kernels& kernels = active_kernels();
    for (std::size_t dim = 1; dim <= 1024; dim += (dim < 70 ? 1 : 37) * step) {
      check_encoding(kernels, dim);
      check_bound(kernels, dim);
    }
    for (std::size_t n = kRowPadding; n <= 1024; n += (n < 256 ? 1 : 4) * kRowPadding) {
      check_products(kernels, n, 1 + n / kRowPadding % 3);
      check_screen(kernels, n, 1 + n / kRowPadding % 7);
    }
    for (const std::size_t n : {16u, 64u, 80u}) {
      for (std::size_t count = 0; count <= 20; ++count) {
        check_products(kernels, n, count);
        check_screen(kernels, n, count);
      }
    }
    check_products(kernels, 65536, 1);  // the largest sums
    check_encoding(kernels, 65536);
    check_large_scales(kernels);
    check_threads(kernels, 3000);
    std::printf("%s: ok\n", kernels.name);
  }
}
