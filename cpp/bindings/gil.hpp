// The GIL, given back and taken again.
//
// Python ends a thread that wants the GIL once the interpreter is going away (pthread_exit), in the middle of whatever
// called it. On glibc that unwinds the stack like an exception, through destructors that must not throw, which aborts
// the process. So a thread that is ended here stays where it is instead, until the process is gone: it is a daemon, and
// nobody waits for it.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace recengine::bindings {

// Calls what takes the GIL.
template <class Take>
auto or_park(Take take) noexcept {
  try {
    return take();
  } catch (...) {  // nothing of Python's throws: this is the end of the thread
    for (;;) pause();
  }
}

class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    or_park([this] { PyEval_RestoreThread(state_); });
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* const state_;
};

// REQUIRES: a GilRelease of this thread.
class GilAcquire {
 public:
  GilAcquire() : state_(or_park([] { return PyGILState_Ensure(); })) {}
  ~GilAcquire() { PyGILState_Release(state_); }
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;

 private:
  const PyGILState_STATE state_;
};

}  // namespace recengine::bindings
