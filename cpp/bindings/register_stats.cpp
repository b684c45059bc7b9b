// What an engine says of itself.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <string>

#include "bindings/gil.hpp"
#include "bindings/register.hpp"
#include "engine/engine.hpp"
#include "kernels/kernels.hpp"

namespace recengine::bindings {

namespace py = pybind11;

namespace {

py::dict latency(const LatencyHistogram& histogram) {
  py::dict values;
  values["count"] = histogram.count();
  values["p50"] = histogram.percentile(0.5);
  values["p90"] = histogram.percentile(0.9);
  values["p99"] = histogram.percentile(0.99);
  return values;
}

py::object durability(const Engine& engine) {
  if (!engine.durable()) return py::none();
  const Engine::DurabilityFigures figures = released([&] { return engine.durability(); });
  const auto text = [](const std::string& error) { return error.empty() ? py::object(py::none()) : py::str(error); };
  py::dict values;
  values["next_record"] = figures.next_record;
  values["log_bytes"] = figures.log_bytes;
  values["syncs"] = figures.syncs;
  values["checkpoints"] = figures.checkpoints;
  values["recovered_records"] = figures.recovered_records;
  values["cut_bytes"] = figures.cut_bytes;
  values["log_error"] = text(figures.log_error);
  values["checkpoint_error"] = text(figures.checkpoint_error);
  values["closed"] = figures.closed;
  return values;
}

py::object mapping(const Engine& engine) {
  const std::optional<Engine::MappingFigures> figures = engine.mapping();
  if (!figures) return py::none();
  py::dict values;
  values["path"] = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(figures->path.data(), static_cast<py::ssize_t>(figures->path.size())));
  values["bytes"] = figures->bytes;
  values["verified"] = figures->verified;
  values["damage"] = figures->damage.empty() ? py::object(py::none()) : py::str(figures->damage);
  return values;
}

py::dict statistics(Engine& engine) {
  const Statistics figures = released([&] { return engine.statistics(); });
  py::dict memory;
  memory["users"] = figures.user_bytes;
  memory["items"] = figures.item_bytes;
  memory["index"] = figures.index_bytes;
  memory["neighbors"] = figures.neighbor_bytes;
  py::dict values;
  values["users"] = figures.users;
  values["items"] = figures.items;
  values["events"] = figures.events;
  values["queries"] = figures.queries;
  values["ignored_ids"] = figures.ignored_ids;
  py::dict bad_events;
  for (std::size_t reason = 1; reason < kBadEventNames.size(); ++reason) {
    bad_events[py::str(kBadEventNames[reason])] = figures.bad_events[reason];
  }
  values["bad_events"] = bad_events;
  values["over_budget"] = figures.over_budget;
  values["latest_timestamp"] =
      std::isnan(figures.latest_timestamp) ? py::object(py::none()) : py::object(py::float_(figures.latest_timestamp));
  values["learn_us"] = latency(engine.learn_latency());
  values["query_us"] = latency(engine.query_latency());
  values["memory_bytes"] = memory;
  values["kernels"] = active_kernels().name;
  values["threads"] = engine.threads();
  values["cells"] = figures.clusters;
  values["recall_samples"] = figures.recall_samples;
  values["sampled_recall"] =
      std::isnan(figures.sampled_recall) ? py::object(py::none()) : py::object(py::float_(figures.sampled_recall));
  py::dict sources;
  for (const auto& [name, offset] : engine.sources()) sources[py::str(name)] = offset;
  values["sources"] = sources;
  values["durability"] = durability(engine);
  values["mapping"] = mapping(engine);
  return values;
}

}  // namespace

void register_stats(EngineClass& engine_class) { engine_class.def("stats", &statistics); }

}  // namespace recengine::bindings
