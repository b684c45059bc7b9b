// PythonInterrupt: Ctrl-C (and any signal handler that raises) for native loops that run without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <type_traits>

#include "bindings/gil.hpp"
#include "storage/interrupt.hpp"

namespace recengine::bindings {

class PythonInterrupt : public Interrupt {
 public:
  // Looks every 20 ms, the first time 20 ms after it was first asked: taking the GIL more often would cost more than
  // the loops do, and short calls never look at all. Once true, the exception is set, and it stays true.
  bool requested() override {
    if (raised_) return true;
    const auto now = Clock::now();
    if (next_look_ == Clock::time_point{}) next_look_ = now + kPause;
    if (now < next_look_) return false;
    next_look_ = now + kPause;
    const GilAcquire gil;
    raised_ = PyErr_CheckSignals() != 0;
    return raised_;
  }

  // What a signal handler raised, even if the work has ended all the same. REQUIRES: the GIL.
  void rethrow() const {
    if (raised_ && PyErr_Occurred() != nullptr) throw pybind11::error_already_set();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPause{20};

  Clock::time_point next_look_{};
  bool raised_ = false;
};

// Runs without the GIL; the interrupt takes it back when it looks for signals.
template <class Work>
auto released(Work work) {
  PythonInterrupt interrupt;
  const auto run = [&] {
    const InterruptScope scope(interrupt);
    const GilRelease release;
    return work();
  };
  if constexpr (std::is_void_v<decltype(run())>) {
    run();
    interrupt.rethrow();
  } else {
    auto result = run();
    interrupt.rethrow();
    return result;
  }
}

}  // namespace recengine::bindings
