// Signals: what a ranker knows of a candidate, one number each, named. docs/ranker.md has the formulas.
//
// To add one: a line here, another in the table of names, and the code that fills its row of the SignalMatrix. Weights,
// learning, files and what Python shows follow the table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace recengine {

enum Signal : std::uint32_t {
  kScoreSignal,
  // Co-occurrence with the last item, and with the last kSources, each counting kSourceDecay of the one after it.
  kAfterLast,
  kBeforeLast,
  kAfterRecent,
  kBeforeRecent,
  // By half-lives, as kPopularityTrends says.
  kPopularity1,
  kPopularity7,
  kPopularity30,
  kPopularityAll,
  // Of the user's own items. In the session that goes on:
  kInSession,
  kSessionPlace,
  // and chosen before it:
  kOwned,
  kOwnedTimes,
  kOwnedDays,
  kOwnedPlaces,
  // What the item's share of the latest choices predicts.
  kDemand,
  kSignals
};

inline constexpr std::array<const char*, kSignals> kSignalNames{
    "score",         "after_last",     "before_last",    "after_recent", "before_recent", "popularity_1d",
    "popularity_7d", "popularity_30d", "popularity_all", "in_session",   "session_place", "owned",
    "owned_times",   "owned_days",     "owned_places",   "demand"};

// Which half-lives of Trends.
inline constexpr std::array<std::size_t, 4> kPopularityTrends{3, 5, 6, 7};

inline constexpr std::uint32_t kOwnSignals = kDemand - kInSession;
inline constexpr std::uint32_t kNeighborSignals = kPopularity1 - kAfterLast;

// The names of item features must not be those of signals. Throws std::invalid_argument.
void check_feature_names(std::span<const std::string> names);

}  // namespace recengine
