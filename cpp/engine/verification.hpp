// Verification: a long check that runs beside what it checks, once, and what it found.
//
// A forked child, in which the thread is gone, begins again: with the first question that is asked there.
//
// Thread safety: any thread; the destructor stops the check and waits for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "storage/process.hpp"

namespace recengine {

class Verification {
 public:
  enum class State : std::uint8_t { kRunning, kSound, kDamaged };
  // check(stop) returns once all is looked at, or false soon after `stop` is set; throws if something is wrong.
  using Check = std::function<bool(const std::atomic<bool>& stop)>;

  explicit Verification(Check check) : check_(std::move(check)) {}
  ~Verification();
  Verification(const Verification&) = delete;
  Verification& operator=(const Verification&) = delete;

  void run();    // here: throws what the check throws
  void start();  // in a thread; run or start, once

  // Acquire: whoever finds it sound sees what the check did.
  State state() const { return state_.load(std::memory_order_acquire); }
  // Throws FormatError with what was found, if something was.
  void require_sound() {
    const State now = state();
    if (now == State::kSound) [[likely]]
      return;
    if (now == State::kDamaged) refuse();
    if (process_.load(std::memory_order_relaxed) != fork_generation()) begin_again();
  }
  // Until it has ended. Throws as require_sound does, and Interrupted.
  void wait();
  std::string damage() const;  // empty unless kDamaged

 private:
  [[noreturn]] void refuse() const;
  void run_beside();
  void begin_again();

  const Check check_;
  std::atomic<State> state_{State::kRunning};
  std::atomic<bool> stop_{false};
  std::string damage_;  // written before state_ says so
  // Whose thread it is. Relaxed: changed by the one thread of a child that begins again.
  std::atomic<std::uint64_t> process_{fork_generation()};
  std::thread thread_;
};

}  // namespace recengine
