// Arrays of numbers, to and from numpy.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstddef>

namespace recengine::bindings {

using Floats = pybind11::array_t<float, pybind11::array::c_style | pybind11::array::forcecast>;

template <class To, class Values>
pybind11::array_t<To> to_array(const Values& values) {
  pybind11::array_t<To> out(static_cast<pybind11::ssize_t>(values.size()));
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

template <class To, class Values>
pybind11::array_t<To> to_rows(const Values& values, std::size_t width) {
  pybind11::array_t<To> out({width == 0 ? 0 : values.size() / width, width});
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

}  // namespace recengine::bindings
