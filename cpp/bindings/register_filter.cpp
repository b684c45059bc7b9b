#include <pybind11/stl.h>

#include <string>

#include "bindings/columns.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "engine/engine.hpp"

namespace recengine::bindings {

namespace {

std::string to_name(py::handle object) {
  if (!PyUnicode_Check(object.ptr())) {
    throw py::type_error(message("a filter's name must be a str, not ", std::string(py::str(py::repr(object)))));
  }
  return std::string(to_id(object, "filter").text);
}

FilterExpression group(const Id& label) {
  return FilterExpression({FilterOp::kGroup, label.kind, label.number, std::string(label.text)});
}

// Items of any of the groups.
FilterExpression groups(py::handle labels) {
  const IdColumn column(labels, "group");
  const IdSpan& span = column.span();
  if (span.size == 0) throw py::value_error("group needs at least one label");
  FilterExpression any = group(id_at(span, 0));
  for (std::size_t k = 1; k < span.size; ++k) any = any | group(id_at(span, k));
  return any;
}

}  // namespace

void register_filters(py::module_& module, EngineClass& engine) {
  py::class_<FilterExpression>(module, "Filter")
      .def_static(
          "named",
          [](py::handle name) { return FilterExpression({FilterOp::kFilter, IdKind::kString, 0, to_name(name)}); })
      .def_static("groups", &groups)
      .def("__and__", [](const FilterExpression& a, const FilterExpression& b) { return a & b; })
      .def("__or__", [](const FilterExpression& a, const FilterExpression& b) { return a | b; })
      .def("__invert__", [](const FilterExpression& a) { return ~a; });

  engine
      .def("set_filter",
           [](Engine& self, py::handle name, py::handle items) {
             const std::string key = to_name(name);
             const IdColumn column(items, "item");
             released([&] { self.set_filter(key, column.span()); });
           })
      .def("update_filter",
           [](Engine& self, py::handle name, py::handle add, py::handle remove) {
             const std::string key = to_name(name);
             const IdColumn more(add, "item");
             const IdColumn fewer(remove, "item");
             released([&] { self.update_filter(key, more.span(), fewer.span()); });
           })
      .def("remove_filter",
           [](Engine& self, py::handle name) {
             const std::string key = to_name(name);
             released([&] { self.remove_filter(key); });
           })
      .def("set_groups",
           [](Engine& self, py::handle items, py::handle labels) {
             const IdColumn column(items, "item");
             const IdColumn values(labels, "group");
             released([&] { self.set_groups(column.span(), values.span()); });
           })
      .def("check_filter",
           [](Engine& self, const FilterExpression& filter) { released([&] { self.check_filter(filter); }); })
      .def("filter_names", [](Engine& self) { return released([&] { return self.filter_names(); }); });
}

}  // namespace recengine::bindings
