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

  // Negatives for the softmax: a share from the window of recent events, the others, and those for which the window
  // gives the positive or a removed item, uniformly. Writes up to `wanted` items and the weight 1 / (n Q_j) of each,
  // Q_j the mixture of both (as if nothing in the window were removed); returns how many. The share is drawn as a
  // whole: a number of draws from each, and not each draw's origin, is random only where it is not a whole number. That
  // leaves the estimate unbiased and less noisy (the balance heuristic; Veach and Guibas 1995).
  std::size_t mixed(Random& random, Row positive, std::size_t wanted, float recent_share, Row* items,
                    float* correction) const {
    const std::uint32_t window = model_.recent.size();
    const float share = window > 0 ? recent_share : 0.0f;
    const auto recent =
        std::min(static_cast<std::size_t>(share * static_cast<float>(wanted) + random.uniform()), wanted);
    const std::size_t live = model_.items.size();  // before the rows are counted: if as many, all of these are live
    const Row rows = model_.items.count();
    const bool has_gaps = live != rows;
    std::size_t count = 0;
    for (std::size_t draw = 0; draw < wanted; ++draw) {
      Row item = draw < recent ? model_.recent.at(random.below(window)) : random.below(rows);
      if (item == positive || item == kNoRow || (has_gaps && !model_.items.is_live(item))) [[unlikely]] {
        item = uniform(random, positive, nullptr);
        if (item == kNoRow) continue;
      }
      items[count++] = item;
    }
    const auto others = static_cast<float>(std::max<std::size_t>(live, 2) - 1);
    const float recent_q = window > 0 ? share / static_cast<float>(window) : 0.0f;
    const float uniform_q = (1 - share + recent_q * static_cast<float>(model_.recent.count(positive))) / others;
    const auto drawn = static_cast<float>(count);
    for (std::size_t j = 0; j < count; ++j) {
      const float q = uniform_q + recent_q * static_cast<float>(model_.recent.count(items[j]));
      correction[j] = 1 / (drawn * q);
    }
    return count;
  }

 private:
  const Model& model_;
};

}  // namespace recengine
