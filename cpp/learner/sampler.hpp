// Sampler: draws the negatives of an event.
//
// Thread safety: under a writer pin, from any thread; what is drawn depends on the event's Random and the tables alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "learner/model.hpp"
#include "storage/random.hpp"

namespace recengine {

class Sampler {
 public:
  // In a catalogue with removed rows, or of a user who has seen nearly all of it, a draw is repeated at most this
  // often.
  static constexpr int kAttempts = 32;

  explicit Sampler(const Model& model) : model_(model) {}

  // A live item other than `positive`, uniformly; with `seen`, one that is not in it. kNoRow if none was met.
  Row uniform(Random& random, Row positive, const RowSet* seen) const {
    const Row count = model_.items.count();
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const Row item = random.below(count);
      if (item != positive && model_.items.is_live(item) && !(seen != nullptr && seen->contains(item))) return item;
    }
    return kNoRow;
  }

  // Negatives for the softmax: from the window of recent events with probability `recent_share`, otherwise, or where
  // the window gives the positive or a removed item, uniformly. Writes up to `wanted` items and the weight 1 / (n Q_j)
  // of each; returns how many. (Q_j is taken as if nothing in the window were removed.)
  std::size_t mixed(Random& random, Row positive, std::size_t wanted, float recent_share, Row* items,
                    float* correction) const {
    const std::uint32_t window = model_.recent.size();
    const float share = window > 0 ? recent_share : 0.0f;
    std::size_t count = 0;
    for (std::size_t draw = 0; draw < wanted; ++draw) {
      Row item = kNoRow;
      if (share > 0 && random.uniform() < share) item = model_.recent.at(random.below(window));
      if (item == kNoRow || item == positive || !model_.items.is_live(item)) item = uniform(random, positive, nullptr);
      if (item != kNoRow) items[count++] = item;
    }
    const auto others = static_cast<float>(std::max<std::size_t>(model_.items.size(), 2) - 1);
    const float recent_q = window > 0 ? share / static_cast<float>(window) : 0.0f;
    const float uniform_q = (1 - share + recent_q * static_cast<float>(model_.recent.count(positive))) / others;
    for (std::size_t j = 0; j < count; ++j) {
      const float q = uniform_q + recent_q * static_cast<float>(model_.recent.count(items[j]));
      correction[j] = 1 / (static_cast<float>(count) * q);
    }
    return count;
  }

 private:
  const Model& model_;
};

}  // namespace recengine
