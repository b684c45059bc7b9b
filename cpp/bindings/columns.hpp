// From Python's columns to the engine's: ids and numbers, without a Python loop per element, without a copy where none
// is needed.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/event_check.hpp"
#include "engine/ids.hpp"
#include "storage/message.hpp"

namespace recengine::bindings {

namespace py = pybind11;

// One id, borrowed from a Python str or int that outlives it. Throws TypeError for anything else (bool and float
// included).
Id to_id(py::handle object, const char* what);

// Strings as Arrow lays them out: offsets (n + 1) into UTF-8 bytes. Made in Python from Arrow columns.
struct Utf8Column {
  Utf8Column(py::array_t<std::uint8_t, py::array::c_style> bytes,
             py::array_t<std::int64_t, py::array::c_style> offsets);

  py::array_t<std::uint8_t, py::array::c_style> bytes;
  py::array_t<std::int64_t, py::array::c_style> offsets;
  std::size_t size() const { return static_cast<std::size_t>(offsets.size()) - 1; }
};

// A column of ids: a list or tuple of str or of int, an integer or string array, or a Utf8Column.
//
// Where places without an id may be skipped, a column may hold anything; its kind is `kind`, or if that is none, that
// of its first id.
class IdColumn {
 public:
  IdColumn(py::handle object, const char* what, OnBad on_bad = OnBad::kRaise, IdKind kind = IdKind::kNone);
  const IdSpan& span() const { return span_; }
  // Not 0 where there is no id of that kind; null: there is no such place.
  const std::uint8_t* gaps() const { return gaps_.empty() ? nullptr : gaps_.data(); }

 private:
  void take_any(const py::object& tuple, IdKind kind, const char* what);
  void take_integers(const py::array& array, const char* what);
  void take_sequence(py::handle object, const char* what);

  py::object owner_;
  std::vector<std::int64_t> ints_;
  std::string bytes_;
  std::vector<std::uint64_t> offsets_;
  std::vector<std::uint8_t> gaps_;
  IdSpan span_;
};

// "(3, 64)"
std::string shown(py::handle object);  // its repr
std::string shape_of(const py::array& array);

// A column of numbers as a contiguous array of T and of the given length; nothing for None.
template <class T>
class NumberColumn {
 public:
  NumberColumn(py::handle object, std::size_t length, const char* what) {
    if (object.is_none()) return;
    const py::array given = py::array::ensure(object);
    // Texts, dates and the like are refused, though numpy would cast them.
    if (given && std::string_view("fiubO").find(given.dtype().kind()) != std::string_view::npos)
      array_ = Array::ensure(given);
    if (!array_ || !*array_) {
      PyErr_Clear();
      throw py::type_error(message(what, " must be numbers"));
    }
    if (array_->ndim() != 1 || static_cast<std::size_t>(array_->size()) != length) {
      throw py::value_error(
          message(what, " must be a column of length ", length, ", not of shape ", shape_of(*array_)));
    }
  }

  const T* data() const { return array_ ? array_->data() : nullptr; }

 private:
  using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

  std::optional<Array> array_;
};

// An array of ids as numpy has them: int64, or objects that are str.
py::object from_ids(const IdArray& ids);

}  // namespace recengine::bindings
