// Users solved from their items: against dense algebra, after items moved, and while others move and remove them.
#include "learner/fold_in.hpp"

#include <atomic>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "kernels/kernels.hpp"

using namespace recengine;

namespace {

std::mt19937 generator(5);

Settings settings_of(std::size_t dim) {
  Settings settings;
  settings.dim = dim;
  settings.user_model = UserModel::kAls;
  settings.als = {0.2f, 0.05f, 0.5f, 3};
  settings.history = 4;
  return settings;
}

struct Columns {
  std::vector<std::int64_t> ids;
  IdSpan span() const { return {IdKind::kInt, ids.size(), ids.data(), nullptr, nullptr}; }
};

Columns first_ids(std::size_t count) {
  Columns columns;
  for (std::size_t k = 0; k < count; ++k) columns.ids.push_back(static_cast<std::int64_t>(k));
  return columns;
}

std::vector<float> random_vectors(std::size_t count, std::size_t dim) {
  std::normal_distribution<float> normal(0, 0.4f);
  std::vector<float> vectors(count * dim);
  for (float& value : vectors) value = normal(generator);
  return vectors;
}

// The gradient of what the user's vector minimises, which is zero there and nowhere else.
double steepest(const std::vector<float>& x, const std::vector<float>& vectors, std::size_t dim,
                const std::vector<std::size_t>& chosen, const AlsSettings& als) {
  const std::size_t items = vectors.size() / dim;
  std::vector<double> gradient(dim);
  for (std::size_t k = 0; k < dim; ++k) gradient[k] = double{als_ridge(als, chosen.size(), items)} * double{x[k]};
  const auto add = [&](std::size_t item, double weight, double target) {
    double score = 0;
    for (std::size_t k = 0; k < dim; ++k) score += double{x[k]} * double{vectors[item * dim + k]};
    for (std::size_t k = 0; k < dim; ++k) gradient[k] += weight * (score - target) * double{vectors[item * dim + k]};
  };
  for (std::size_t i = 0; i < items; ++i) add(i, double{als.unobserved_weight}, 0);
  for (const std::size_t i : chosen) add(i, 1, 1);
  double largest = 0;
  for (const double slope : gradient) largest = std::max(largest, std::abs(slope));
  return largest;
}

void check_minimum(std::size_t dim) {
  constexpr std::size_t kItems = 300;
  const Settings settings = settings_of(dim);
  Engine engine(settings);
  const Columns ids = first_ids(kItems);
  std::vector<float> vectors = random_vectors(kItems, dim);
  engine.set_items(ids.span(), vectors, nullptr);
  std::vector<std::size_t> chosen;
  const Columns user{{7}};
  for (std::size_t e = 0; e < 40; ++e) {
    chosen.push_back(e * 7 % kItems);
    engine.learn_one({IdKind::kInt, 7, {}}, {IdKind::kInt, static_cast<std::int64_t>(chosen.back()), {}}, 1, 0, 0);
    CHECK(steepest(engine.user_vectors(user.span()), vectors, dim, chosen, settings.als) < 2e-3);
    if (e % 10 == 9) {
      vectors = random_vectors(kItems, dim);
      engine.set_items(ids.span(), vectors, nullptr);
    }
  }
}

// For ThreadSanitizer: queries solve while items move, come and go.
void check_threads() {
  constexpr std::size_t kItems = 200, kDim = 16;
  Settings settings = settings_of(kDim);
  settings.negatives = 4;
  Engine engine(settings);
  const Columns ids = first_ids(kItems);
  engine.set_items(ids.span(), random_vectors(kItems, kDim), nullptr);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::int64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&engine, &stop, t] {
      const Columns history{{1 + t, 5, 9}};
      for (std::int64_t n = 0; !stop.load(); ++n) {
        engine.learn_one({IdKind::kInt, t, {}}, {IdKind::kInt, n % 150, {}}, 1, 1, 0);
        const Rankings own = engine.recommend({IdKind::kInt, t, {}}, {});
        for (const float score : own.scores) CHECK(std::isfinite(score));
        engine.recommend_history(history.span(), {});
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    engine.set_items(ids.span(), random_vectors(kItems, kDim), nullptr);
    engine.remove_items(Columns{{150 + round}}.span());
  }
  stop.store(true);
  for (auto& thread : threads) thread.join();
}

// What is taken out and put back is what it was; users' vectors hold their history then.
void check_tables() {
  Settings settings;
  settings.dim = 5;
  settings.history = 2;
  Engine engine(settings);
  const Columns users{{1, 1, 2, 1}}, items{{10, 11, 10, 10}};
  const EventColumns events{users.span(), items.span()};
  engine.learn_many(events, 1);
  FitTables tables = engine.take_out(events);
  CHECK(tables.user_ids.size() == 2 && tables.item_ids.size() == 2);
  CHECK(tables.pairs.size() == 3 && tables.pairs.weights(0)[0] == 2);
  for (float& value : tables.users) value *= 2;
  const std::vector<float> doubled = [&] {
    std::vector<float> before = engine.user_vectors(Columns{{1, 2}}.span());
    for (float& value : before) value *= 2;
    return before;
  }();
  engine.put_back(tables);
  const std::vector<float> after = engine.user_vectors(Columns{{1, 2}}.span());
  for (std::size_t k = 0; k < after.size(); ++k) CHECK_NEAR(after[k], doubled[k], 1e-5f);
  engine.remove_items(Columns{{11}}.span());
  engine.put_back(tables);
  CHECK(!engine.has_item({IdKind::kInt, 11, {}}));
}

}  // namespace

int main() {
  for (const std::string& name : available_kernels()) {
    select_kernels(name);
    check_minimum(7);
    check_minimum(64);
  }
  select_kernels("");
  check_threads();
  check_tables();
}
