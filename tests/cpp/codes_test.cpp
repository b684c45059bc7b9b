// 4-bit codes on every instruction set of the machine, against loops in integers and float64: what coding promises of
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

// What both kinds of codes promise: within +-limit, the largest coordinate becoming `span`.
void check_codes(const Floats& x, const std::vector<int>& codes, int limit, float span, const VectorCode& code) {
  const std::size_t n = x.size();
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  std::vector<double> rest = widened(x);
  for (std::size_t i = 0; i < n; ++i) {
    CHECK(std::abs(codes[i]) <= limit);
    rest[i] -= double{code.scale} * codes[i];
  }
  const double true_norm = norm_of(widened(x)), true_error = norm_of(rest), scale = double{code.scale};
  CHECK(!std::isnan(code.norm) && std::isfinite(code.length) && std::isfinite(code.error));
  CHECK(double{code.norm} >= true_norm);
  CHECK(scale * double{code.length} >= true_norm);
  CHECK(scale * double{code.error} >= true_error);
  const double root = std::sqrt(static_cast<double>(n));
  const double slack = 1 + static_cast<double>(n + 32) * 0x1p-23;
  if (largest < kTiny) {
    CHECK(code.scale == (largest > 0 ? 8 * kTiny : 0.0f));
    CHECK(code.length == code.error && double{code.error} <= (largest > 0 ? slack * root / 8 : 0.0));
    CHECK(double{code.norm} <= slack * largest * root + (largest > 0 ? 0x1p-125 : 0.0));
    return;
  }
  CHECK_NEAR(code.scale, largest / span, code.scale * 0x1p-22f);
  for (std::size_t i = 0; i < n; ++i) CHECK_NEAR(double{x[i]} / scale, codes[i], 0.5 + 0x1p-15);
  // And not much more than needed.
  if (true_norm * slack < double{kMax}) CHECK(double{code.norm} <= true_norm * slack);
  CHECK(scale * double{code.length} <= true_norm * slack);
  CHECK(scale * double{code.error} <= (true_error + scale * root * 0x1p-14) * slack);
}

// Coordinate d of a row in a block, 0 to 15.
int half_of(const Bytes& blocks, std::size_t b, std::size_t lane, std::size_t d, std::size_t n) {
  return blocks[b * block_bytes(n) + d / 8 * 64 + lane * 4 + d % 4] >> (d % 8 < 4 ? 0 : 4) & 15;
}

std::vector<int> codes_of(const Bytes& block, std::size_t lane, std::size_t n) {
  std::vector<int> codes;
  for (std::size_t d = 0; d < n; ++d) codes.push_back(half_of(block, 0, lane, d, n) - 8);
  return codes;
}

// The scales of a block, and then its biases.
float* scalars_of(Bytes& blocks, std::size_t b, std::size_t n) {
  return reinterpret_cast<float*>(blocks.data() + b * block_bytes(n) + n / 2 * kBlockRows);
}

void check_encoding(const Kernels& kernels, std::size_t dim) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  for (std::size_t shape = 0; shape < kShapes.size(); ++shape) {
    const Floats x = make_vector(shape, dim, n);
    const std::size_t lane = generator() % kBlockRows;
    Bytes block(block_bytes(n));  // of zeros, which no code is
    VectorCode row{};
    const float bias = normal();
    kernels.encode_row(x.data(), n, bias, block.data(), lane, &row);
    check_codes(x, codes_of(block, lane, n), kRowLimit, 7.4375f, row);
    for (std::size_t i = 0; i < n / 2 * kBlockRows; ++i) CHECK((block[i] == 0) == (i / 4 % kBlockRows != lane));
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      CHECK(scalars_of(block, 0, n)[r] == (r == lane ? row.scale : 0.0f));
      CHECK(scalars_of(block, 0, n)[kBlockRows + r] == (r == lane ? bias : 0.0f));
    }

    Codes codes(n);
    VectorCode query{};
    const int correction = kernels.encode_query(x.data(), n, codes.data(), &query);
    const std::vector<int> query_codes(codes.data(), codes.data() + n);
    check_codes(x, query_codes, kQueryLimit, kQueryLimit, query);
    int sum = 0;
    for (const int code : query_codes) sum += code;
    CHECK(correction == 8 * sum);
  }
}

// ---- products ----

