// Policies, decisions, impressions.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/columns.hpp"
#include "bindings/options.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "engine/engine.hpp"
#include "explore/slate.hpp"

namespace recengine::bindings {

namespace {

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Integers = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;
using Shared = std::shared_ptr<const Decision>;

ExploreOptions to_options(const std::string& policy, double parameter, const std::string& precision,
                          std::uint32_t samples, const std::string& diversity, double weight, std::size_t count,
                          std::size_t candidates) {
  ExploreOptions options;
  options.policy = {parse_policy(policy), parameter, parse_precision(precision), samples};
  options.policy.validate();
  options.diversity = {parse_diversity(diversity), weight, count};
  options.diversity.validate();
  if (candidates < 1 || candidates > kMaxCandidates) {
    throw py::value_error(message("candidates must be between 1 and ", kMaxCandidates, ", not ", candidates));
  }
  options.candidates = candidates;
  return options;
}

ExploreOptions with_seed(ExploreOptions options, std::optional<std::int64_t> seed) {
  if (seed && *seed < 0) throw py::value_error(message("seed must be at least 0, not ", *seed));
  if (seed) options.seed = static_cast<std::uint64_t>(*seed);
  return options;
}

// The ids in the order of the slots.
py::object slate_ids(const Decision& decision) {
  IdArray ids;
  ids.kind = decision.candidates.kind;
  const IdSpan candidates = decision.candidates.span();
  for (const std::uint32_t place : decision.slate) {
    if (ids.kind == IdKind::kString) {
      ids.bytes += candidates.string_at(place);
      ids.offsets.push_back(ids.bytes.size());
    } else {
      ids.ints.push_back(candidates.ints[place]);
    }
  }
  return from_ids(ids);
}

py::array_t<float> slate_scores(const Decision& decision) {
  std::vector<float> scores;
  for (const std::uint32_t place : decision.slate) scores.push_back(decision.scores[place]);
  return to_array<float>(scores);
}

py::object plain_id(const IdArray& ids) {
  if (ids.size() == 0) return py::none();
  if (ids.kind == IdKind::kString) return py::str(ids.bytes);
  return py::int_(ids.ints[0]);
}

// Finite, best first.
std::span<const float> sorted_scores(const Floats& scores) {
  const std::span<const float> values(scores.data(), static_cast<std::size_t>(scores.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) throw py::value_error(message("scores must be finite, not ", values[i]));
    if (i > 0 && values[i] > values[i - 1]) throw py::value_error("scores must be sorted, best first");
  }
  return values;
}

// Those that a policy's closed form takes.
std::span<const float> checked_scores(const ExploreOptions& options, const Floats& scores) {
  if (!options.policy.is_closed()) {
    throw py::value_error(message("policy '", name_of(options.policy.kind), "' has no propensities in closed form"));
  }
  return sorted_scores(scores);
}

// Different places among so many candidates.
std::vector<std::uint32_t> checked_slate(const Integers& slate, std::size_t count) {
  std::vector<std::uint32_t> places;
  std::vector<bool> is_there(count);
  for (py::ssize_t s = 0; s < slate.size(); ++s) {
    const std::int64_t place = slate.at(s);
    if (place < 0 || static_cast<std::size_t>(place) >= count || is_there[static_cast<std::size_t>(place)]) {
      throw py::value_error(message("slate must hold different places below ", count, ", not ", place));
    }
    is_there[static_cast<std::size_t>(place)] = true;
    places.push_back(static_cast<std::uint32_t>(place));
  }
  return places;
}

py::array_t<double> first_slot(const ExploreOptions& options, const Floats& scores) {
  const std::span<const float> values = checked_scores(options, scores);
  if (values.empty()) return py::array_t<double>(0);
  return to_array<double>(first_propensities(options.policy, {values, {}, 0}));
}

// The closed-form log-propensities of a slate, places among candidates that are sorted by score.
py::array_t<double> slate_log_propensities(const ExploreOptions& options, const Floats& scores, const Integers& groups,
                                           const Integers& slate) {
  const std::span<const float> values = checked_scores(options, scores);
  const std::vector<std::uint32_t> places = checked_slate(slate, values.size());
  std::vector<std::uint32_t> numbers;
  if (groups.size() != 0 && groups.size() != scores.size()) throw py::value_error("groups must be one a score");
  for (py::ssize_t i = 0; i < groups.size(); ++i) {
    if (groups.at(i) < 0 || groups.at(i) > groups.size()) {
      throw py::value_error(message("groups must be between 0 and ", groups.size(), ", not ", groups.at(i)));
    }
    numbers.push_back(static_cast<std::uint32_t>(groups.at(i)));
  }
  return to_array<double>(log_propensities(options.policy, {values, numbers, options.diversity.count}, places));
}

py::dict feedback_settings(Engine& engine) {
  const FeedbackSettings settings = engine.impressions().settings();
  py::dict values;
  values["capacity"] = settings.capacity;
  values["window"] = settings.window;
  values["correction"] = name_of(settings.correction);
  values["clip"] = settings.clip;
  values["position_bias"] = settings.position_bias;
  return values;
}

}  // namespace

void register_explore(py::module_& module, EngineClass& engine) {
  py::class_<ExploreOptions> explore_class(module, "Explore");
  explore_class
      .def(py::init(&to_options), py::arg("policy"), py::arg("parameter"), py::arg("precision"), py::arg("samples"),
           py::arg("diversity"), py::arg("weight"), py::arg("count"), py::arg("candidates"))
      .def("log_propensities", &slate_log_propensities, py::arg("scores"), py::arg("groups"), py::arg("slate"))
      .def("first_slot", &first_slot, py::arg("scores"));

  register_judge(explore_class, engine);

  py::class_<Decision, std::shared_ptr<Decision>>(module, "Decision")
      // It never changes: a copy of a ranking has the same.
      .def("__copy__", [](const std::shared_ptr<Decision>& decision) { return decision; })
      .def("__deepcopy__", [](const std::shared_ptr<Decision>& decision, const py::object&) { return decision; })
      .def("__reduce__",
           [](const Decision&) -> py::object {
             throw py::type_error(
                 "a Ranking that a policy chose cannot be pickled: only the engine that made it can learn that it was "
                 "shown; send its ids, scores and log_propensities, or the number that Engine.impression gave it");
           })
      .def("ranking",
           [](const Decision& decision) {
             return py::make_tuple(slate_ids(decision), slate_scores(decision), decision.certified);
           })
      .def_property_readonly("user", [](const Decision& decision) { return plain_id(decision.user); })
      .def_property_readonly("candidates", [](const Decision& decision) { return from_ids(decision.candidates); })
      .def_property_readonly("candidate_scores",
                             [](const Decision& decision) { return to_array<float>(decision.scores); })
      .def_property_readonly("slate", [](const Decision& decision) { return to_array<std::int64_t>(decision.slate); })
      .def_property_readonly("log_propensities",
                             [](const Decision& decision) { return to_array<double>(decision.log_propensities); })
      .def_property_readonly("errors", [](const Decision& decision) { return to_array<double>(decision.errors); })
      .def_property_readonly("policy", [](const Decision& decision) { return name_of(decision.policy.kind); })
      .def_property_readonly("parameter", [](const Decision& decision) { return decision.policy.parameter; })
      .def_property_readonly("precision", [](const Decision& decision) { return name_of(decision.policy.precision); })
      .def_property_readonly("samples", [](const Decision& decision) { return decision.policy.samples; })
      .def_property_readonly("diversity", [](const Decision& decision) { return name_of(decision.diversity.kind); })
      .def_property_readonly("weight", [](const Decision& decision) { return decision.diversity.weight; })
      .def_property_readonly("count", [](const Decision& decision) { return decision.diversity.count; })
      .def_property_readonly("groups", [](const Decision& decision) { return to_array<std::int64_t>(decision.groups); })
      .def_readonly("seed", &Decision::seed)
      .def_property_readonly("context", [](const Decision& decision) { return to_array<float>(decision.context); })
      .def_property_readonly("history", [](const Decision& decision) { return from_ids(decision.history); })
      .def_property_readonly("removed",
                             [](const Decision& decision) { return to_array<std::int64_t>(decision.removed); });

  engine
      .def("explore",
           [](Engine& self, py::handle user, Count k, bool exclude_seen, py::handle exclude, py::handle among,
              py::handle filter, const RetrievalChoice& retrieval, std::vector<float> context,
              const ExploreOptions& explore, std::optional<std::int64_t> seed) {
             const Id id = to_id(user, "user");
             const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
             const ExploreOptions seeded = with_seed(explore, seed);
             return std::make_shared<Decision>(released([&] { return self.explore(id, options.value(), seeded); }));
           })
      .def("explore_history",
           [](Engine& self, py::handle history, Count k, bool exclude_seen, py::handle exclude, py::handle among,
              py::handle filter, const RetrievalChoice& retrieval, std::vector<float> context,
              const ExploreOptions& explore, std::optional<std::int64_t> seed) {
             const IdColumn items(history, "item");
             const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
             const ExploreOptions seeded = with_seed(explore, seed);
             return std::make_shared<Decision>(
                 released([&] { return self.explore_history(items.span(), options.value(), seeded); }));
           })
      .def("explore_many",
           [](Engine& self, py::handle users, Count k, bool exclude_seen, py::handle exclude, py::handle among,
              py::handle filter, const RetrievalChoice& retrieval, std::vector<float> context,
              const ExploreOptions& explore, std::optional<std::int64_t> seed) {
             const IdColumn ids(users, "user");
             const Options options(k, exclude_seen, exclude, among, filter, retrieval, std::move(context));
             const ExploreOptions seeded = with_seed(explore, seed);
             std::vector<Decision> made =
                 released([&] { return self.explore_many(ids.span(), options.value(), seeded); });
             py::list decisions;
             for (Decision& decision : made) decisions.append(std::make_shared<Decision>(std::move(decision)));
             return decisions;
           })
      .def("impression",
           [](Engine& self, const std::shared_ptr<Decision>& decision, double timestamp) {
             return released([&] { return self.impression(decision, timestamp); });
           })
      .def("feedback",
           [](Engine& self, std::uint64_t impression, py::handle item, float reward, double timestamp, bool learn) {
             const Id id = to_id(item, "item");
             return released([&] { return self.feedback(impression, id, reward, timestamp, learn); });
           })
      .def("impressions",
           [](Engine& self) {
             py::list rows;
             for (const Impression& impression : released([&] { return self.impressions().copy(); })) {
               rows.append(py::make_tuple(impression.number, impression.time,
                                          std::const_pointer_cast<Decision>(impression.decision),
                                          to_array<float>(impression.rewards)));
             }
             return rows;
           })
      .def("feedback_settings", &feedback_settings)
      .def("set_feedback_settings", [](Engine& self, std::size_t capacity, double window, const std::string& correction,
                                       double clip, double position_bias) {
        const FeedbackSettings values{capacity, window, parse_correction(correction), clip, position_bias};
        released([&] { self.set_feedback_settings(values); });
      });
}

}  // namespace recengine::bindings
