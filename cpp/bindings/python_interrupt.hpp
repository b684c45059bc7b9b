// PythonInterrupt: Ctrl-C (and any signal handler that raises) for native loops that run without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>

#include "storage/interrupt.hpp"

namespace recengine::bindings {

class PythonInterrupt : public Interrupt {
 public:
  // Looks every 20 ms, the first time 20 ms after it was first asked: taking the GIL more often would cost more than
  // the loops do, and short calls never look at all. Once true, the exception is set.
  bool requested() override {
    const auto now = Clock::now();
    if (next_look_ == Clock::time_point{}) next_look_ = now + kPause;
    if (now < next_look_) return false;
    next_look_ = now + kPause;
    const pybind11::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPause{20};

  Clock::time_point next_look_{};
};

// Runs without the GIL; the interrupt takes it back when it looks for signals.
template <class Work>
auto released(Work work) {
  PythonInterrupt interrupt;
  const InterruptScope scope(interrupt);
  const pybind11::gil_scoped_release release;
  return work();
}

}  // namespace recengine::bindings
