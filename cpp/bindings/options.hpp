// Options of a query, as every kind of query takes them.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/columns.hpp"
#include "engine/engine.hpp"

namespace recengine::bindings {

// The name of a way, and its limit: the most cells, or ef; 0 where there is none.
using RetrievalChoice = std::pair<std::string, py::ssize_t>;

RetrievalOptions to_retrieval(const std::string& way, py::ssize_t most);

// How many results: any int, those beyond the largest of the machine being as good as that.
struct Count {
  py::ssize_t value;
};

// Options of a query, kept alive while it runs.
class Options {
 public:
  Options(Count k, bool exclude_seen, py::handle exclude, py::handle among, py::handle filter,
          const RetrievalChoice& retrieval, std::vector<float> context = {})
      : context_(std::move(context)) {
    if (k.value < 0) throw py::value_error(message("k must be at least 0, not ", k.value));
    value_.k = static_cast<std::size_t>(k.value);
    value_.context = context_;
    value_.exclude_seen = exclude_seen;
    value_.retrieval = to_retrieval(retrieval.first, retrieval.second);
    if (!exclude.is_none()) value_.exclude = exclude_.emplace(exclude, "item").span();
    if (!among.is_none()) value_.among = among_.emplace(among, "item").span();
    if (!filter.is_none()) value_.filter = &py::cast<const FilterExpression&>(filter);  // the caller's, while it waits
  }
  const QueryOptions& value() const { return value_; }

 private:
  std::optional<IdColumn> exclude_, among_;
  const std::vector<float> context_;
  QueryOptions value_;
};

}  // namespace recengine::bindings

namespace pybind11::detail {

template <>
struct type_caster<recengine::bindings::Count> {
  PYBIND11_TYPE_CASTER(recengine::bindings::Count, const_name("int"));

  bool load(handle source, bool) {
    if (PyBool_Check(source.ptr()) || PyIndex_Check(source.ptr()) == 0) {
      throw type_error("k must be an int, not " + repr(source).cast<std::string>());
    }
    value.value = PyNumber_AsSsize_t(source.ptr(), nullptr);  // null: clipped
    if (PyErr_Occurred() != nullptr) throw error_already_set();
    return true;
  }
};

}  // namespace pybind11::detail
