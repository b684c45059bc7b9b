// Learned numbers that all users share, in an engine's file: the weights of the history and the ranker.
#include <algorithm>
#include <cmath>

#include "engine/sections.hpp"
#include "kernels/relaxed.hpp"

namespace recengine {

void save_context(SnapshotWriter& file, const ContextWeights& context) {
  std::vector<float> values, sums;
  for (const LearnedScalar& scalar : context.scalars()) {
    values.push_back(load_relaxed(&scalar.value));
    sums.push_back(load_relaxed(&scalar.sum));
  }
  add(file, "context", values);
  add(file, "context.sums", sums);
}

void load_context(const SnapshotReader& file, ContextWeights& context) {
  if (!has_sessions(file)) return;
  const std::size_t size = context.scalars().size();
  const auto values = read<float>(file, "context", size);
  const auto sums = read<float>(file, "context.sums", size);
  std::vector<LearnedScalar> scalars;
  for (std::size_t k = 0; k < size; ++k) scalars.push_back({values[k], sums[k]});
  require(std::all_of(scalars.begin(), scalars.end(), ContextWeights::is_valid), "a context weight is out of range");
  context.restore(scalars);
}

namespace {

// Version 3 and before had no demand: what they hold of each of `rows` gets a zero for it.
std::vector<float> read_signals(const SnapshotReader& file, const std::string& name, std::size_t rows,
                                std::size_t width, std::size_t rest = 0) {
  if (file.version() >= 4) {
    const auto values = read<float>(file, name, rows * width + rest);
    return {values.begin(), values.end()};
  }
  const auto old = read<float>(file, name, rows * (width - 1) + rest);
  std::vector<float> values;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto part = old.subspan(row * (width - 1), width - 1);
    values.insert(values.end(), part.begin(), part.begin() + kDemand);
    values.push_back(0);
    values.insert(values.end(), part.begin() + kDemand, part.end());
  }
  values.insert(values.end(), old.end() - static_cast<std::ptrdiff_t>(rest), old.end());
  return values;
}

void save_mixture(const Demand::Weights& mixture, std::vector<float>& values) {
  const auto weights = mixture.weights();
  values.insert(values.end(), weights.begin(), weights.end());
  values.push_back(mixture.rate());
}

void load_mixture(std::span<const float> values, Demand::Weights& mixture) {
  Demand::Weights::Weights weights;
  std::copy_n(values.begin(), weights.size(), weights.begin());
  require(Demand::Weights::is_valid(weights, values[weights.size()]), "a weight of the demand is out of range");
  mixture.restore(weights, values[weights.size()]);
}

constexpr std::size_t kMixtureSize = Trends::kCount + 1;

}  // namespace

void save_demand(SnapshotWriter& file, const Demand& demand, Row items) {
  Numbers<double> trends(file, "ranker.trends");
  for (Row item = 0; item < items; ++item) {
    for (const double level : demand.trends.levels(item)) trends.push(stored_level(level));
  }
  trends.end();
  const Trends::Levels totals = demand.trends.totals();
  add(file, "ranker.totals", std::vector<double>(totals.begin(), totals.end()));
  std::vector<float> mixtures;
  save_mixture(demand.of_all, mixtures);
  save_mixture(demand.of_first, mixtures);
  add(file, "ranker.mixtures", mixtures);
  std::vector<Row> popular;
  for (std::size_t slot = 0; slot < PopularItems::kSize; ++slot) popular.push_back(demand.popular.entry(slot));
  add(file, "ranker.popular", popular);
}

void load_demand_parts(const SnapshotReader& file, Demand& demand, const EmbeddingTable& table) {
  const auto popular = read<Row>(file, "ranker.popular", PopularItems::kSize);
  for (std::size_t slot = 0; slot < popular.size(); ++slot) {
    const Row entry = popular[slot];
    require(entry == 0 || (entry - 1 < table.count() && table.is_live(entry - 1)), "an unknown item is popular");
    demand.popular.restore(slot, entry);
  }
  if (file.version() < 4) return;
  const auto totals = read<double>(file, "ranker.totals", Trends::kCount);
  Trends::Levels levels;
  std::copy(totals.begin(), totals.end(), levels.begin());
  for (const double level : levels) require(!std::isnan(level) && level < INFINITY, "a sum of trends is out of range");
  demand.trends.restore_totals(levels);
  const auto mixtures = read<float>(file, "ranker.mixtures", 2 * kMixtureSize);
  load_mixture(mixtures.first(kMixtureSize), demand.of_all);
  load_mixture(mixtures.subspan(kMixtureSize), demand.of_first);
}

