// What each part of the extension module adds to it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

namespace recengine {

class Engine;
struct ExploreOptions;

namespace bindings {

// Without the GIL: a checkpoint that is under way in the background ends first.
struct DeleteEngine {
  void operator()(Engine* engine) const;
};
using EnginePtr = std::unique_ptr<Engine, DeleteEngine>;
using EngineClass = pybind11::class_<Engine, EnginePtr>;

void register_errors(pybind11::module_& module);
void register_engine(pybind11::module_& module);
void register_queries(EngineClass& engine_class);
void register_stats(EngineClass& engine_class);
void register_filters(pybind11::module_& module, EngineClass& engine);
void register_explore(pybind11::module_& module, EngineClass& engine);
void register_judge(pybind11::class_<ExploreOptions>& explore, EngineClass& engine);
void register_fits(pybind11::module_& module);
void register_kernels(pybind11::module_& module);

}  // namespace bindings
}  // namespace recengine