std::int64_t reference_dot(const Bytes& blocks, std::size_t b, std::size_t r, const Codes& codes, int offset) {
  std::int64_t sum = offset;
  for (std::size_t d = 0; d < codes.size(); ++d) {
    sum += std::int64_t{half_of(blocks, b, r, d, codes.size())} * codes[d];
  }
  return sum;
}

// Random codes, or the ones that come closest to overflowing.
struct Product {
  Bytes blocks;
  Codes codes;
  int offset = 0;

  Product(std::size_t count, std::size_t n, int byte, int code) : blocks(count * block_bytes(n)), codes(n) {
    std::uniform_int_distribution<int> any_byte(0, 255), any_code(-kQueryLimit, kQueryLimit);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = static_cast<unsigned char>(byte > 0 ? byte : any_byte(generator));
    }
    for (std::size_t d = 0; d < n; ++d) {
      codes[d] = static_cast<signed char>(code != 0 ? code : any_code(generator));
      offset -= 8 * codes[d];
    }
  }
};

void check_products(const Kernels& kernels, std::size_t n, std::size_t count) {
  for (const int byte : {0, 0x11, 0xff}) {
    for (const int code : {0, kQueryLimit, -kQueryLimit}) {
      const Product product(count, n, byte, code);
      constexpr int kSentinel = 12345;
      std::vector<int> out(count * kBlockRows + 2, kSentinel);
      kernels.dot_codes(product.blocks.data(), count, n, product.codes.data(), product.offset, out.data() + 1);
      for (std::size_t b = 0; b < count; ++b) {
        for (std::size_t r = 0; r < kBlockRows; ++r) {
          CHECK(out[1 + b * kBlockRows + r] == reference_dot(product.blocks, b, r, product.codes, product.offset));
        }
      }
      CHECK(out.front() == kSentinel && out.back() == kSentinel);
    }
  }
}

// ---- the scan ----

// Hits of one query, against double precision. `moved`: of each row, what is added to its score.
void check_hits(const Product& product, Bytes& blocks, std::size_t count, const Kernels& kernels,
                const Screening& query, const unsigned short* hits, bool any, const float* moved = nullptr,
                float reach = 0) {
  const std::size_t n = product.codes.size();
  std::vector<int> dots(count * kBlockRows);
  kernels.dot_codes(blocks.data(), count, n, query.codes, query.offset, dots.data());
  bool any_hit = false;
  for (std::size_t r = 0; r < count * kBlockRows; ++r) {
    const std::size_t b = r / kBlockRows;
    const float* const scalars = scalars_of(blocks, b, n);
    const double scale = double{scalars[r % kBlockRows]}, bias = double{scalars[kBlockRows + r % kBlockRows]};
    const bool hit = (hits[b] >> r % kBlockRows & 1) != 0;
    any_hit |= hit;
    const double term = dots[r] * (scale * double{query.scale});
    const double movement = moved == nullptr ? 0.0 : double{moved[r]} * double{reach};
    const double sum = term + bias + movement, limit = double{query.limit};
    if (std::isnan(sum) || std::isnan(limit) || std::isinf(sum) || std::isinf(limit)) {
      CHECK(hit == !(sum < limit));
      continue;
    }
    const double rounding =
        0x1p-22 * std::abs(term) + 0x1p-23 * (std::abs(sum) + std::abs(bias) + std::abs(movement)) + 0x1p-96;
    if (sum >= limit + rounding) CHECK(hit);
    if (sum < limit - rounding) CHECK(!hit);
  }
  CHECK(any == any_hit);
}

