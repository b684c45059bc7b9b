#include "bindings/columns.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace recengine::bindings {

namespace {

std::string text_of(py::handle object) { return py::str(object); }
std::string type_name(py::handle object) { return text_of(py::type::of(object).attr("__name__")); }

[[noreturn]] void refuse_type(py::handle object, const char* what) {
  throw py::type_error(message(what, " ids must be str or int, not ", type_name(object)));
}

std::string_view utf8_of(py::handle text) {
  py::ssize_t length = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &length);
  if (bytes == nullptr) throw py::error_already_set();  // a lone surrogate: UnicodeEncodeError, a ValueError
  return {bytes, static_cast<std::size_t>(length)};
}

std::int64_t int_of(py::handle number, const char* what) {
  if (PyBool_Check(number.ptr()) || !PyIndex_Check(number.ptr())) refuse_type(number, what);
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(number.ptr()));
  if (!index) {
    PyErr_Clear();
    refuse_type(number, what);
  }
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) throw py::value_error(message(what, " id ", text_of(index), " does not fit 64 bits"));
  return value;
}

}  // namespace

std::string shown(py::handle object) { return text_of(py::repr(object)); }
std::string shape_of(const py::array& array) { return text_of(array.attr("shape")); }

Id to_id(py::handle object, const char* what) {
  if (PyUnicode_Check(object.ptr())) return {IdKind::kString, 0, utf8_of(object)};
  return {IdKind::kInt, int_of(object, what), {}};
}

Utf8Column::Utf8Column(py::array_t<std::uint8_t, py::array::c_style> bytes_in,
                       py::array_t<std::int64_t, py::array::c_style> offsets_in)
    : bytes(std::move(bytes_in)), offsets(std::move(offsets_in)) {
  if (bytes.ndim() != 1 || offsets.ndim() != 1 || offsets.size() < 1)
    throw py::value_error("Utf8Column needs two columns, offsets not empty");
  const std::int64_t* first = offsets.data();
  const std::int64_t* last = first + offsets.size();
  if (*first < 0 || !std::is_sorted(first, last) || last[-1] > bytes.size())
    throw py::value_error("Utf8Column: offsets out of order or range");
}

IdColumn::IdColumn(py::handle object, const char* what, OnBad on_bad, IdKind kind) {
  if (py::isinstance<Utf8Column>(object)) {
    const auto& column = py::cast<const Utf8Column&>(object);
    owner_ = py::reinterpret_borrow<py::object>(object);
    // Offsets are not negative: the same bits as unsigned.
    span_ = {IdKind::kString, column.size(), nullptr, reinterpret_cast<const char*>(column.bytes.data()),
             reinterpret_cast<const std::uint64_t*>(column.offsets.data())};
    return;
  }
  if (py::isinstance<py::array>(object)) {
    const auto array = py::reinterpret_borrow<py::array>(object);
    if (array.ndim() != 1)
      throw py::value_error(message(what, " ids must be one-dimensional, not of ", array.ndim(), " dimensions"));
    const char element = array.dtype().kind();
    const bool is_text = element == 'U' || element == 'O' || element == 'T';
    if (on_bad == OnBad::kSkip && (is_text || (element == 'u' && array.itemsize() == 8))) {
      take_any(py::tuple(array.attr("tolist")()), kind, what);
    } else if (element == 'i' || element == 'u') {
      take_integers(array, what);
    } else if (is_text) {
      take_sequence(array.attr("tolist")(), what);
    } else if (array.size() > 0) {  // numpy's empty array is of floats
      throw py::type_error(message(what, " ids must be str or int, not ", text_of(array.dtype())));
    }
    return;
  }
  if (PyUnicode_Check(object.ptr()) || PyBytes_Check(object.ptr())) {
    throw py::type_error(message(what, " ids must be a column of ids, not one ", type_name(object)));
  }
  if (on_bad == OnBad::kSkip && (PyList_Check(object.ptr()) || PyTuple_Check(object.ptr()))) {
    take_any(py::reinterpret_steal<py::object>(PySequence_Tuple(object.ptr())), kind, what);
  } else {
    take_sequence(object, what);
  }
}

