#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "bindings/columns.hpp"
#include "bindings/gil.hpp"
#include "bindings/options.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "bindings/settings.hpp"
#include "engine/engine.hpp"
#include "kernels/kernels.hpp"

namespace recengine::bindings {

namespace {

using Vectors = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::string shown(py::handle object) { return py::str(py::repr(object)); }

Settings to_settings(const py::dict& values) {
  Settings settings;
  const auto integer = [&values](const char* name, std::uint64_t most) { return to_integer(values, name, most); };
  const auto number = [&values](const char* name) { return static_cast<float>(to_number(values, name)); };
  settings.dim = integer("dim", kMaxDim);
  settings.objective = parse_objective(to_text(values, "objective"));
  settings.optimizer = parse_optimizer(to_text(values, "optimizer"));
  settings.seed = integer("seed", std::numeric_limits<std::int64_t>::max());
  settings.learning_rate = number("learning_rate");
  settings.learning_rate_decay = number("learning_rate_decay");
  settings.l2 = number("l2");
  settings.max_step = number("max_step");
  settings.init_scale = number("init_scale");
  settings.negatives = static_cast<std::uint32_t>(integer("negatives", kMaxNegatives));
  settings.recent_share = number("recent_share");
  settings.history = static_cast<std::uint32_t>(integer("history", kMaxHistory));
  settings.history_decay = number("history_decay");
  settings.session_gap = to_number(values, "session_gap");
  if (!values["popularity_half_life"].is_none()) {
    settings.popularity_half_life = to_number(values, "popularity_half_life");
    if (settings.popularity_half_life == 0)
      throw py::value_error("popularity_half_life must be at least 0.001 seconds, not 0");
  }
  settings.storage = parse_storage(to_text(values, "storage"));
  settings.neighbors = static_cast<std::uint32_t>(integer("neighbors", kMaxNeighbors));
  settings.neighbors_window = static_cast<std::uint32_t>(integer("neighbors_window", kMaxNeighborsWindow));
  settings.neighbors_half_life = to_number(values, "neighbors_half_life");
  settings.ranker = parse_ranker(to_text(values, "ranker"));
  settings.item_features = py::cast<std::vector<std::string>>(values["item_features"]);
  settings.limits.max_users = integer("max_users", kMaxCapacity);
  settings.limits.max_items = integer("max_items", kMaxCapacity);
  settings.limits.evict = parse_eviction(to_text(values, "evict"));
  settings.limits.user_budget = to_number(values, "user_budget");
  settings.limits.max_weight = to_number(values, "max_weight");
  settings.limits.max_value = to_number(values, "max_value");
  settings.limits.max_ahead = to_number(values, "max_ahead");
  settings.user_model = parse_user_model(to_text(values, "user_model"));
  settings.als.unobserved_weight = number("als_unobserved_weight");
  settings.als.l2 = number("als_l2");
  settings.als.l2_exponent = number("als_l2_exponent");
  return settings;
}

py::dict from_settings(const Settings& settings) {
  py::dict values;
  values["dim"] = settings.dim;
  values["objective"] = name_of(settings.objective);
  values["optimizer"] = name_of(settings.optimizer);
  values["seed"] = settings.seed;
  values["learning_rate"] = settings.learning_rate;
  values["learning_rate_decay"] = settings.learning_rate_decay;
  values["l2"] = settings.l2;
  values["max_step"] = settings.max_step;
  values["init_scale"] = settings.init_scale;
  values["negatives"] = settings.negatives;
  values["recent_share"] = settings.recent_share;
  values["history"] = settings.history;
  values["history_decay"] = settings.history_decay;
  values["session_gap"] = settings.session_gap;
  values["popularity_half_life"] =
      settings.popularity_half_life == 0 ? py::object(py::none()) : py::float_(settings.popularity_half_life);
  values["storage"] = name_of(settings.storage);
  values["neighbors"] = settings.neighbors;
  values["neighbors_window"] = settings.neighbors_window;
  values["neighbors_half_life"] = settings.neighbors_half_life;
  values["ranker"] = name_of(settings.ranker);
  values["item_features"] = settings.item_features;
  values["max_users"] = settings.limits.max_users;
  values["max_items"] = settings.limits.max_items;
  values["evict"] = name_of(settings.limits.evict);
  values["user_budget"] = settings.limits.user_budget;
  values["max_weight"] = settings.limits.max_weight;
  values["max_value"] = settings.limits.max_value;
  values["max_ahead"] = settings.limits.max_ahead;
  values["user_model"] = name_of(settings.user_model);
  values["als_unobserved_weight"] = settings.als.unobserved_weight;
  values["als_l2"] = settings.als.l2;
  values["als_l2_exponent"] = settings.als.l2_exponent;
  return values;
}

py::array_t<float> to_array(const std::vector<float>& values) {
  return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

Vectors to_matrix(const std::vector<float>& values, std::size_t dim) {
  const auto columns = static_cast<py::ssize_t>(dim);
  return Vectors({static_cast<py::ssize_t>(values.size()) / columns, columns}, values.data());
}

py::tuple to_ranking(const Rankings& rankings) {
  return py::make_tuple(from_ids(rankings.ids), to_array(rankings.scores), rankings.certified);
}

py::array_t<std::int64_t> to_counts(const std::vector<std::size_t>& counts) {
  py::array_t<std::int64_t> out(static_cast<py::ssize_t>(counts.size()));
  std::copy(counts.begin(), counts.end(), out.mutable_data());
  return out;
}

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

py::tuple recommend(Engine& engine, py::handle user, Count k, bool exclude_seen, py::handle exclude, py::handle among,
                    py::handle filter, const RetrievalChoice& retrieval, std::vector<float> context) {
  const Id id = to_id(user, "user");
  const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
  return to_ranking(released([&] { return engine.recommend(id, options.value()); }));
}

py::tuple recommend_history(Engine& engine, py::handle history, Count k, bool exclude_seen, py::handle exclude,
                            py::handle among, py::handle filter, const RetrievalChoice& retrieval,
                            std::vector<float> context) {
  const IdColumn items(history, "item");
  const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
  return to_ranking(released([&] { return engine.recommend_history(items.span(), options.value()); }));
}

py::tuple recommend_many(Engine& engine, py::handle users, Count k, bool exclude_seen, py::handle exclude,
                         py::handle among, py::handle filter, const RetrievalChoice& retrieval,
                         std::vector<float> context) {
  const IdColumn ids(users, "user");
  const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
  const Rankings rankings = released([&] { return engine.recommend_many(ids.span(), options.value()); });
  return py::make_tuple(from_ids(rankings.ids), to_array(rankings.scores), to_counts(rankings.counts),
                        rankings.certified);
}

py::dict plan(Engine& engine, py::handle user, Count k, bool exclude_seen, py::handle exclude, py::handle among,
              py::handle filter, const RetrievalChoice& retrieval, std::vector<float> context) {
  const Id id = to_id(user, "user");
  const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
  const Plan made = released([&] { return engine.plan(id, options.value()); });
  const SearchReport& search = made.retrieval.search;
  py::dict values;
  values["retrieval"] = name_of(made.retrieval.way);
  values["certified"] = search.certified;
  values["cells"] = search.cells;
  values["cells_visited"] = search.visited;
  values["rows_screened"] = search.screened;
  values["rows_scored"] = search.scored;
  values["rows_pending"] = search.pending;
  values["compose_us"] = made.compose_us;
  values["retrieve_us"] = made.retrieve_us;
  values["rank_us"] = made.rank_us;
  py::dict candidates;
  candidates["retrieved"] = made.candidates.retrieved;
  candidates["own"] = made.candidates.own;
  candidates["neighbors"] = made.candidates.neighbors;
  candidates["popular"] = made.candidates.popular;
  values["candidates"] = candidates;
  return values;
}

py::tuple search(Engine& engine, const Vectors& vector, bool cosine, Count k, py::handle exclude, py::handle among,
                 py::handle filter, const RetrievalChoice& retrieval) {
  if (vector.ndim() != 1)
    throw py::value_error(message("vector must be one-dimensional, not of shape ", shape_of(vector)));
  const Options options(k, false, exclude, among, filter, retrieval);
  const std::span<const float> view(vector.data(), static_cast<std::size_t>(vector.size()));
  return to_ranking(released([&] { return engine.search(view, cosine, options.value()); }));
}

// similar_items and similar_by_behaviour
template <Rankings (Engine::*Find)(const Id&, const QueryOptions&)>
py::tuple similar_items(Engine& engine, py::handle item, Count k, py::handle exclude, py::handle among,
                        py::handle filter, const RetrievalChoice& retrieval) {
  const Id id = to_id(item, "item");
  const Options options(k, false, exclude, among, filter, retrieval);
  return to_ranking(released([&] { return (engine.*Find)(id, options.value()); }));
}

// set_users and set_items
template <void (Engine::*Set)(const IdSpan&, std::span<const float>, const float*)>
void set_rows(Engine& engine, py::handle ids, const Vectors& vectors, py::handle biases) {
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
  return py::make_tuple(from_ids(table.ids), to_matrix(table.vectors, dim), to_array(table.biases));
}

void set_item_features(Engine& engine, py::handle ids, const Vectors& values) {
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

// The score, and of each part its name, item or None, value, weight and contribution.
py::tuple explain(Engine& engine, py::handle user, py::handle item) {
  const Id user_id = to_id(user, "user"), item_id = to_id(item, "item");
  const Explanation explanation = released([&] { return engine.explain(user_id, item_id); });
  const py::object items = from_ids(explanation.items);
  py::list parts;
  for (const ExplanationPart& part : explanation.parts) {
    const py::object other = part.item == kNoRow ? py::none() : py::object(items[py::int_(part.item)]);
    parts.append(py::make_tuple(part.name, other, part.value, part.weight, part.contribution));
  }
  return py::make_tuple(explanation.score, parts);
}

py::dict latency(const LatencyHistogram& histogram) {
  py::dict values;
  values["count"] = histogram.count();
  values["p50"] = histogram.percentile(0.5);
  values["p90"] = histogram.percentile(0.9);
  values["p99"] = histogram.percentile(0.99);
  return values;
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
  register_explore(module, engine_class);
  engine_class
      .def(py::init([](const py::dict& settings) { return EnginePtr(new Engine(to_settings(settings))); }),
           py::arg("settings"))
      .def("learn_one", &learn_one, py::arg("user"), py::arg("item"), py::arg("value") = 1.0f, py::arg("weight") = 1.0f,
           py::arg("timestamp") = kLatest, py::arg("source") = py::none(), py::arg("offset") = 0)
      .def("learn_many", &learn_many)
      .def("recommend", &recommend)
      .def("plan", &plan)
      .def("recommend_history", &recommend_history)
      .def("maintain", [](Engine& engine) { return released([&] { return engine.maintain(); }); })
      .def_property("maintenance", &Engine::maintenance, &Engine::set_maintenance)
      .def("recommend_many", &recommend_many)
      .def("search", &search)
      .def("similar_items", &similar_items<&Engine::similar_items>)
      .def("similar_by_behaviour", &similar_items<&Engine::similar_by_behaviour>)
      .def("score",
           [](Engine& engine, py::handle user, py::handle items) {
             const Id id = to_id(user, "user");
             const IdColumn column(items, "item");
             return to_array(released([&] { return engine.score(id, column.span()); }));
           })
      .def("rank",
           [](Engine& engine, py::handle user, py::handle items, const std::vector<float>& context) {
             const Id id = to_id(user, "user");
             const IdColumn column(items, "item");
             return to_ranking(released([&] { return engine.rank(id, column.span(), context); }));
           })
      .def("ranker_signals",
           [](Engine& engine, py::handle user, py::handle items) {
             const Id id = to_id(user, "user");
             const IdColumn column(items, "item");
             const std::vector<float> signals = released([&] { return engine.ranker_signals(id, column.span()); });
             return to_matrix(signals, engine.ranker_names().size());
           })
      .def("ranker_names", [](const Engine& engine) { return engine.ranker_names(); })
      .def("ranker_weights", [](const Engine& engine) { return to_array(engine.ranker_weights()); })
      .def("explain", &explain)
      .def("set_item_features", &set_item_features)
      .def("predict",
           [](Engine& engine, py::handle user, py::handle items) {
             const Id id = to_id(user, "user");
             const IdColumn column(items, "item");
             return to_array(released([&] { return engine.predict(id, column.span()); }));
           })
      .def("user_vectors",
           [](Engine& engine, py::handle users) {
             const IdColumn column(users, "user");
             return to_matrix(released([&] { return engine.user_vectors(column.span()); }), engine.settings().dim);
           })
      .def("item_vectors",
           [](Engine& engine, py::handle items) {
             const IdColumn column(items, "item");
             return to_matrix(released([&] { return engine.item_vectors(column.span()); }), engine.settings().dim);
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
      .def("context_weights", [](const Engine& engine) { return to_array(engine.context_weights()); })
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
                    [](Engine& engine, double bias) { released([&] { engine.set_global_bias(bias); }); })
      .def("stats", &statistics);
}

}  // namespace recengine::bindings
