// Upkeep: a thread that works in steps while there is something to do, and rests most of the time.
//
// Thread safety: start from any thread; the destructor stops the work in the middle of a step and waits for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace recengine {

class Upkeep {
 public:
  // step(stop) does some work, returning early once `stop` is set.
  explicit Upkeep(std::function<void(std::atomic<bool>&)> step) : step_(std::move(step)) {}
  ~Upkeep();
  Upkeep(const Upkeep&) = delete;
  Upkeep& operator=(const Upkeep&) = delete;

  void start();  // once; later calls do nothing
  bool running() const { return running_.load(std::memory_order_relaxed); }

 private:
  void run();

  const std::function<void(std::atomic<bool>&)> step_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> running_{false};  // a figure
  std::mutex mutex_;
  std::condition_variable stopping_;
  std::thread thread_;  // GUARDED_BY(mutex_)
};

}  // namespace recengine