void load_demand(const SnapshotReader& file, Demand& demand, const std::vector<Row>& items,
                 const EmbeddingTable& table) {
  const bool is_old = file.version() < 4;  // fewer half-lives, and no sums
  const std::size_t count = is_old ? kPopularityTrends.size() : Trends::kCount;
  const auto trends = read<double>(file, "ranker.trends", items.size() * count);
  Trends::Levels totals;
  totals.fill(-INFINITY);
  for (std::size_t k = 0; k < items.size(); ++k) {
    Trends::Levels levels;
    levels.fill(-INFINITY);
    for (std::size_t h = 0; h < count; ++h) {
      const double level = trends[k * count + h];
      require(!std::isnan(level) && level < INFINITY, "a trend is out of range");
      levels[is_old ? kPopularityTrends[h] : h] = level;
    }
    demand.trends.restore(items[k], levels);
    if (is_old) active_kernels().log2_add(totals.data(), levels.data(), totals.size(), totals.data());
  }
  if (is_old) demand.trends.restore_totals(totals);
  load_demand_parts(file, demand, table);
}

void save_ranker(SnapshotWriter& file, const Settings& settings, const Ranker& ranker, Row items) {
  if (!ranker.on()) return;
  add<std::uint64_t>(file, "ranker", {static_cast<std::uint64_t>(settings.ranker)});
  std::vector<float> values, sums;
  for (const LearnedScalar& scalar : ranker.weights.scalars()) {
    values.push_back(load_relaxed(&scalar.value));
    sums.push_back(load_relaxed(&scalar.sum));
  }
  add(file, "ranker.weights", values);
  add(file, "ranker.sums", sums);
  if (ranker.network) {
    add(file, "ranker.network", ranker.network->values());
    add(file, "ranker.net_sums", ranker.network->sums());
  }
  std::string text;
  std::vector<std::uint64_t> offsets{0};
  for (const std::string& name : settings.item_features) {
    text += name;
    offsets.push_back(text.size());
  }
  file.add<char>("ranker.names", std::span<const char>(text));
  add(file, "ranker.offsets", offsets);
  Numbers<float> features(file, "ranker.features");
  for (Row item = 0; item < items; ++item) {
    for (std::size_t f = 0; f < ranker.features.count(); ++f) features.push(ranker.features.get(item, f));
  }
  features.end();
}

void load_ranker_weights(const SnapshotReader& file, Ranker& ranker) {
  if (!ranker.on()) return;
  const std::size_t size = ranker.weights.scalars().size();
  const auto values = read_signals(file, "ranker.weights", 2, size / 2);
  const auto sums = read_signals(file, "ranker.sums", 2, size / 2);
  std::vector<LearnedScalar> scalars;
  for (std::size_t k = 0; k < size; ++k) scalars.push_back({values[k], sums[k]});
  require(std::all_of(scalars.begin(), scalars.end(), LinearWeights::is_valid), "a ranker's weight is out of range");
  ranker.weights.restore(scalars);
  if (ranker.network) {
    const std::size_t hidden = Network::kHidden, inputs = ranker.network->num_parameters() / hidden - 1;
    const auto parameters = read_signals(file, "ranker.network", hidden, inputs, hidden);
    const auto squares = read_signals(file, "ranker.net_sums", hidden, inputs, hidden);
    for (const float value : parameters) {
      require(std::abs(value) <= Network::kMostWeight, "a ranker's weight is out of range");
    }
    for (const float sum : squares) require(sum >= 0 && sum <= kMaxAccumulator, "a ranker's sum is out of range");
    ranker.network->restore(parameters, squares);
  }
}

void load_ranker(const SnapshotReader& file, Ranker& ranker, const std::vector<Row>& items) {
  if (!ranker.on()) return;
  load_ranker_weights(file, ranker);
  const std::size_t count = ranker.features.count();
  const auto features = read<float>(file, "ranker.features", items.size() * count);
  for (std::size_t k = 0; k < features.size(); ++k) {
    require(std::abs(features[k]) <= 1e15f, "an item feature is out of range");
    ranker.features.set(items[k / count], k % count, features[k]);
  }
}

}  // namespace recengine
