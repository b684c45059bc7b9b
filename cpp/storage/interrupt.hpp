// Interrupt: whether a long call should stop. Whoever calls the engine may install one for the calling thread (the
// Python bindings answer for Ctrl-C); loops that can take more than about 50 ms ask between pieces of work. Threads
// that the engine starts itself have none: they follow the thread that started them.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace recengine {

class Interrupt {
 public:
  virtual ~Interrupt() = default;
  virtual bool requested() = 0;  // cheap enough to be asked every few microseconds
};

// Thrown by work that was stopped; it may say how far it has come.
class Interrupted : public std::runtime_error {
 public:
  explicit Interrupted(const std::string& done = "") : std::runtime_error(done) {}
};

inline thread_local Interrupt* current_interrupt = nullptr;

class InterruptScope {
 public:
  explicit InterruptScope(Interrupt& interrupt) : before_(std::exchange(current_interrupt, &interrupt)) {}
  ~InterruptScope() { current_interrupt = before_; }
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  Interrupt* const before_;
};

// Where stopping half-way is worse than waiting.
class Uninterrupted {
 public:
  Uninterrupted() : before_(std::exchange(current_interrupt, nullptr)) {}
  ~Uninterrupted() { current_interrupt = before_; }
  Uninterrupted(const Uninterrupted&) = delete;
  Uninterrupted& operator=(const Uninterrupted&) = delete;

 private:
  Interrupt* const before_;
};

// What may lie between two looks at the interrupt.
inline constexpr std::size_t kRowsPerCheck = 4096;
inline constexpr std::size_t kEventsPerCheck = 16384;

inline bool interrupt_requested() { return current_interrupt != nullptr && current_interrupt->requested(); }
inline void check_interrupt() {
  if (interrupt_requested()) throw Interrupted();
}

}  // namespace recengine
