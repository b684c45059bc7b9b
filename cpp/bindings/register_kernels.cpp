#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>

#include "bindings/register.hpp"
#include "kernels/kernels.hpp"
#include "storage/aligned.hpp"
#include "storage/memory.hpp"

namespace recengine::bindings {

namespace py = pybind11;

namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::size_t padded(std::size_t dim) { return (dim + kRowPadding - 1) / kRowPadding * kRowPadding; }

// The rows of an array as kernels want them: aligned and padded.
AlignedFloats padded_rows(const Floats& array) {
  const auto dim = static_cast<std::size_t>(array.shape(array.ndim() - 1));
  const auto rows = static_cast<std::size_t>(array.size()) / std::max<std::size_t>(dim, 1);
  AlignedFloats out(std::max<std::size_t>(rows * padded(dim), kRowPadding), 0.0f);
  for (std::size_t r = 0; r < rows; ++r) std::copy_n(array.data() + r * dim, dim, out.data() + r * padded(dim));
  return out;
}

Floats first_of(const AlignedFloats& padded_row, std::size_t dim) {
  return Floats(static_cast<py::ssize_t>(dim), padded_row.data());
}

// (q, d), (n, d), (n,) or None -> (q, n): `scan` for a single query, `scan_many` for several.
Floats kernel_scan(const Floats& queries, const Floats& rows, const std::optional<Floats>& bias) {
  if (queries.ndim() != 2 || rows.ndim() != 2 || queries.shape(1) != rows.shape(1))
    throw py::value_error("queries and rows must be of shape (q, d) and (n, d)");
  if (bias && (bias->ndim() != 1 || bias->shape(0) != rows.shape(0)))
    throw py::value_error("bias must be of shape (n,)");
  const auto dim = static_cast<std::size_t>(rows.shape(1));
  const auto q = static_cast<std::size_t>(queries.shape(0));
  const auto n = static_cast<std::size_t>(rows.shape(0));
  const AlignedFloats padded_queries = padded_rows(queries);
  const AlignedFloats table = padded_rows(rows);
  Floats out({queries.shape(0), rows.shape(0)});
  const float* const b = bias ? bias->data() : nullptr;
  if (q == 1) {
    active_kernels().scan(padded_queries.data(), table.data(), b, n, padded(dim), out.mutable_data());
  } else {
    active_kernels().scan_many(padded_queries.data(), q, table.data(), b, n, padded(dim), out.mutable_data(), n);
  }
  return out;
}

py::tuple kernel_step_candidate(const Floats& row, const Floats& x, float slope, float rate, float l2, float clip) {
  if (row.ndim() != 1 || x.ndim() != 1 || row.size() != x.size())
    throw py::value_error("row and x must be of equal length");
  const auto dim = static_cast<std::size_t>(row.size());
  AlignedFloats moved = padded_rows(row);
  AlignedFloats gradient(moved.size(), 0.0f);
  active_kernels().step_candidate(moved.data(), padded_rows(x).data(), gradient.data(), slope, rate, l2, clip,
                                  padded(dim));
  return py::make_tuple(first_of(moved, dim), first_of(gradient, dim));
}

Floats kernel_step_row(const Floats& row, const Floats& gradient, float scale, float rate, float l2, float clip) {
  if (row.ndim() != 1 || gradient.ndim() != 1 || row.size() != gradient.size())
    throw py::value_error("row and gradient must be of equal length");
  const auto dim = static_cast<std::size_t>(row.size());
  AlignedFloats moved = padded_rows(row);
  active_kernels().step_row(moved.data(), padded_rows(gradient).data(), scale, rate, l2, clip, padded(dim));
  return first_of(moved, dim);
}

// float32 (n,) -> the bits of halves, uint16 (n,): to the nearest, or at random if there is a key.
py::array_t<std::uint16_t> kernel_to_halves(const Floats& values, std::optional<std::uint32_t> key) {
  if (values.ndim() != 1) throw py::value_error("values must be of shape (n,)");
  const AlignedFloats x = padded_rows(values);
  AlignedVector<Half> halves(x.size());
  if (key) {
    active_kernels().store_stochastic(halves.data(), x.data(), x.size(), *key);
  } else {
    active_kernels().halves.store(halves.data(), x.data(), x.size());
  }
  py::array_t<std::uint16_t> out(values.size());
  std::transform(halves.begin(), halves.begin() + values.size(), out.mutable_data(),
                 [](Half half) { return static_cast<std::uint16_t>(half); });
  return out;
}

// And back.
Floats kernel_from_halves(const py::array_t<std::uint16_t, py::array::c_style>& bits) {
  if (bits.ndim() != 1) throw py::value_error("bits must be of shape (n,)");
  const auto size = static_cast<std::size_t>(bits.size());
  AlignedVector<Half> halves(std::max(padded(size), kRowPadding), Half{});
  std::transform(bits.data(), bits.data() + size, halves.begin(), [](std::uint16_t half) { return Half{half}; });
  AlignedFloats x(halves.size());
  active_kernels().halves.load(x.data(), halves.data(), x.size());
  return first_of(x, size);
}

}  // namespace

void register_kernels(py::module_& module) {
  module.def("available_kernels", &available_kernels);
  module.def("active_kernels", [] { return std::string(active_kernels().name); });
  module.def("select_kernels", [](const std::string& name) { select_kernels(name); }, py::arg("name"));
  module.def("huge_pages_mode", &huge_pages_mode);
  // For tests: the kernels on plain arrays.
  module.def("kernel_scan", &kernel_scan, py::arg("queries"), py::arg("rows"), py::arg("bias"));
  module.def("kernel_step_candidate", &kernel_step_candidate, py::arg("row"), py::arg("x"), py::arg("slope"),
             py::arg("rate"), py::arg("l2"), py::arg("clip"));
  module.def("kernel_step_row", &kernel_step_row, py::arg("row"), py::arg("gradient"), py::arg("scale"),
             py::arg("rate"), py::arg("l2"), py::arg("clip"));
  module.def("kernel_to_halves", &kernel_to_halves, py::arg("values"), py::arg("key"));
  module.def("kernel_from_halves", &kernel_from_halves, py::arg("bits"));
}

}  // namespace recengine::bindings
