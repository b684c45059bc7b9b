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
  Numbers<double> trends(file, "ranker.trends");
  for (Row item = 0; item < items; ++item) {
    for (const double level : ranker.trends.levels(item)) trends.push(stored_level(level));
  }
  trends.end();
  std::vector<Row> popular;
  for (std::size_t slot = 0; slot < PopularItems::kSize; ++slot) popular.push_back(ranker.popular.entry(slot));
  add(file, "ranker.popular", popular);
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

void load_ranker_weights(const SnapshotReader& file, Ranker& ranker, const EmbeddingTable& table) {
  if (!ranker.on()) return;
  const std::size_t size = ranker.weights.scalars().size();
  const auto values = read<float>(file, "ranker.weights", size);
  const auto sums = read<float>(file, "ranker.sums", size);
  std::vector<LearnedScalar> scalars;
  for (std::size_t k = 0; k < size; ++k) scalars.push_back({values[k], sums[k]});
  require(std::all_of(scalars.begin(), scalars.end(), LinearWeights::is_valid), "a ranker's weight is out of range");
  ranker.weights.restore(scalars);
  if (ranker.network) {
    const auto parameters = read<float>(file, "ranker.network", ranker.network->num_parameters());
    const auto squares = read<float>(file, "ranker.net_sums", ranker.network->num_parameters());
    for (const float value : parameters) {
      require(std::abs(value) <= Network::kMostWeight, "a ranker's weight is out of range");
    }
    for (const float sum : squares) require(sum >= 0 && sum <= kMaxAccumulator, "a ranker's sum is out of range");
    ranker.network->restore(parameters, squares);
  }
  const auto popular = read<Row>(file, "ranker.popular", PopularItems::kSize);
  for (std::size_t slot = 0; slot < popular.size(); ++slot) {
    const Row entry = popular[slot];
    require(entry == 0 || (entry - 1 < table.count() && table.is_live(entry - 1)), "an unknown item is popular");
    ranker.popular.restore(slot, entry);
  }
}

void load_ranker(const SnapshotReader& file, Ranker& ranker, const std::vector<Row>& items,
                 const EmbeddingTable& table) {
  if (!ranker.on()) return;
  load_ranker_weights(file, ranker, table);
  const auto trends = read<double>(file, "ranker.trends", items.size() * Trends::kCount);
  for (std::size_t k = 0; k < items.size(); ++k) {
    Trends::Levels levels;
    std::copy_n(trends.begin() + static_cast<std::ptrdiff_t>(k * Trends::kCount), Trends::kCount, levels.begin());
    for (const double level : levels) require(!std::isnan(level) && level < INFINITY, "a trend is out of range");
    ranker.trends.restore(items[k], levels);
  }
  const std::size_t count = ranker.features.count();
  const auto features = read<float>(file, "ranker.features", items.size() * count);
  for (std::size_t k = 0; k < features.size(); ++k) {
    require(std::abs(features[k]) <= 1e15f, "an item feature is out of range");
    ranker.features.set(items[k / count], k % count, features[k]);
  }
}

}  // namespace recengine
