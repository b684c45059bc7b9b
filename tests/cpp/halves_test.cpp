// The kernels of rows of halves, on every instruction set of the machine, against arithmetic in float64 and against
// the kernels of rows of floats; threads that read and write the same halves (for ThreadSanitizer).
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "storage/aligned.hpp"

using namespace recengine;

namespace {

std::mt19937 generator(20250611);

float normal(float scale) { return std::normal_distribution<float>(0.0f, scale)(generator); }

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

// By the definition of the format.
double value_of(unsigned half) {
  const unsigned exponent = half >> 10 & 31, mantissa = half & 1023;
  const double sign = (half & 0x8000u) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
}

// By search: the largest half that is no longer than x, and the one after it.
unsigned cut(double magnitude) {
  unsigned low = 0, high = 0x7bff;
  while (low < high) {
    const unsigned middle = (low + high + 1) / 2;
    if (value_of(middle) <= magnitude) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

unsigned nearest(float x) {
  const double magnitude = std::min(std::abs(double{x}), double{kMaxHalf});
  unsigned half = cut(magnitude);
  if (half < 0x7bff) {
    const double below = magnitude - value_of(half), above = value_of(half + 1) - magnitude;
    if (above < below || (above == below && half % 2 == 1)) ++half;
  }
  return half | (std::signbit(x) ? 0x8000u : 0u);
}

void check_every_half(const Kernels& kernels) {
  AlignedVector<Half> halves(1 << 16), back(1 << 16);
  for (std::size_t h = 0; h < halves.size(); ++h) halves[h] = Half{static_cast<unsigned short>(h)};
  AlignedFloats floats(halves.size());
  kernels.halves.load(floats.data(), halves.data(), floats.size());
  for (std::size_t h = 0; h < halves.size(); ++h) {
    const double expected = value_of(static_cast<unsigned>(h));
    if (std::isnan(expected)) {
      CHECK(std::isnan(floats[h]));
      floats[h] = 0;
    } else {
      CHECK(same_bits(floats[h], static_cast<float>(expected)));
    }
  }
  const auto comes_back = [&] {
    for (std::size_t h = 0; h < halves.size(); ++h) {
      if (std::isfinite(value_of(static_cast<unsigned>(h)))) CHECK(back[h] == halves[h]);
    }
  };
  kernels.halves.store(back.data(), floats.data(), floats.size());
  comes_back();
  kernels.store_stochastic(back.data(), floats.data(), floats.size(), 77);
  comes_back();
}

// Middles between halves, the floats beside them, and what lies beyond the largest.
AlignedFloats hard_cases(std::size_t step) {
  AlignedFloats values;
  for (unsigned half = 0; half < 0x7bff; half += static_cast<unsigned>(step)) {
    const auto middle = static_cast<float>((value_of(half) + value_of(half + 1)) / 2);
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  for (const float value : {65504.0f, 65519.0f, 65520.0f, 1e9f, 1e38f, INFINITY, 1e-45f, 1e-20f}) {
    values.push_back(value);
    values.push_back(-value);
  }
  for (int i = 0; i < 5000; ++i) values.push_back(normal(std::exp2(static_cast<float>(i % 40) - 24)));
  values.resize((values.size() + kRowPadding - 1) / kRowPadding * kRowPadding);
  return values;
}

void check_rounding(const Kernels& kernels, std::size_t step) {
  const AlignedFloats values = hard_cases(step);
  AlignedVector<Half> halves(values.size());
  kernels.halves.store(halves.data(), values.data(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(static_cast<unsigned>(halves[i]) == nearest(values[i]));
  // At random: one of the two around, the same on every instruction set.
  AlignedVector<Half> others(values.size());
  for (const unsigned key : {0u, 1u, 0xffffffffu}) {
    kernels.store_stochastic(halves.data(), values.data(), values.size(), key);
    std::uint64_t hash = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double magnitude = std::min(std::abs(double{values[i]}), double{kMaxHalf});
      const unsigned half = static_cast<unsigned>(halves[i]) & 0x7fffu, below = cut(magnitude);
      CHECK(half == below || (half == below + 1 && value_of(below) < magnitude));
      CHECK((static_cast<unsigned>(halves[i]) >> 15 != 0) == std::signbit(values[i]));
      hash = (hash ^ static_cast<unsigned>(halves[i])) * 0x100000001b3u;
    }
    static std::uint64_t first[3];  // of the first instruction set that was tested
    std::uint64_t& expected = first[key == 0 ? 0 : key == 1 ? 1 : 2];
    if (expected == 0) expected = hash;
    CHECK(hash == expected);
    kernels.store_stochastic(others.data(), values.data(), values.size(), key);
    CHECK(others == halves);
  }
}

// Up as often as x is near: within five standard deviations.
void check_average(const Kernels& kernels) {
  constexpr std::size_t kDraws = 1 << 14;
  AlignedVector<Half> halves(kDraws);
  for (const float value : {1.0001f, -0.3f, 5000.7f, 6.2e-5f, 3.3e-7f, 1e-8f}) {
    const AlignedFloats values(kDraws, value);
    kernels.store_stochastic(halves.data(), values.data(), kDraws, 5);
    const double magnitude = std::abs(double{value});
    const unsigned below = cut(magnitude);
    const double share = (magnitude - value_of(below)) / (value_of(below + 1) - value_of(below));
    const auto up = std::count_if(halves.begin(), halves.end(),
                                  [below](Half half) { return (static_cast<unsigned>(half) & 0x7fffu) == below + 1; });
    CHECK_NEAR(static_cast<double>(up) / kDraws, share, 5 * std::sqrt(share * (1 - share) / kDraws) + 0x1p-13);
  }
}

// Every kernel over halves gives the bits that it gives over floats of the same values.
void check_products(const Kernels& kernels, std::size_t dim, std::size_t count, std::size_t num_queries) {
  const std::size_t n = (dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const auto random_rows = [dim, n](std::size_t rows) {
    AlignedFloats out(std::max<std::size_t>(rows, 1) * n);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t d = 0; d < dim; ++d) out[r * n + d] = normal(r % 3 == 0 ? 1e-5f : 1.0f);
    }
    return out;
  };
  AlignedFloats rows = random_rows(count);
  AlignedVector<Half> halves(rows.size());
  kernels.halves.store(halves.data(), rows.data(), rows.size());
  kernels.halves.load(rows.data(), halves.data(), rows.size());
  const AlignedFloats queries = random_rows(num_queries), bias = random_rows(count + 1);
  std::vector<const float*> float_rows;
  std::vector<const Half*> half_rows;
  for (std::size_t r = 0; r < count; ++r) {
    float_rows.push_back(rows.data() + (count - 1 - r) * n);
    half_rows.push_back(halves.data() + (count - 1 - r) * n);
  }
  const std::size_t size = std::max<std::size_t>(count * num_queries, 1);
  std::vector<float> expected(size), found(size);
  const auto equal = [&] { CHECK(std::equal(found.begin(), found.end(), expected.begin(), same_bits)); };
  for (const float* b : {static_cast<const float*>(nullptr), bias.data() + 1}) {
    const float best = kernels.scan(queries.data(), rows.data(), b, count, n, expected.data());
    CHECK(same_bits(best, kernels.halves.scan(queries.data(), halves.data(), b, count, n, found.data())));
    equal();
    kernels.scan_many(queries.data(), num_queries, rows.data(), b, count, n, expected.data(), count);
    kernels.halves.scan_many(queries.data(), num_queries, halves.data(), b, count, n, found.data(), count);
    equal();
  }
  kernels.gather_dot(queries.data(), float_rows.data(), count, n, expected.data());
  kernels.halves.gather_dot(queries.data(), half_rows.data(), count, n, found.data());
  equal();
  kernels.square_norms(rows.data(), count, n, expected.data());
  kernels.halves.square_norms(halves.data(), count, n, found.data());
  equal();
  if (count == 0) return;
  CHECK(same_bits(kernels.dot(queries.data(), rows.data(), n), kernels.halves.dot(queries.data(), halves.data(), n)));
  AlignedFloats sum = random_rows(1), other = sum;
  kernels.add_scaled(sum.data(), rows.data(), 0.7f, n);
  kernels.halves.add_scaled(other.data(), halves.data(), 0.7f, n);
  CHECK(std::equal(sum.begin(), sum.end(), other.begin(), same_bits));
}

void check_threads(const Kernels& kernels) {
  constexpr std::size_t kN = 48, kCount = 7;
  AlignedVector<Half> rows(kCount * kN);
  const AlignedFloats query(kN, 0.5f);
  const auto write = [&](unsigned key) {
    AlignedFloats x(kN);
    for (unsigned round = 0; round < 2000; ++round) {
      Half* const row = rows.data() + round % kCount * kN;
      kernels.halves.load(x.data(), row, kN);
      for (float& value : x) value = value * 0.9f + 0.01f;
      if (round % 2 == 0) kernels.halves.store(row, x.data(), kN);
      kernels.store_stochastic(row, x.data(), kN, key + round);
    }
  };
  const auto read = [&] {
    std::vector<float> out(kCount);
    for (int round = 0; round < 2000; ++round) {
      kernels.halves.scan(query.data(), rows.data(), nullptr, kCount, kN, out.data());
      for (const float score : out) CHECK(std::abs(score) < 10);
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(write, 1);
  threads.emplace_back(write, 100000);
  threads.emplace_back(read);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

// halves_test [STEP]: every STEP-th dimension and hard case instead of every one, for emulators and sanitizers.
int main(int argc, char** argv) {
  const std::size_t step = argc > 1 ? std::stoul(argv[1]) : check::kSanitized ? 31 : 1;
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    const Kernels& kernels = active_kernels();
    generator.seed(20250611);
    check_every_half(kernels);
    check_rounding(kernels, step);
    check_average(kernels);
    for (std::size_t dim = 1; dim <= 300; dim += step) check_products(kernels, dim, dim % 10, 1 + dim % 9);
    for (std::size_t count = 0; count <= 70; ++count) check_products(kernels, 64, count, count % 6 + 1);
    check_threads(kernels);
    std::printf("%s: ok\n", kernels.name);
  }
}
