#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/columns.hpp"
#include "bindings/gil.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "bindings/settings.hpp"
#include "engine/engine.hpp"

namespace recengine::bindings {

namespace {

std::string to_source(py::handle name) {
  if (!PyUnicode_Check(name.ptr())) throw py::type_error(message("source must be a str, not ", shown(name)));
  return py::cast<std::string>(name);
}

void learn_one(Engine& engine, py::handle user, py::handle item, float value, float weight, double timestamp,
               py::handle source, std::int64_t offset) {
  const Id user_id = to_id(user, "user");
  const Id item_id = to_id(item, "item");
  if (!source.is_none()) {
    const std::string name = to_source(source);
    return released(
        [&] { engine.learn_one(user_id, item_id, value, weight, timestamp, SourceSpan{name, {&offset, 1}}); });
  }
  // Released even for a microsecond: a thread that waits for the GIL would otherwise wait for the whole switch
  // interval.
  released([&] { engine.learn_one(user_id, item_id, value, weight, timestamp); });
}

void learn_many(Engine& engine, py::handle users, py::handle items, py::handle values, py::handle timestamps,
                py::handle weights, py::ssize_t threads, py::handle source, py::handle offsets, bool skip_bad) {
  if (threads < 1) throw py::value_error(message("threads must be at least 1, not ", threads));
  const OnBad on_bad = skip_bad ? OnBad::kSkip : OnBad::kRaise;
  const IdColumn user_ids(users, "user", on_bad, engine.user_kind());
  const IdColumn item_ids(items, "item", on_bad, engine.item_kind());
  const std::size_t size = user_ids.span().size;
  const NumberColumn<float> value_column(values, size, "values");
  const NumberColumn<float> weight_column(weights, size, "weights");
  const NumberColumn<double> timestamp_column(timestamps, size, "timestamps");
  const EventColumns events{user_ids.span(),         item_ids.span(), value_column.data(), weight_column.data(),
                            timestamp_column.data(), user_ids.gaps(), item_ids.gaps()};
  const std::string source_name = source.is_none() ? "" : to_source(source);
  const NumberColumn<std::int64_t> offset_column(offsets, size, "offset");
  SourceSpan delivered{source_name, {}};
  if (offset_column.data() != nullptr) delivered.offsets = {offset_column.data(), size};
  const auto wanted = std::min(static_cast<std::size_t>(threads), engine.threads());
  std::size_t applied = 0;
  try {
    released([&] {
      try {
        applied = engine.learn_many(events, wanted, delivered, on_bad);
      } catch (const Interrupted&) {  // before the first event
      }
    });
  } catch (const py::error_already_set& raised) {
    if (!raised.matches(PyExc_KeyboardInterrupt)) throw;
    py::set_error(PyExc_KeyboardInterrupt, message(applied, " of ", size, " events were applied").c_str());
    throw py::error_already_set();
  }
}

// set_users and set_items
template <void (Engine::*Set)(const IdSpan&, std::span<const float>, const float*)>
void set_rows(Engine& engine, py::handle ids, const Floats& vectors, py::handle biases) {
  const IdColumn column(ids, Set == &Engine::set_items ? "item" : "user");
  const std::size_t size = column.span().size;
  const auto dim = static_cast<py::ssize_t>(engine.settings().dim);
  if (vectors.ndim() != 2 || static_cast<std::size_t>(vectors.shape(0)) != size || vectors.shape(1) != dim) {
    throw py::value_error(message("vectors must be of shape (", size, ", ", dim, "), not ", shape_of(vectors)));
  }
  const NumberColumn<float> bias_column(biases, size, "biases");
  const std::span<const float> view(vectors.data(), static_cast<std::size_t>(vectors.size()));
  released([&] { (engine.*Set)(column.span(), view, bias_column.data()); });
}

py::tuple to_factors(const FactorTable& table, std::size_t dim) {
  return py::make_tuple(from_ids(table.ids), to_rows<float>(table.vectors, dim), to_array<float>(table.biases));
}

void set_item_features(Engine& engine, py::handle ids, const Floats& values) {
  const IdColumn column(ids, "item");
  const std::size_t size = column.span().size, features = engine.settings().item_features.size();
  // Without any, the engine says so.
  if (values.ndim() != 2 || static_cast<std::size_t>(values.shape(0)) != size ||
      (features > 0 && static_cast<std::size_t>(values.shape(1)) != features)) {
    throw py::value_error(message("values must be of shape (", size, ", ", features, "), not ", shape_of(values)));
  }
  const std::span<const float> view(values.data(), static_cast<std::size_t>(values.size()));
  released([&] { engine.set_item_features(column.span(), view); });
}

// "always" | "interval" | "os"
SyncMode to_sync(const std::string& name) {
  if (name == "always") return SyncMode::kAlways;
  if (name == "interval") return SyncMode::kInterval;
  if (name == "os") return SyncMode::kOs;
  throw py::value_error(message("sync must be 'always', 'interval' or 'os', not '", name, "'"));
}

template <class Make>
EnginePtr made(Make make) {
  return EnginePtr(released(make).release());
}

// `accept` is called with the settings of a folder that exists, before anything in it changes, and may raise.
EnginePtr open_engine(const std::string& folder, const py::dict& settings, const std::string& sync,
                      std::uint64_t checkpoint_bytes, bool salvage, const py::function& accept) {
  const Settings wanted = to_settings(settings);
  DurabilityOptions options{to_sync(sync), checkpoint_bytes, salvage, {}};
  options.accept = [&accept](const Engine& recovered) {
    const GilAcquire gil;
    py::dict stored = from_settings(recovered.settings());
    stored["learning_rate"] = recovered.learning_rate();
    accept(stored);
  };
  return made([&] { return Engine::open(folder, wanted, options); });
}

}  // namespace

void DeleteEngine::operator()(Engine* engine) const {
  const GilRelease release;
  delete engine;
}

void register_engine(py::module_& module) {
  py::class_<Utf8Column>(module, "Utf8Column")
      .def(py::init<py::array_t<std::uint8_t, py::array::c_style>, py::array_t<std::int64_t, py::array::c_style>>(),
           py::arg("bytes"), py::arg("offsets"))
      .def("__len__", &Utf8Column::size);

  EngineClass engine_class(module, "Engine");
  register_filters(module, engine_class);
  register_queries(engine_class);
  register_explore(module, engine_class);
  register_stats(engine_class);
  engine_class
      .def(py::init([](const py::dict& settings) { return EnginePtr(new Engine(to_settings(settings))); }),
           py::arg("settings"))
      .def("learn_one", &learn_one, py::arg("user"), py::arg("item"), py::arg("value") = 1.0f, py::arg("weight") = 1.0f,
           py::arg("timestamp") = kLatest, py::arg("source") = py::none(), py::arg("offset") = 0)
      .def("learn_many", &learn_many)
      .def("maintain", [](Engine& engine) { return released([&] { return engine.maintain(); }); })
      .def_property("maintenance", &Engine::maintenance, &Engine::set_maintenance)
      .def("set_item_features", &set_item_features)
      .def("user_vectors",
           [](Engine& engine, py::handle users) {
             const IdColumn column(users, "user");
             return to_rows<float>(released([&] { return engine.user_vectors(column.span()); }), engine.settings().dim);
           })
      .def("item_vectors",
           [](Engine& engine, py::handle items) {
             const IdColumn column(items, "item");
             return to_rows<float>(released([&] { return engine.item_vectors(column.span()); }), engine.settings().dim);
           })
      .def("set_users", &set_rows<&Engine::set_users>)
      .def("set_items", &set_rows<&Engine::set_items>)
      .def("remove_users",
           [](Engine& engine, py::handle ids) {
             const IdColumn column(ids, "user");
             released([&] { engine.remove_users(column.span()); });
           })
      .def("remove_items",
           [](Engine& engine, py::handle ids) {
             const IdColumn column(ids, "item");
             released([&] { engine.remove_items(column.span()); });
           })
      .def("user_factors",
           [](Engine& engine) {
             return to_factors(released([&] { return engine.user_factors(); }), engine.settings().dim);
           })
      .def("item_factors",
           [](Engine& engine) {
             return to_factors(released([&] { return engine.item_factors(); }), engine.settings().dim);
           })
      .def("user_ids", [](Engine& engine) { return from_ids(released([&] { return engine.user_ids(); })); })
      .def("item_ids", [](Engine& engine) { return from_ids(released([&] { return engine.item_ids(); })); })
      .def("has_user", [](Engine& engine, py::handle id) { return engine.has_user(to_id(id, "user")); })
      .def("has_item", [](Engine& engine, py::handle id) { return engine.has_item(to_id(id, "item")); })
      .def("num_users", &Engine::num_users)
      .def("num_items", &Engine::num_items)
      .def("save", [](Engine& engine, const std::string& path) { released([&] { engine.save(path); }); })
      .def_static("load", [](const std::string& path) { return made([&] { return Engine::load(path); }); })
      .def_static("load_mapped", [](const std::string& path,
                                    bool verify) { return made([&] { return Engine::load_mapped(path, verify); }); })
      .def("reloaded", [](Engine& engine) { return made([&] { return engine.reloaded(); }); })
      .def("mapped", [](const Engine& engine) { return engine.mapping().has_value(); })
      .def_static("open", &open_engine)
      .def("checkpoint", [](Engine& engine) { released([&] { engine.checkpoint(); }); })
      .def("sync", [](Engine& engine) { released([&] { engine.sync(); }); })
      .def("close", [](Engine& engine) { released([&] { engine.close(); }); })
      .def("durable", &Engine::durable)
      .def("context_weights", [](const Engine& engine) { return to_array<float>(engine.context_weights()); })
      .def("settings", [](const Engine& engine) { return from_settings(engine.settings()); })
      .def_property("learning_rate", &Engine::learning_rate,
                    [](Engine& engine, double rate) { released([&] { engine.set_learning_rate(rate); }); })
      .def_property("threads", &Engine::threads,
                    [](Engine& engine, py::ssize_t threads) {
                      if (threads < 1)
                        throw py::value_error(message("threads must be between 1 and 1024, not ", threads));
                      engine.set_threads(static_cast<std::size_t>(threads));
                    })
      .def_property("global_bias", &Engine::global_bias,
                    [](Engine& engine, double bias) { released([&] { engine.set_global_bias(bias); }); });
}

}  // namespace recengine::bindings