void check_screen(const Kernels& kernels, std::size_t n, std::size_t count, std::size_t num_queries) {
  Product product(count, n, 0, 0);
  Bytes& blocks = product.blocks;
  for (std::size_t r = 0; r < count * kBlockRows; ++r) {
    float* const scale = scalars_of(blocks, r / kBlockRows, n) + r % kBlockRows;
    float* const bias = scale + kBlockRows;
    *scale = 0.01f * std::abs(normal());
    *bias = normal();
    if (r % 37 == 5) *bias = kNan;
    if (r % 41 == 7) *bias = -kInfinity;
    if (r % 43 == 9) *scale = 0;
    if (r % 53 == 11) *scale = kInfinity;
  }
  const float limits[] = {kNan, kInfinity, -kInfinity, 0, 1e3f};
  std::vector<Codes> codes;
  for (std::size_t q = 0; q < num_queries; ++q) codes.push_back(Product(0, n, 0, 0).codes);
  std::vector<Screening> queries;
  for (std::size_t q = 0; q < num_queries; ++q) {
    int correction = 0;
    for (std::size_t d = 0; d < n; ++d) correction += 8 * codes[q][d];
    const float limit = generator() % 4 == 0 ? limits[generator() % 5] : 3 * normal();
    queries.push_back(
        {codes[q].data(), 0.013f * std::abs(normal()), static_cast<int>(generator() % 1000) - correction, limit});
  }
  constexpr unsigned short kSentinel = 0xa5a5;
  std::vector<unsigned short> together(num_queries * count + 2, kSentinel);
  const unsigned any = kernels.screen_many(blocks.data(), count, n, queries.data(), num_queries, together.data() + 1);
  CHECK(together.front() == kSentinel && together.back() == kSentinel);
  for (std::size_t q = 0; q < num_queries; ++q) {
    std::vector<unsigned short> hits(count + 2, kSentinel);
    const bool has_any = kernels.screen(blocks.data(), count, n, queries[q], hits.data() + 1);
    CHECK(hits.front() == kSentinel && hits.back() == kSentinel);
    check_hits(product, blocks, count, kernels, queries[q], hits.data() + 1, has_any);
    CHECK(has_any == ((any >> q & 1) != 0));
    CHECK(std::equal(hits.begin() + 1, hits.end() - 1, together.begin() + static_cast<std::ptrdiff_t>(1 + q * count)));
    Floats moved(count * kBlockRows);
    for (std::size_t r = 0; r < moved.size(); ++r) moved[r] = r % 3 == 0 ? 0.0f : std::abs(normal());
    if (moved.size() > 0) moved[generator() % moved.size()] = kInfinity;
    const float reach = 0.1f + std::abs(normal());
    const bool has_moved =
        kernels.screen_moved(blocks.data(), count, n, queries[q], moved.data(), reach, hits.data() + 1);
    CHECK(hits.front() == kSentinel && hits.back() == kSentinel);
    check_hits(product, blocks, count, kernels, queries[q], hits.data() + 1, has_moved, moved.data(), reach);
    // A cosine's norms are what has moved by a negative reach, with no biases.
    const bool has_angle =
        kernels.screen_cosine(blocks.data(), count, n, queries[q], moved.data(), reach, hits.data() + 1);
    CHECK(hits.front() == kSentinel && hits.back() == kSentinel);
    Bytes plain = blocks;
    for (std::size_t b = 0; b < count; ++b) std::fill_n(scalars_of(plain, b, n) + kBlockRows, kBlockRows, 0.0f);
    check_hits(product, plain, count, kernels, queries[q], hits.data() + 1, has_angle, moved.data(), -reach);
  }
}

// The scale of a large row is close to overflow; the score is not.
void check_large_scales(const Kernels& kernels) {
  constexpr std::size_t kN = 64;
  Product product(1, kN, 0x11, kQueryLimit);  // the most negative score
  std::fill_n(scalars_of(product.blocks, 0, kN), kBlockRows, 2.6e36f);
  std::fill_n(scalars_of(product.blocks, 0, kN) + kBlockRows, kBlockRows, 0.0f);
  unsigned short hits = 0;
  // The score is about -1.5e36.
  CHECK(kernels.screen(product.blocks.data(), 1, kN, {product.codes.data(), 1e-5f, product.offset, -2e36f}, &hits));
  CHECK(hits == 0xffff);
}

// ---- what all this is for ----

// In units of both scales: |<q, x> - dot| <= x.error * q.length + (x.length + x.error) * q.error
void check_bound(const Kernels& kernels, std::size_t dim) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  for (std::size_t query_shape = 0; query_shape < kShapes.size(); ++query_shape) {
    const Floats q = make_vector(query_shape, dim, n);
    Codes codes(n);
    VectorCode query{};
    const int correction = kernels.encode_query(q.data(), n, codes.data(), &query);
    Bytes block(block_bytes(n));
    std::vector<Floats> rows;
    std::vector<VectorCode> row_codes(kBlockRows);
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      rows.push_back(make_vector(r % kShapes.size(), dim, n));
      kernels.encode_row(rows[r].data(), n, 0.0f, block.data(), r, &row_codes[r]);
    }
    int dots[kBlockRows];
    kernels.dot_codes(block.data(), 1, n, codes.data(), -correction, dots);
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      double exact = 0, magnitude = 0;
      for (std::size_t i = 0; i < n; ++i) {
        exact += double{q[i]} * double{rows[r][i]};
        magnitude += std::abs(double{q[i]} * double{rows[r][i]});
      }
      const VectorCode& row = row_codes[r];
      const double scales = double{query.scale} * double{row.scale};
      const double error =
          double{row.error} * double{query.length} + (double{row.length} + double{row.error}) * double{query.error};
      const double rounding = static_cast<double>(n) * 0x1p-52 * magnitude;
      CHECK(std::abs(exact - scales * dots[r]) <= scales * error + rounding);
    }
  }
}

