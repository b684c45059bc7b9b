// Settings as Python hands them over: a dict, of which each value is checked for its type and range.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "learner/settings.hpp"

namespace recengine::bindings {

// Throw TypeError, or ValueError outside [0, most].
std::uint64_t to_integer(const pybind11::dict& values, const char* name, std::uint64_t most);
double to_number(const pybind11::dict& values, const char* name);
std::string to_text(const pybind11::dict& values, const char* name);

Settings to_settings(const pybind11::dict& values);
pybind11::dict from_settings(const Settings& settings);

}  // namespace recengine::bindings
