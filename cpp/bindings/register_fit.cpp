// Offline training. A fit holds copies of the rows; the engine gets them by store().
#include <pybind11/numpy.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "bindings/columns.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "bindings/settings.hpp"
#include "engine/engine.hpp"
#include "learner/als.hpp"
#include "learner/softmax_fit.hpp"

namespace recengine::bindings {

namespace {

std::size_t to_threads(const Engine& engine, py::ssize_t threads) {
  if (threads < 1) throw py::value_error(message("threads must be at least 1, not ", threads));
  return std::min(static_cast<std::size_t>(threads), engine.threads());
}

constexpr std::uint64_t kMost = 1u << 31;  // of options that are counts

// Training of one method on tables of its own. Used by one thread at a time.
template <class Trainer, class Settings>
class Fit {
 public:
  Fit(Engine& engine, const EventColumns& pairs, const Settings& settings)
      : engine_(engine), tables_(engine.take_out(pairs)), trainer_(tables_, settings) {}

  void run(std::size_t threads) {
    if (!trainer_.run_epoch(tables_, threads)) throw Interrupted();
  }
  void store() {
    trainer_.settle(tables_, engine_.threads());
    engine_.put_back(tables_);
  }
  void keep() {
    trainer_.settle(tables_, engine_.threads());
    kept_ = {tables_.users, tables_.items};
  }
  // For store: training does not go on from there.
  void restore() {
    trainer_.settle(tables_, engine_.threads());
    std::tie(tables_.users, tables_.items) = kept_;
  }
  Engine& engine() { return engine_; }

 private:
  Engine& engine_;
  FitTables tables_;
  Trainer trainer_;
  std::pair<AlignedFloats, AlignedFloats> kept_;
};

struct AlsTrainer {
  AlsTrainer(const FitTables& tables, const AlsSettings& settings) : als(tables.pairs, settings) {}
  bool run_epoch(FitTables& tables, std::size_t threads) {
    return als.run_epoch(tables.users, tables.items, tables.dim, threads);
  }
  void settle(FitTables& tables, std::size_t threads) { als.settle(tables.users, tables.items, threads); }
  Als als;
};

struct SoftmaxTrainer {
  SoftmaxTrainer(FitTables& tables, const SoftmaxFitSettings& settings)
      : fit(tables.pairs, settings, tables.users, tables.items) {
    tables.item_biases = fit.biases();
  }
  bool run_epoch(FitTables& tables, std::size_t threads) {
    const bool finished = fit.run_epoch(threads);
    fit.write_rows(tables.users, tables.items);
    return finished;
  }
  void settle(FitTables&, std::size_t) {}  // its rows are where they belong
  SoftmaxFit fit;
};

using AlsFit = Fit<AlsTrainer, AlsSettings>;
using SoftmaxFitting = Fit<SoftmaxTrainer, SoftmaxFitSettings>;

std::unique_ptr<AlsFit> begin_als(Engine& engine, py::handle users, py::handle items, py::handle values,
                                  const py::dict& options) {
  AlsSettings settings;
  settings.unobserved_weight = static_cast<float>(to_number(options, "unobserved_weight"));
  settings.l2 = static_cast<float>(to_number(options, "l2"));
  settings.l2_exponent = static_cast<float>(to_number(options, "l2_exponent"));
  settings.steps = static_cast<std::uint32_t>(to_integer(options, "steps", kMost));
  settings.validate();
  if (engine.settings().dim > kMaxAlsDim) {
    throw py::value_error(message("dim must be at most ", kMaxAlsDim, " for 'ials', not ", engine.settings().dim));
  }
  const IdColumn user_ids(users, "user");
  const IdColumn item_ids(items, "item");
  const NumberColumn<float> weights(values, user_ids.span().size, "values");
  const EventColumns pairs{user_ids.span(), item_ids.span(), weights.data()};
  return released([&] { return std::make_unique<AlsFit>(engine, pairs, settings); });
}

std::unique_ptr<SoftmaxFitting> begin_softmax(Engine& engine, py::handle users, py::handle items,
                                              const py::dict& options) {
  const auto number = [&options](const char* name) { return static_cast<float>(to_number(options, name)); };
  const auto integer = [&options](const char* name) {
    return static_cast<std::uint32_t>(to_integer(options, name, kMost));
  };
  SoftmaxFitSettings settings;
  settings.temperature = number("temperature");
  settings.history_weight = number("history_weight");
  settings.user_exponent = number("user_exponent");
  settings.learning_rate = number("learning_rate");
  settings.user_rate = number("user_rate");
  settings.popularity = number("popularity");
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

template <class Trained>
void register_fit(py::module_& module, const char* name) {
  py::class_<Trained>(module, name)
      .def("run",
           [](Trained& fit, py::ssize_t threads) {
             const std::size_t wanted = to_threads(fit.engine(), threads);
             released([&] { fit.run(wanted); });
           })
      .def("store", [](Trained& fit) { released([&] { fit.store(); }); })
      .def("keep", &Trained::keep)
      .def("restore", &Trained::restore);
}

}  // namespace

void register_fits(py::module_& module) {
  register_fit<AlsFit>(module, "AlsFit");
  register_fit<SoftmaxFitting>(module, "SoftmaxFit");
  module.def("begin_softmax", &begin_softmax, py::keep_alive<0, 1>());
  module.def("begin_als", &begin_als, py::keep_alive<0, 1>());
}

}  // namespace recengine::bindings