// ---- threads ----

// A row beside its lane of a block.
void check_threads(const Kernels& kernels, int rounds) {
  constexpr std::size_t kN = 64, kCount = 2, kRows = kCount * kBlockRows;
  Floats rows(kRows * kN), x(kN);
  Bytes blocks(kCount * block_bytes(kN));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = normal();
  for (std::size_t i = 0; i < kN; ++i) x[i] = normal();
  Codes codes(kN);
  VectorCode query{};
  const int correction = kernels.encode_query(x.data(), kN, codes.data(), &query);

  // Two of these step and code the same rows.
  const auto write = [&](float step) {
    for (int round = 0; round < rounds; ++round) {
      const std::size_t r = static_cast<std::size_t>(round) % kRows;
      const Slot slot{rows.data() + r * kN, nullptr, nullptr};
      const float rate = 0.01f;
      kernels.step_rows({&slot, &step, &rate, 1, 0.00001f, 0.5f}, x.data(), nullptr, kN, nullptr);
      VectorCode code{};
      kernels.encode_row(rows.data() + r * kN, kN, step, blocks.data() + r / kBlockRows * block_bytes(kN),
                         r % kBlockRows, &code);
      CHECK(std::isfinite(code.scale) && code.norm > 0 && code.error > 0 && code.error < code.length);
    }
  };
  const auto read = [&] {
    int dots[kRows];
    unsigned short hits[2 * kCount];
    constexpr int kLargest = static_cast<int>(kN) * 8 * kQueryLimit;
    const Screening one{codes.data(), query.scale, -correction, 0.0f};
    const Screening both[] = {one, one};
    for (int round = 0; round < rounds; ++round) {
      const bool any = kernels.screen(blocks.data(), kCount, kN, one, hits);
      CHECK(any == ((hits[0] | hits[1]) != 0));
      kernels.screen_many(blocks.data(), kCount, kN, both, 2, hits);
      kernels.dot_codes(blocks.data(), kCount, kN, codes.data(), -correction, dots);
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
    Bytes block(block_bytes(kN)), other(block_bytes(kN));
    VectorCode again{}, code{};
    kernels.encode_row(rows.data() + r * kN, kN, 0.0f, block.data(), r % kBlockRows, &again);
    std::copy_n(blocks.data() + r / kBlockRows * block_bytes(kN), block_bytes(kN), other.data());
    kernels.encode_row(rows.data() + r * kN, kN, 0.0f, other.data(), r % kBlockRows, &code);
    CHECK(code.scale == again.scale && code.length == again.length && code.error == again.error);
    for (std::size_t d = 0; d < kN; ++d) {
      CHECK(half_of(block, 0, r % kBlockRows, d, kN) == half_of(other, 0, r % kBlockRows, d, kN));
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
    check_threads(kernels, check::kSanitized ? 600 : 3000);
    if (check::kOnlyThreads) continue;
    for (std::size_t dim = 1; dim <= 1024; dim += (dim < 70 ? 1 : 37) * step) {
      check_encoding(kernels, dim);
      check_bound(kernels, dim);
    }
    for (std::size_t n = kRowPadding; n <= 1024; n += (n < 256 ? 1 : 4) * kRowPadding) {
      check_products(kernels, n, 1 + n / kRowPadding % 3);
      check_screen(kernels, n, 1 + n / kRowPadding % 7, 1 + n / kRowPadding % 10);
    }
    for (const std::size_t n : {16u, 64u, 80u}) {
      for (std::size_t count = 0; count <= 20; ++count) {
        check_products(kernels, n, count);
        check_screen(kernels, n, count, count % 12);
      }
    }
    check_products(kernels, 65536, 1);  // the largest sums
    check_encoding(kernels, 65536);
    check_large_scales(kernels);
    std::printf("%s: ok\n", kernels.name);
  }
}
