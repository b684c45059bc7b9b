// What each part of the extension module adds to it.
#pragma once

#include <pybind11/pybind11.h>

namespace recengine {

class Engine;
struct ExploreOptions;

namespace bindings {

void register_errors(pybind11::module_& module);
void register_engine(pybind11::module_& module);
void register_filters(pybind11::module_& module, pybind11::class_<Engine>& engine);
void register_explore(pybind11::module_& module, pybind11::class_<Engine>& engine);
void register_judge(pybind11::class_<ExploreOptions>& explore, pybind11::class_<Engine>& engine);
void register_fits(pybind11::module_& module);
void register_kernels(pybind11::module_& module);

}  // namespace bindings
}  // namespace recengine
