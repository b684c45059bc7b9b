#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "kernels/kernels.hpp"
#include "storage/aligned.hpp"
#include "storage/memory.hpp"

namespace recengine::bindings {

namespace py = pybind11;

namespace {

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

// The rows after their steps, the gradient, and the distances.
py::tuple kernel_step_rows(const Floats& rows, const Floats& x, const Floats& slopes, const Floats& rates, float decay,
                           float clip) {
  if (rows.ndim() != 2 || x.ndim() != 1 || rows.shape(1) != x.size() || slopes.size() != rows.shape(0) ||
      rates.size() != rows.shape(0))
    throw py::value_error("rows must be of shape (n, dim), x (dim,), slopes and rates (n,)");
  const auto count = static_cast<std::size_t>(rows.shape(0)), dim = static_cast<std::size_t>(rows.shape(1));
  const std::size_t stride = padded(dim);
  AlignedFloats moved = padded_rows(rows), gradient(stride, 0.0f);
  std::vector<Slot> slots(count);
  for (std::size_t j = 0; j < count; ++j) slots[j].row = moved.data() + j * stride;
  const RowSteps steps{slots.data(), slopes.data(), rates.data(), count, decay, clip};
  Floats distances(rows.shape(0)), after({rows.shape(0), rows.shape(1)});
  active_kernels().step_rows(steps, padded_rows(x).data(), gradient.data(), stride, distances.mutable_data());
  for (std::size_t j = 0; j < count; ++j) {
    std::copy_n(slots[j].row, dim, after.mutable_data() + j * dim);
  }
  return py::make_tuple(after, first_of(gradient, dim), distances);
}

Floats kernel_softmax_slopes(const Floats& scores, const Floats& weights) {
  if (scores.ndim() != 1 || weights.ndim() != 1 || scores.size() != weights.size() || scores.size() == 0)
    throw py::value_error("scores and weights must be of equal length, at least 1");
  const auto count = static_cast<std::size_t>(scores.size());
  AlignedFloats s(padded(count), scores.data()[0]), w(padded(count), 0.0f);
  std::copy_n(scores.data(), count, s.begin());
  std::copy_n(weights.data(), count, w.begin());
  active_kernels().softmax_slopes(s.data(), w.data(), s.size(), s.data());
  return first_of(s, count);
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
  module.def("kernel_step_rows", &kernel_step_rows, py::arg("rows"), py::arg("x"), py::arg("slopes"), py::arg("rates"),
             py::arg("decay"), py::arg("clip"));
  module.def("kernel_softmax_slopes", &kernel_softmax_slopes, py::arg("scores"), py::arg("weights"));
  module.def("kernel_to_halves", &kernel_to_halves, py::arg("values"), py::arg("key"));
  module.def("kernel_from_halves", &kernel_from_halves, py::arg("bits"));
}

}  // namespace recengine::bindings
