// Questions to an engine that do not explore.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/columns.hpp"
#include "bindings/gil.hpp"
#include "bindings/options.hpp"
#include "bindings/register.hpp"
#include "engine/engine.hpp"

namespace recengine::bindings {

namespace {

py::tuple to_ranking(const Rankings& rankings) {
  return py::make_tuple(from_ids(rankings.ids), to_array<float>(rankings.scores), rankings.certified);
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
  return py::make_tuple(from_ids(rankings.ids), to_array<float>(rankings.scores),
                        to_array<std::int64_t>(rankings.counts), rankings.certified);
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

py::tuple search(Engine& engine, const Floats& vector, bool cosine, Count k, py::handle exclude, py::handle among,
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

}  // namespace

void register_queries(EngineClass& engine_class) {
  engine_class.def("recommend", &recommend)
      .def("plan", &plan)
      .def("recommend_history", &recommend_history)
      .def("recommend_many", &recommend_many)
      .def("search", &search)
      .def("similar_items", &similar_items<&Engine::similar_items>)
      .def("similar_by_behaviour", &similar_items<&Engine::similar_by_behaviour>)
      .def("score",
           [](Engine& engine, py::handle user, py::handle items) {
             const Id id = to_id(user, "user");
             const IdColumn column(items, "item");
             return to_array<float>(released([&] { return engine.score(id, column.span()); }));
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
             return to_rows<float>(signals, engine.ranker_names().size());
           })
      .def("ranker_names", [](const Engine& engine) { return engine.ranker_names(); })
      .def("ranker_weights", [](const Engine& engine) { return to_array<float>(engine.ranker_weights()); })
      .def("explain", &explain)
      .def("predict", [](Engine& engine, py::handle user, py::handle items) {
        const Id id = to_id(user, "user");
        const IdColumn column(items, "item");
        return to_array<float>(released([&] { return engine.predict(id, column.span()); }));
      });
}

}  // namespace recengine::bindings
