// Exploration from many threads, and the parts of it that Python does not reach.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "explore/diversity.hpp"
#include "explore/judge.hpp"
#include "explore/linear.hpp"
#include "explore/precisions.hpp"
#include "explore/slate.hpp"

namespace recengine {
namespace {

IdSpan ids_of(const std::vector<std::int64_t>& ids) { return {IdKind::kInt, ids.size(), ids.data(), nullptr, nullptr}; }
Id id_of(std::int64_t number) { return {IdKind::kInt, number, {}}; }

ExploreOptions options_of(PolicyKind kind, double parameter, PrecisionKind precision = PrecisionKind::kDiagonal) {
  ExploreOptions options;
  options.policy = {kind, parameter, precision, 0};
  options.candidates = 50;
  return options;
}

std::vector<ExploreOptions> all_options() {
  std::vector<ExploreOptions> all{options_of(PolicyKind::kGreedy, 0),
                                  options_of(PolicyKind::kRandom, 0),
                                  options_of(PolicyKind::kEpsilonGreedy, 0.2),
                                  options_of(PolicyKind::kSoftmax, 0.5),
                                  options_of(PolicyKind::kSquareCb, 10),
                                  options_of(PolicyKind::kThompson, 1),
                                  options_of(PolicyKind::kThompson, 1, PrecisionKind::kShared),
                                  options_of(PolicyKind::kUcb, 1),
                                  options_of(PolicyKind::kUcb, 1, PrecisionKind::kShared)};
  const std::size_t policies = all.size();
  for (std::size_t p = 0; p < policies; ++p) {
    for (const Diversity diversity : {Diversity{DiversityKind::kMmr, 0.7, 0}, Diversity{DiversityKind::kDpp, 0.7, 0},
                                      Diversity{DiversityKind::kMaxPerGroup, 0, 2}}) {
      all.push_back(all[p]);
      all.back().diversity = diversity;
    }
  }
  return all;
}

// Threads that learn, explore, show, give feedback, put items into groups, remove and add users and items.
void everything_at_once() {
  Settings settings;
  settings.dim = 8;
  settings.negatives = 4;
  Engine engine(settings);
  constexpr std::int64_t kItems = 120, kUsers = 30;
  for (std::int64_t n = 0; n < 600; ++n) engine.learn_one(id_of(n % kUsers), id_of(n * 7 % kItems), 1, 1, kLatest);
  FeedbackSettings feedback;
  feedback.capacity = 64;
  engine.impressions().set_settings(feedback);
  const std::vector<ExploreOptions> all = all_options();
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> joined{0};

  const auto explorer = [&](std::size_t seed) {
    QueryOptions query;
    query.k = 6;
    for (std::size_t n = seed; !stop.load(); ++n) {
      const auto decision = std::make_shared<const Decision>(
          engine.explore(id_of(static_cast<std::int64_t>(n) % kUsers), query, all[n % all.size()]));
      CHECK(decision->slate.size() == decision->log_propensities.size());
      std::vector<std::uint32_t> slate = decision->slate;
      std::sort(slate.begin(), slate.end());
      CHECK(std::adjacent_find(slate.begin(), slate.end()) == slate.end());
      CHECK(slate.empty() || slate.back() < decision->candidates.size());
      if (slate.empty()) continue;
      const std::uint64_t number = engine.impression(decision, kLatest);
      const Id item = id_at(decision->candidates.span(), decision->slate.front());
      try {
        CHECK(engine.feedback(number, item, n % 3 == 0 ? -1.0f : 1.0f, kLatest, true) > 0);
        joined.fetch_add(1);
      } catch (const UnknownId&) {  // others have shown so much meanwhile
      }
      const std::vector<std::int64_t> users{1, 2, 3, static_cast<std::int64_t>(n) % kUsers};
      CHECK(engine.explore_many(ids_of(users), query, all[n % all.size()]).size() == users.size());
    }
  };
  const auto churner = [&] {
    for (std::int64_t n = 0; !stop.load(); ++n) {
      const std::vector<std::int64_t> items{n % kItems, (n + 1) % kItems}, labels{n % 5, n % 3};
      try {
        engine.set_groups(ids_of(items), ids_of(labels));
      } catch (const UnknownId&) {
      }
      const std::vector<std::int64_t> user{n % kUsers}, item{n % kItems};
      try {
        if (n % 4 == 0) engine.remove_users(ids_of(user));
        if (n % 4 == 2) engine.remove_items(ids_of(item));
      } catch (const UnknownId&) {
      }
      engine.learn_one(id_of(user[0]), id_of(item[0]), 1, 1, kLatest);
      CHECK(engine.impressions().copy().size() <= feedback.capacity);
      CHECK(engine.statistics().users <= static_cast<std::size_t>(kUsers));
    }
  };
  std::vector<std::thread> threads;
  for (const std::size_t seed : {0u, 11u, 23u}) threads.emplace_back(explorer, seed);
  threads.emplace_back(churner);
  std::this_thread::sleep_for(std::chrono::milliseconds(check::kSanitized ? 3000 : 1000));
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(joined.load() > 20);
}

// The factor of the shared matrix is one of the covariance.
void the_shared_factor_is_that_of_the_inverse() {
  constexpr std::size_t kStride = 16;
  Precisions precisions(kStride);
  precisions.keep_shared();
  std::vector<double> matrix(kStride * kStride, 0.0);
  AlignedFloats row(kStride, 0.0f);
  for (int n = 0; n < 8; ++n) {
    for (std::size_t d = 0; d < 5; ++d) row[d] = std::sin(static_cast<float>(n * 5 + static_cast<int>(d)));
    precisions.observe(kNoRow, row.data(), 1);
    for (std::size_t i = 0; i < kStride; ++i) {
      for (std::size_t j = 0; j < kStride; ++j) {
        double& entry = matrix[i * kStride + j];
        entry = entry * double{Precisions::kKeptShared} + double{row[i]} * double{row[j]};
      }
    }
  }
  const auto factor = precisions.shared_factor();
  // (I + A) F F^T = I
  for (std::size_t i = 0; i < kStride; ++i) {
    for (std::size_t j = 0; j < kStride; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < kStride; ++k) {
        double covariance = 0;
        for (std::size_t m = 0; m < kStride; ++m) {
          covariance += double{(*factor)[k * kStride + m]} * double{(*factor)[j * kStride + m]};
        }
        sum += (matrix[i * kStride + k] + (i == k ? 1 : 0)) * covariance;
      }
      CHECK_NEAR(sum, i == j ? 1.0 : 0.0, 1e-5);
    }
  }
  CHECK_THROWS(std::invalid_argument, Precisions(512).shared_factor());
}

void a_forgotten_user_starts_anew() {
  Precisions precisions(16);
  const AlignedFloats row(16, 3.0f);
  AlignedFloats deviations(16);
  precisions.observe(7, row.data(), 1);
  precisions.load_deviations(7, deviations.data());
  CHECK_NEAR(deviations[0], 1 / std::sqrt(10.0f), 1e-6f);
  precisions.load_deviations(8, deviations.data());
  CHECK(deviations[0] == 1);
  precisions.forget(7);
  precisions.load_deviations(7, deviations.data());
  CHECK(deviations[0] == 1);
  CHECK(precisions.memory_bytes() == 0);
  precisions.reserve_items(9);
  precisions.wipe_item(5);
  const std::vector<Row> shown{5, 5, 6};
  precisions.observe_items(shown);
  CHECK_NEAR(precisions.bias_deviation(5), 1 / std::sqrt(2.999f), 1e-6f);
  CHECK_NEAR(precisions.bias_deviation(6), 1 / std::sqrt(2.0f), 1e-6f);
  CHECK(precisions.bias_deviation(7) == 1);
  const AlignedFloats huge(16, 1e15f);
  for (int n = 0; n < 10; ++n) precisions.observe(7, huge.data(), 1);
  precisions.load_deviations(7, deviations.data());
  CHECK(deviations[0] > 0 && deviations[0] < 1e-10f);
}

// Both ways of drawing by softmax: by weights, and by Gumbel keys where weights would underflow.
void softmax_is_one_distribution_both_ways() {
  const std::vector<float> scores{1.0f, 0.5f, 0.2f, 0.0f};
  std::vector<float> more = scores;
  more.push_back(-1e4f);  // never drawn, but it makes the range too wide for weights
  const Policy policy{PolicyKind::kSoftmax, 0.5, PrecisionKind::kDiagonal, 0};
  constexpr int kDraws = 40'000;
  std::vector<double> first(scores.size(), 0.0), second(scores.size(), 0.0);
  for (int n = 0; n < kDraws; ++n) {
    const auto seed = static_cast<std::uint64_t>(n);
    const Slate drawn = draw_slate(policy, {scores, {}, 0}, 2, seed), keys = draw_slate(policy, {more, {}, 0}, 2, seed);
    ++first[drawn.places[1]];
    ++second[keys.places[1]];
    const auto expected = log_propensities(policy, {scores, {}, 0}, drawn.places);
    for (std::size_t slot = 0; slot < 2; ++slot) CHECK_NEAR(drawn.log_propensities[slot], expected[slot], 1e-12);
  }
  for (std::size_t i = 0; i < scores.size(); ++i) CHECK_NEAR(first[i] / kDraws, second[i] / kDraws, 0.015);
}

void first_propensities_are_those_of_lists_of_one() {
  const std::vector<float> scores{2.0f, 1.0f, 0.9f, -3.0f};
  for (const ExploreOptions& options : all_options()) {
    if (!options.policy.is_closed()) continue;
    const std::vector<double> shares = first_propensities(options.policy, {scores, {}, 0});
    CHECK_NEAR(std::accumulate(shares.begin(), shares.end(), 0.0), 1.0, 1e-12);
    for (std::uint32_t i = 0; i < scores.size(); ++i) {
      const double log = log_propensities(options.policy, {scores, {}, 0}, std::vector<std::uint32_t>{i})[0];
      CHECK_NEAR(shares[i], std::exp(log), 1e-12);
    }
  }
}

// What a policy makes of lists of all kinds: shares that add up, nothing of what is not there.
void lists_are_judged() {
  Settings settings;
  settings.dim = 8;
  Engine engine(settings);
  std::vector<std::int64_t> known;
  for (std::int64_t n = 0; n < 7; ++n) {
    engine.learn_one(id_of(1), id_of(n), 1, 1, kLatest);
    if (n != 2 && n != 5) known.push_back(n);
  }
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const std::vector<float> scores{0.5f, 2.0f, kNever, 1.0f, 0.5f, kNever, -1.0f};
  const std::vector<std::uint32_t> groups{3, 9, 9, 3, 0, 0, 3};
  const std::vector<double> features(7, 1.0);
  const std::vector<std::int64_t> users{1, 99};
  for (const ExploreOptions& options : all_options()) {
    Policy policy = options.policy;
    policy.samples = 70;
    for (const bool limited : {false, true}) {
      for (const std::vector<std::uint32_t>& slate :
           {std::vector<std::uint32_t>{}, std::vector<std::uint32_t>{4}, std::vector<std::uint32_t>{1, 0, 3},
            std::vector<std::uint32_t>{6, 2, 1, 5, 3, 0, 4}}) {
        ShownList list{scores, {}, 1, features, 1, slate};
        if (limited) list.groups = groups;
        for (const std::int64_t& user : users) {
          Views views;
          if (policy.is_closed()) {
            judge(policy, list, 20, 3, views);
          } else {
            views = engine.judge({IdKind::kInt, 1, &user, nullptr, nullptr}, ids_of(known), list, policy, 20, 3);
          }
          CHECK(views.target.size() == slate.size() && views.marginals.size() == slate.size());
          CHECK(views.expected.size() == slate.size() && views.ahead.size() == slate.size());
          for (std::size_t slot = 0; slot < slate.size(); ++slot) {
            CHECK(views.target[slot] >= 0 && views.target[slot] <= 1 && views.marginals[slot] <= 1 + 1e-12);
            // All features are 1: the sum of the shares. Of the limited ones three may be shown at most.
            CHECK(slot >= (limited ? 3 : 5) || std::abs(views.ahead[slot] - 1) < 1e-12);
            CHECK(views.expected[slot] == 0 || std::abs(views.expected[slot] - 1) < 1e-12);
            const bool is_there = std::isfinite(scores[slate[slot]]);
            CHECK(is_there || (views.target[slot] == 0 && views.marginals[slot] == 0));
          }
          if (!slate.empty()) CHECK_NEAR(views.expected[0], 1.0, 1e-12);
        }
      }
    }
  }
  const std::vector<std::uint32_t> first{0};
  const ShownList list{scores, {}, 0, features, 1, first};
  const Policy ucb{PolicyKind::kUcb, 1, PrecisionKind::kDiagonal, 0};
  CHECK_THROWS(std::invalid_argument, engine.judge({}, ids_of({0, 1}), list, ucb, 1, 1));
  CHECK_THROWS(UnknownId, engine.judge({}, ids_of({0, 1, 3, 4, 44}), list, ucb, 1, 1));
  CHECK(engine.ranking_scores({}, {}, ids_of({0, 44}), {})[1] == kNever);
}

void nothing_to_choose_from() {
  Settings settings;
  settings.dim = 8;
  Engine engine(settings);
  QueryOptions query;
  for (const ExploreOptions& options : all_options()) {
    CHECK(engine.explore(id_of(1), query, options).slate.empty());
    CHECK(engine.explore_history(ids_of({1, 2}), query, options).slate.empty());
  }
  engine.learn_one(id_of(1), id_of(2), 1, 1, kLatest);
  query.k = 0;
  for (const ExploreOptions& options : all_options()) CHECK(engine.explore(id_of(1), query, options).slate.empty());
  query.k = 3;
  for (const ExploreOptions& options : all_options()) CHECK(engine.explore(id_of(1), query, options).slate.size() == 1);
  query.k = kMaxCandidates + 1;
  CHECK_THROWS(std::invalid_argument, engine.explore(id_of(1), query, all_options()[0]));
}

// Whatever a policy may come to: the engine keeps no decision that nobody could read again, and is as it was.
void what_no_reader_takes_is_not_kept() {
  Engine engine((Settings()));
  for (std::int64_t n = 0; n < 60; ++n) engine.learn_one(id_of(n % 5), id_of(n % 20), 1, 1, kLatest);
  QueryOptions query;
  query.k = 3;
  const Decision good = engine.explore(id_of(1), query, options_of(PolicyKind::kSoftmax, 0.5));
  const auto refused = [&](auto change) {
    auto bad = std::make_shared<Decision>(good);
    change(*bad);
    CHECK_THROWS(std::invalid_argument, engine.impression(bad, kLatest));
  };
  refused([](Decision& bad) { bad.scores[1] = INFINITY; });
  refused([](Decision& bad) { bad.scores.pop_back(); });
  refused([](Decision& bad) { bad.slate[0] = bad.slate[1]; });
  refused([](Decision& bad) { bad.slate[0] = 1000; });
  refused([](Decision& bad) { bad.log_propensities[0] = 0.1; });
  refused([](Decision& bad) { bad.log_propensities.pop_back(); });
  refused([](Decision& bad) { bad.errors = {0.1}; });
  refused([](Decision& bad) { bad.context = {NAN}; });
  refused([](Decision& bad) { bad.removed = {3, 2}; });
  refused([](Decision& bad) { bad.policy.parameter = NAN; });
  refused([](Decision& bad) { bad.seed = ~std::uint64_t{0}; });
  CHECK(engine.impressions().copy().empty());
  CHECK(engine.impression(std::make_shared<Decision>(good), kLatest) == 1);
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::the_shared_factor_is_that_of_the_inverse();
  recengine::a_forgotten_user_starts_anew();
  recengine::softmax_is_one_distribution_both_ways();
  recengine::first_propensities_are_those_of_lists_of_one();
  recengine::lists_are_judged();
  recengine::nothing_to_choose_from();
  recengine::what_no_reader_takes_is_not_kept();
  recengine::everything_at_once();
}
