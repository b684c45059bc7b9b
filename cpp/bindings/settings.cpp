#include "bindings/settings.hpp"

#include <pybind11/stl.h>

#include <limits>
#include <vector>

#include "bindings/columns.hpp"
#include "storage/message.hpp"

namespace recengine::bindings {

namespace py = pybind11;

std::uint64_t to_integer(const py::dict& values, const char* name, std::uint64_t most) {
  const py::object value = values[name];
  const auto index =
      PyBool_Check(value.ptr()) ? py::object() : py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {
    PyErr_Clear();
    throw py::type_error(message(name, " must be an int, not ", shown(value)));
  }
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < 0 || static_cast<std::uint64_t>(number) > most) {
    throw py::value_error(message(name, " must be between 0 and ", most, ", not ", shown(value)));
  }
  return static_cast<std::uint64_t>(number);
}

double to_number(const py::dict& values, const char* name) {
  const py::object value = values[name];
  const double number = PyUnicode_Check(value.ptr()) ? -1 : PyFloat_AsDouble(value.ptr());
  if (PyUnicode_Check(value.ptr()) || PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(message(name, " must be a number, not ", shown(value)));
  }
  return number;
}

std::string to_text(const py::dict& values, const char* name) {
  const py::object value = values[name];
  if (!PyUnicode_Check(value.ptr())) throw py::type_error(message(name, " must be a str, not ", shown(value)));
  return py::cast<std::string>(value);
}

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

}  // namespace recengine::bindings
