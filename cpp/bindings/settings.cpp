#include "bindings/settings.hpp"

#include "storage/message.hpp"

namespace recengine::bindings {

namespace py = pybind11;

namespace {

std::string shown(py::handle object) { return py::str(py::repr(object)); }

}  // namespace

std::uint64_t to_integer(const py::dict& values, const char* name, std::uint64_t most) {
  const py::object value = values[name];
  const auto index =
      PyBool_Check(value.ptr()) ? py::object() : py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {
    PyErr_Clear();
    throw py::type_error(message(name, " must be an int, not ", shown(value)));
  }
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < 0 || static_cast<std::uint64_t>(number) > most) {
    throw py::value_error(message(name, " must be between 0 and ", most, ", not ", shown(value)));
  }
  return static_cast<std::uint64_t>(number);
}

double to_number(const py::dict& values, const char* name) {
  const py::object value = values[name];
  const double number = PyUnicode_Check(value.ptr()) ? -1 : PyFloat_AsDouble(value.ptr());
  if (PyUnicode_Check(value.ptr()) || PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(message(name, " must be a number, not ", shown(value)));
  }
  return number;
}

std::string to_text(const py::dict& values, const char* name) {
  const py::object value = values[name];
  if (!PyUnicode_Check(value.ptr())) throw py::type_error(message(name, " must be a str, not ", shown(value)));
  return py::cast<std::string>(value);
}

}  // namespace recengine::bindings
