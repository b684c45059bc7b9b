// Verification: a long check that runs beside what it checks, once, and what it found.
//
// Thread safety: any thread; the destructor stops the check and waits for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

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
  void require_sound() const {
    if (state() == State::kDamaged) [[unlikely]]
      refuse();
  }
  // Until it has ended. Throws as require_sound does, and Interrupted.
  void wait() const;
  std::string damage() const;  // empty unless kDamaged

 private:
  [[noreturn]] void refuse() const;
  void run_beside();

  const Check check_;
  std::atomic<State> state_{State::kRunning};
  std::atomic<bool> stop_{false};
  std::string damage_;  // written before state_ says so
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  std::thread thread_;
};

}  // namespace recengine
