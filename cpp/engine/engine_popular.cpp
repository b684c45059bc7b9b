// What those are shown of whom nothing is known: what is popular.
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "engine/engine.hpp"
#include "retrieval/flat.hpp"

namespace recengine {

template <class Score, class Function>
std::vector<Scored<Score>> Engine::best_by(Function score, std::size_t k, const Selection& selection,
                                           const Resolved& resolved) const {
  TopK<Score> top(capped(k));
  if (resolved.among) {
    for (const Row row : *resolved.among) {
      if (!model_.items.is_live(row) || !selection.admits(row)) continue;
      alignas(64) std::array<Score, kRowPadding> value;
      score(std::span(&row, 1), top.threshold(), value.data());
      top.push(value[0], row);
    }
  } else {
    scan_scores(model_.items, score, selection, top);
  }
  return top.take_sorted();
}

// Scores: the decayed number of events; where the half-life is learned, how many times as likely as the average item.
std::vector<Scored<float>> Engine::most_popular(std::size_t k, const Selection& selection,
                                                const Resolved& resolved) const {
  if (!model_.demand || settings_.popularity_half_life > 0) {
    const auto level = [this](std::span<const Row> rows, double, double* out) {
      for (std::size_t j = 0; j < rows.size(); ++j) out[j] = model_.popularity.level(rows[j]);
    };
    std::vector<Scored<float>> best;
    for (const auto& [score, row] : best_by<double>(level, k, selection, resolved)) {
      best.push_back({static_cast<float>(model_.popularity.count(score, latest_timestamp())), row});
    }
    return best;
  }
  const std::size_t items = model_.items.size();
  const Demand::Scan likely(*model_.demand, model_.demand->of_first, items);
  std::vector<Scored<float>> best = best_by<float>(likely, k, selection, resolved);
  for (auto& found : best) found.score *= static_cast<float>(items);
  return best;
}

}  // namespace recengine
