// Offline training. A fit holds copies of the rows; the engine gets them by store().
#include <pybind11/numpy.h>

#include <algorithm>
#include <memory>

#include "bindings/columns.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "engine/engine.hpp"
#include "learner/als.hpp"
#include "learner/softmax_fit.hpp"

namespace recengine::bindings {

namespace {

std::size_t to_threads(const Engine& engine, py::ssize_t threads) {
  if (threads < 1) throw py::value_error(message("threads must be at least 1, not ", threads));
  return std::min(static_cast<std::size_t>(threads), engine.threads());
}

// After an interrupt its exception is set: what stopped early goes on to Python as that.
void raise_if_stopped(bool finished) {
  if (!finished) throw Interrupted();
}

class AlsFit {
 public:
  AlsFit(Engine& engine, const EventColumns& pairs, const AlsSettings& settings)
      : engine_(engine), tables_(engine.take_out(pairs)), als_(tables_.pairs, settings) {}

  void run(std::size_t threads) {
    raise_if_stopped(als_.run_epoch(tables_.users, tables_.items, tables_.dim, threads));
  }
  void store() { engine_.put_back(tables_); }
  Engine& engine() { return engine_; }

 private:
  Engine& engine_;
  FitTables tables_;
  Als als_;
};

class SoftmaxFitting {
 public:
  SoftmaxFitting(Engine& engine, const EventColumns& pairs, const SoftmaxFitSettings& settings)
      : engine_(engine), tables_(engine.take_out(pairs)), fit_(tables_.pairs, settings, tables_.users, tables_.items) {}

  void run(std::size_t threads) { raise_if_stopped(fit_.run_epoch(threads)); }
  void store() {
    fit_.write_rows(tables_.users, tables_.items);
    engine_.put_back(tables_);
  }
  Engine& engine() { return engine_; }

 private:
  Engine& engine_;
  FitTables tables_;
  SoftmaxFit fit_;
};

std::unique_ptr<AlsFit> begin_als(Engine& engine, py::handle users, py::handle items, py::handle values,
                                  float unobserved_weight, float l2, float l2_exponent, py::ssize_t steps) {
  const AlsSettings settings{unobserved_weight, l2, l2_exponent,
                             static_cast<std::uint32_t>(std::clamp<py::ssize_t>(steps, 0, 1'000'000))};
  settings.validate();
  if (engine.settings().dim > kMaxAlsDim) {
    throw py::value_error(message("dim must be at most ", kMaxAlsDim, " for this method, not ", engine.settings().dim));
  }
  const IdColumn user_ids(users, "user");
  const IdColumn item_ids(items, "item");
  const NumberColumn<float> weights(values, user_ids.span().size, "values");
  const EventColumns pairs{user_ids.span(), item_ids.span(), weights.data()};
  return released([&] { return std::make_unique<AlsFit>(engine, pairs, settings); });
}

std::unique_ptr<SoftmaxFitting> begin_softmax(Engine& engine, py::handle users, py::handle items,
                                              const py::dict& options) {
  const auto number = [&options](const char* name) { return py::cast<float>(options[name]); };
  const auto integer = [&options](const char* name) { return py::cast<std::uint32_t>(options[name]); };
  SoftmaxFitSettings settings;
  settings.temperature = number("temperature");
  settings.history_weight = number("history_weight");
  settings.user_exponent = number("user_exponent");
  settings.learning_rate = number("learning_rate");
  settings.user_rate = number("user_rate");
  settings.negatives = integer("negatives");
  settings.batch = integer("batch");
  settings.epochs = integer("epochs");
  settings.seed = engine.settings().seed;
  settings.validate();
  const IdColumn user_ids(users, "user");
  const IdColumn item_ids(items, "item");
  const EventColumns pairs{user_ids.span(), item_ids.span()};
  return released([&] { return std::make_unique<SoftmaxFitting>(engine, pairs, settings); });
}

template <class Fit>
void register_fit(py::module_& module, const char* name) {
  py::class_<Fit>(module, name)
      .def("run",
           [](Fit& fit, py::ssize_t threads) {
             const std::size_t wanted = to_threads(fit.engine(), threads);
             released([&] { fit.run(wanted); });
           })
      .def("store", [](Fit& fit) { released([&] { fit.store(); }); });
}

}  // namespace

void register_fits(py::module_& module) {
  register_fit<AlsFit>(module, "AlsFit");
  register_fit<SoftmaxFitting>(module, "SoftmaxFit");
  module.def("begin_softmax", &begin_softmax, py::keep_alive<0, 1>());
  module.def("begin_als", &begin_als, py::keep_alive<0, 1>());
}

}  // namespace recengine::bindings
