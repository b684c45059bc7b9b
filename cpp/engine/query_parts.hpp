// What the sources of queries share.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "engine/latency.hpp"
#include "learner/model.hpp"

namespace recengine {

// A known user is scored by its vector; nobody, without a history, gets what is popular.
inline bool is_nobody(Row user, const QueryVector& query) { return user == kNoRow && query.history.empty(); }

// What a policy goes by where popularity ranks: on the scale of logits, so that a softmax draws items in proportion to
// one more than their counts. Counts themselves would leave a temperature nothing to decide.
inline float popularity_score(float count) { return std::log1p(count); }

inline void sort_unique(std::vector<Row>& rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

// The rows that are excluded or scored by themselves, sorted.
inline std::vector<Row> with_repeated(const QueryVector& query, const std::vector<Row>& excluded) {
  std::vector<Row> rows = excluded;
  rows.insert(rows.end(), query.repeated.begin(), query.repeated.end());
  sort_unique(rows);
  return rows;
}

// Sets `us` to the microseconds from construction to destruction.
class Timer {
 public:
  explicit Timer(double& us) : us_(us) {}
  ~Timer() { us_ = std::chrono::duration<double, std::micro>(LatencyHistogram::Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  double& us_;
  const LatencyHistogram::Clock::time_point start_ = LatencyHistogram::Clock::now();
};

}  // namespace recengine
