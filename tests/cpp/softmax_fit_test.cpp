// Offline softmax: exponentials against float64, threads that agree with one, interrupts between batches, rows at the
// length that makes their products scores, biases of any size. (The gradients are checked in tests/test_fit.py.)
#include "learner/softmax_fit.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "storage/interrupt.hpp"

using namespace recengine;

namespace {

std::mt19937 generator(11);

void check_exponentials(const Kernels& kernels) {
  constexpr std::size_t kCount = 4096;
  AlignedFloats x(kCount);
  for (std::size_t k = 0; k < kCount; ++k) x[k] = 90.0f * (2 * static_cast<float>(k) / kCount - 1);
  const AlignedFloats before = x;
  const float sum = kernels.exponentials(x.data(), 0.5f, -3, kCount);
  double expected_sum = 0;
  for (std::size_t k = 0; k < kCount; ++k) {
    const double expected = std::exp(0.5 * double{before[k]} - 3);
    CHECK_NEAR(double{x[k]}, expected, expected * 0x1p-20);
    expected_sum += expected;
  }
  CHECK_NEAR(double{sum}, expected_sum, expected_sum * 1e-5);
  AlignedFloats extreme(kRowPadding, -1e9f);
  extreme[0] = 1e9f;
  kernels.exponentials(extreme.data(), 1, 0, kRowPadding);
  CHECK(std::isfinite(extreme[0]) && extreme[0] > 1e37f);
  CHECK(extreme[1] >= 0 && extreme[1] < 1e-37f);
}

AlignedFloats random_rows(std::size_t count, std::size_t dim, std::size_t n) {
  std::normal_distribution<float> normal(0, 0.3f);
  AlignedFloats rows(count * n, 0.0f);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t k = 0; k < dim; ++k) rows[r * n + k] = normal(generator);
  }
  return rows;
}

class Always : public Interrupt {
 public:
  bool requested() override { return true; }
};

void check_training() {
  constexpr std::size_t kUsers = 200, kItems = 90, kDim = 20, kStride = 32;
  std::vector<std::uint32_t> users, items;
  for (std::uint32_t k = 0; k < 3000; ++k) {
    users.push_back(static_cast<std::uint32_t>(generator() % kUsers));
    items.push_back(static_cast<std::uint32_t>(generator() % (kItems / 3) * 3 + users.back() % 3));
  }
  const Interactions pairs(users, items, nullptr, kUsers + 1, kItems);  // the last user has none
  const AlignedFloats start_users = random_rows(kUsers + 1, kDim, kStride);
  const AlignedFloats start_items = random_rows(kItems, kDim, kStride);
  SoftmaxFitSettings settings;
  settings.negatives = 40;
  settings.batch = 70;
  settings.epochs = 15;
  SoftmaxFit one(pairs, settings, start_users, start_items), three(pairs, settings, start_users, start_items);
  {
    Always always;
    const InterruptScope scope(always);
    CHECK(!one.run_epoch(1));
  }
  for (std::uint32_t epoch = 0; epoch < settings.epochs; ++epoch) {
    CHECK(one.run_epoch(1));
    CHECK(three.run_epoch(3));
  }
  AlignedFloats user_rows = start_users, item_rows = start_items, users3 = start_users, items3 = start_items;
  one.write_rows(user_rows, item_rows);
  three.write_rows(users3, items3);
  double right = 0, wrong = 0;
  for (std::size_t i = 0; i < kItems; ++i) {
    const float* const row = &item_rows[i * kStride];
    CHECK_NEAR(active_kernels().square_norm(row, kStride), 1 / settings.temperature, 1e-3f);
    for (std::size_t k = kDim; k < kStride; ++k) CHECK(row[k] == 0);
    for (std::size_t u = 0; u < kUsers; ++u) {
      (u % 3 == i % 3 ? right : wrong) += double{active_kernels().dot(&user_rows[u * kStride], row, kStride)};
    }
  }
  CHECK(right > 0 && right > 2 * wrong);  // of the latter there are twice as many
  double difference = 0;
  for (std::size_t k = 0; k < user_rows.size(); ++k) {
    difference = std::max(difference, std::abs(double{user_rows[k]} - double{users3[k]}));
  }
  CHECK(difference < 0.05);
}

// The exponentials of a batch neither overflow nor all vanish, however far apart the biases are.
void check_extreme_biases() {
  constexpr std::size_t kUsers = 50, kItems = 70, kStride = 16;
  std::vector<std::uint32_t> users, items;
  for (std::uint32_t user = 0; user < kUsers; ++user) {
    for (std::uint32_t item = 0; item <= user; ++item) {
      users.push_back(user);
      items.push_back(item);
    }
  }
  const Interactions pairs(users, items, nullptr, kUsers, kItems);  // the last items have none
  const AlignedFloats start_users = random_rows(kUsers, kStride, kStride);
  const AlignedFloats start_items = random_rows(kItems, kStride, kStride);
  for (const float popularity : {-100.0f, 0.0f, 100.0f}) {
    SoftmaxFitSettings settings;
    settings.temperature = 0.025f;
    settings.popularity = popularity;
    settings.negatives = 30;
    settings.batch = 20;
    settings.epochs = 5;
    SoftmaxFit fit(pairs, settings, start_users, start_items);
    for (std::size_t item = 0; item < kItems; ++item) {
      const auto count = static_cast<float>(item < kUsers ? kUsers - item : 1);
      CHECK_NEAR(fit.biases()[item], popularity * std::log(count), 1e-4f);
    }
    for (std::uint32_t epoch = 0; epoch < settings.epochs; ++epoch) CHECK(fit.run_epoch(1));
    AlignedFloats user_rows = start_users, item_rows = start_items;
    fit.write_rows(user_rows, item_rows);
    for (const float x : user_rows) CHECK(std::isfinite(x));
    for (const float x : item_rows) CHECK(std::isfinite(x));
  }
}

}  // namespace

int main() {
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    check_exponentials(active_kernels());
  }
  select_kernels("");
  check_training();
  check_extreme_biases();
}
