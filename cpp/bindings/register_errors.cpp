#include <cerrno>
#include <exception>
#include <string>
#include <system_error>

#include "bindings/register.hpp"
#include "engine/ids.hpp"
#include "storage/interrupt.hpp"
#include "storage/snapshot.hpp"

namespace recengine::bindings {

namespace py = pybind11;

void register_errors(py::module_& module) {
  // pybind11 itself makes ValueError of invalid_argument, length_error and domain_error, MemoryError of bad_alloc.
  py::register_exception<FormatError>(module, "FormatError", PyExc_ValueError);
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const UnknownId& unknown) {
      py::set_error(PyExc_KeyError, unknown.what());
    } catch (const WrongIdKind& wrong) {
      py::set_error(PyExc_TypeError, wrong.what());
    } catch (const Interrupted& stopped) {
      // The signal handler's exception is set already; of Ctrl-C it is said how far the call had come, if that is
      // known.
      const std::string done = stopped.what();
      if (PyErr_Occurred() != nullptr && (done.empty() || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) == 0)) return;
      PyErr_Clear();
      py::set_error(PyExc_KeyboardInterrupt, done.c_str());
    } catch (const std::system_error& failure) {
      // OSError picks its subclass (FileNotFoundError, ...) by the number.
      PyErr_SetObject(PyExc_OSError, py::make_tuple(failure.code().value(), failure.what()).ptr());
    }
  });
}

}  // namespace recengine::bindings
