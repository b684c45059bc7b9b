// PythonInterrupt: Ctrl-C (and any signal handler that raises) for native loops that run without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>

#include "storage/interrupt.hpp"

namespace recengine::bindings {

class PythonInterrupt : public Interrupt {
 public:
  // Looks every 20 ms; taking the GIL more often would cost more than the loops do. Once true, the exception is set.
  bool requested() override {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return false;
    next_look_ = now + std::chrono::milliseconds(20);
    const pybind11::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

 private:
  std::chrono::steady_clock::time_point next_look_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
};

}  // namespace recengine::bindings
