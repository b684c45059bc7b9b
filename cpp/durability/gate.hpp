// Gate: many pass at once, or one shuts it and waits until nobody is inside. Who waits to shut it comes before those
// who come later, so that neither side starves (a std::shared_mutex alone prefers readers on some systems).
//
// What is logged and then applied in several steps is inside all the while: who shuts the gate finds state and log at
// the same place.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace recengine {

class Gate {
 public:
  using Passage = std::shared_lock<std::shared_mutex>;
  using Closure = std::unique_lock<std::shared_mutex>;

  [[nodiscard]] Passage pass() {
    const std::lock_guard turn(turn_);
    return Passage(inside_);
  }
  [[nodiscard]] Closure close() {
    const std::lock_guard turn(turn_);
    return Closure(inside_);
  }

 private:
  std::mutex turn_;
  std::shared_mutex inside_;
};

}  // namespace recengine
