// Interrupt: asked between pieces of long work whether to stop. Whoever calls the engine may supply one (the Python
// bindings answer for Ctrl-C); only the thread that called the engine asks it.
#pragma once

#include <stdexcept>

namespace recengine {

class Interrupt {
 public:
  virtual ~Interrupt() = default;
  virtual bool requested() = 0;  // cheap enough to be asked every few microseconds
};

// Thrown by read-only work that was stopped.
class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

inline void check_interrupt(Interrupt* interrupt) {
  if (interrupt != nullptr && interrupt->requested()) throw Interrupted();
}

}  // namespace recengine