// Ids of one kind, and gaps where anything else is.
void IdColumn::take_any(const py::object& tuple, IdKind kind, const char* what) {
  if (!tuple) throw py::error_already_set();
  const auto size = static_cast<std::size_t>(PyTuple_GET_SIZE(tuple.ptr()));
  const auto at = [&tuple](std::size_t k) {
    return py::handle(PyTuple_GET_ITEM(tuple.ptr(), static_cast<py::ssize_t>(k)));
  };
  const auto is_int = [](py::handle id) { return PyIndex_Check(id.ptr()) && !PyBool_Check(id.ptr()); };
  for (std::size_t k = 0; k < size && kind == IdKind::kNone; ++k) {
    if (PyUnicode_Check(at(k).ptr())) kind = IdKind::kString;
    if (is_int(at(k))) kind = IdKind::kInt;
  }
  gaps_.assign(size, 1);
  if (kind == IdKind::kString) {
    offsets_.push_back(0);
  } else {
    ints_.assign(size, 0);
  }
  for (std::size_t k = 0; k < size; ++k) {
    try {
      if (kind == IdKind::kString && PyUnicode_Check(at(k).ptr())) {
        bytes_ += utf8_of(at(k));
        gaps_[k] = 0;
      } else if (kind != IdKind::kString && is_int(at(k))) {
        ints_[k] = int_of(at(k), what);
        gaps_[k] = 0;
      }
    } catch (const py::error_already_set& error) {
      if (!error.matches(PyExc_ValueError)) throw;  // a lone surrogate
    } catch (const py::value_error&) {              // beyond 64 bits
    } catch (const py::type_error&) {               // an array
    }
    if (kind == IdKind::kString) offsets_.push_back(bytes_.size());
  }
  if (std::find(gaps_.begin(), gaps_.end(), 1) == gaps_.end()) gaps_.clear();
  span_ = kind == IdKind::kString ? IdSpan{kind, size, nullptr, bytes_.data(), offsets_.data()}
                                  : IdSpan{size == 0 ? IdKind::kNone : IdKind::kInt, size, ints_.data()};
}

void IdColumn::take_integers(const py::array& array, const char* what) {
  if (array.dtype().kind() == 'u' && array.itemsize() == 8) {
    const auto wide = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>::ensure(array);
    for (py::ssize_t k = 0; k < wide.size(); ++k) {
      if (wide.data()[k] > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        throw py::value_error(message(what, " id ", wide.data()[k], " does not fit 64 bits"));
      }
    }
  }
  const auto ints = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!ints) throw py::error_already_set();
  span_ = {IdKind::kInt, static_cast<std::size_t>(ints.size()), ints.data(), nullptr, nullptr};
  owner_ = ints;
}

void IdColumn::take_sequence(py::handle object, const char* what) {
  // A tuple of its own: a list may change while its elements are asked for their numbers.
  const auto sequence = py::reinterpret_steal<py::object>(PySequence_Tuple(object.ptr()));
  if (!sequence) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
    throw py::type_error(
        message(what, " ids must be a list, tuple, array or data frame column, not ", type_name(object)));
  }
  const auto size = static_cast<std::size_t>(PyTuple_GET_SIZE(sequence.ptr()));
  if (size == 0) return;
  const auto at = [&sequence](std::size_t k) {
    return py::handle(PyTuple_GET_ITEM(sequence.ptr(), static_cast<py::ssize_t>(k)));
  };
  if (PyUnicode_Check(at(0).ptr())) {
    offsets_.reserve(size + 1);
    offsets_.push_back(0);
    for (std::size_t k = 0; k < size; ++k) {
      if (!PyUnicode_Check(at(k).ptr())) {
        throw py::type_error(message(what, " ids must all be str, not ", shown(at(k)), " at position ", k));
      }
      bytes_ += utf8_of(at(k));
      offsets_.push_back(bytes_.size());
    }
    span_ = {IdKind::kString, size, nullptr, bytes_.data(), offsets_.data()};
    return;
  }
  ints_.reserve(size);
  for (std::size_t k = 0; k < size; ++k) {
    if (PyUnicode_Check(at(k).ptr())) {
      throw py::type_error(message(what, " ids must all be int, not ", shown(at(k)), " at position ", k));
    }
    ints_.push_back(int_of(at(k), what));
  }
  span_ = {IdKind::kInt, size, ints_.data(), nullptr, nullptr};
}

py::object from_ids(const IdArray& ids) {
  if (ids.kind != IdKind::kString) {
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(ids.ints.size()), ids.ints.data());
  }
  static const int kObject = py::dtype("O").num();
  py::array objects(py::dtype(kObject), static_cast<py::ssize_t>(ids.size()));
  auto* const slots = static_cast<PyObject**>(objects.mutable_data());
  const IdSpan span = ids.span();
  for (std::size_t k = 0; k < ids.size(); ++k) {
    const std::string_view text = span.string_at(k);
    PyObject* const id = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), nullptr);
    if (id == nullptr) throw py::error_already_set();
    Py_XDECREF(std::exchange(slots[k], id));  // a fresh object array holds None
  }
  return objects;
}

}  // namespace recengine::bindings
