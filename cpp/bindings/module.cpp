#include "bindings/register.hpp"

// Every method takes what it needs from Python first and then works without the GIL; nothing here is shared between
// threads but the engines, which are safe. So the module runs in free-threaded interpreters as it is.
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  recengine::bindings::register_errors(module);
  recengine::bindings::register_kernels(module);
  recengine::bindings::register_engine(module);
  recengine::bindings::register_fits(module);
}
