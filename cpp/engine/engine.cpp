#include "engine/engine.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/process.hpp"
#include "storage/snapshot.hpp"

namespace recengine {

namespace {

const Settings& validated(const Settings& settings) {
  settings.validate();
  return settings;
}

constexpr std::size_t kUpkeepRows = 4096;  // of room for items: fewer need none

}  // namespace

Engine::Engine(const Settings& settings)
    : settings_(validated(settings)),
      model_(domain_, settings_),
      learner_(model_, settings_),
      check_(learner_, settings_),
      budget_(settings_.limits.user_budget),
      user_capacity_(model_.users, settings_.limits.max_users, settings_.limits.evict == Eviction::kLru, "max_users"),
      item_capacity_(model_.items, settings_.limits.max_items, settings_.limits.evict == Eviction::kLru, "max_items"),
      retriever_(domain_, model_.items),
      ranker_(model_, settings_),
      precisions_(model_.items.stride()),
      threads_(std::max(1u, std::thread::hardware_concurrency())),
      latest_timestamp_(std::numeric_limits<double>::quiet_NaN()),
      generation_(fork_generation()),
      upkeep_(std::make_unique<Upkeep>([this](std::atomic<bool>& stop) {
        if (maintenance()) retriever_.follow();
        if (maintenance() && !retriever_.is_restless()) retriever_.maintain(1, stop);
      })) {
  model_.items.attach(
      [this](std::size_t rows) {
        precisions_.reserve_items(rows);
        if (rows > kUpkeepRows) upkeep_->start();
      },
      [this](Row item) { precisions_.wipe_item(item); });
  if (budget_.on()) {
    model_.users.attach([this](std::size_t rows) { budget_.reserve(rows); }, [this](Row user) { budget_.wipe(user); });
  }
  active_kernels();  // an invalid RECENGINE_KERNELS is an error now, not in the middle of a query
}

Engine::~Engine() {
  if (is_own()) {
    if (journal_) journal_->stop();  // a checkpoint that is under way needs all of the engine
    return;
  }
  // In a forked child there are no threads to end, only what they were waiting for, and that cannot be destroyed: it is
  // left to the end of the process, like the files, which are the parent's.
  static_cast<void>(upkeep_.release());
  static_cast<void>(journal_.release());
}

void Engine::set_learning_rate(double rate) {
  check_learning_rate(rate);
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    record = logged(
        RecordKind::kLearningRate, 0, [&](PayloadWriter& to) { to.put(rate); },
        [&] { learner_.set_learning_rate(static_cast<float>(rate)); });
  }
  acknowledge(record);
}

void Engine::set_threads(std::size_t threads) {
  if (threads < 1 || threads > 1024)
    throw std::invalid_argument(message("threads must be between 1 and 1024, not ", threads));
  threads_.store(threads, std::memory_order_relaxed);
}

float Engine::global_bias() const { return load_relaxed(&model_.global_bias); }

void Engine::set_global_bias(double bias) {
  if (!std::isfinite(bias) || std::abs(bias) > 1e15) {
    throw std::invalid_argument(message("global_bias must be finite and at most 1e15, not ", bias));
  }
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    record = logged(
        RecordKind::kGlobalBias, 0, [&](PayloadWriter& to) { to.put(bias); },
        [&] { store_relaxed(&model_.global_bias, static_cast<float>(bias)); });
  }
  acknowledge(record);
}

bool Engine::is_own() const { return fork_generation() == generation_; }

void Engine::check_own() const {
  if (is_own()) [[likely]]
    return;
  throw std::runtime_error(
      "this engine belongs to the parent process: a forked child can ask it, but not change it; open or load one "
      "in the child, or start children by 'spawn'");
}

void Engine::check_writable() const {
  check_own();
  if (mapping_) [[unlikely]]
    throw std::runtime_error(message("this engine is read-only, mapped from ", mapping_->path().string(),
                                     ": Engine.load(path) gives one in memory, Engine.open(folder) the folder's own"));
}

Engine::Quiet Engine::quiet() {
  domain_.refuse_within_pause();
  std::optional<Gate::Closure> closure;
  if (journal_) closure.emplace(journal_->gate.close());
  return {std::move(closure), domain_.pause_writers()};
}

std::size_t Engine::maintain() {
  check_own();  // the parent's upkeep may have been at it when the child was forked
  if (verification_) verification_->wait();
  constexpr std::size_t kMost = 100'000;  // steps: beside learners there is always something to do
  std::atomic<bool> stop{false};
  std::size_t steps = 0;
  while (steps < kMost && retriever_.maintain(threads(), stop)) {
    ++steps;
    check_interrupt();
  }
  if (stop.load(std::memory_order_relaxed)) throw Interrupted();
  return steps;
}

double Engine::latest_timestamp() const {
  const double latest = latest_timestamp_.load(std::memory_order_relaxed);
  return std::isnan(latest) ? 0 : latest;
}

// What came without a time before the first one counts at time 0: the clock never lies behind what has been counted.
void Engine::saw_timestamp(double timestamp) {
  double latest = latest_timestamp_.load(std::memory_order_relaxed);
  if (std::isnan(latest) && events_.load(std::memory_order_relaxed) > 0) timestamp = std::max(timestamp, 0.0);
  while (!(latest >= timestamp) &&
         !latest_timestamp_.compare_exchange_weak(latest, timestamp, std::memory_order_relaxed)) {
  }
}

std::vector<float> Engine::context_weights() const {
  std::vector<float> values;
  for (const LearnedScalar& scalar : model_.context.scalars()) values.push_back(load_relaxed(&scalar.value));
  return values;
}

std::vector<std::string> Engine::ranker_names() const {
  std::vector<std::string> names;
  for (std::size_t s = 0; ranker_.on() && s < ranker_.num_signals(); ++s) names.push_back(ranker_.signal_name(s));
  return names;
}

std::vector<float> Engine::ranker_weights() const {
  std::vector<float> values;
  if (!ranker_.on()) return values;
  for (const LearnedScalar& scalar : ranker_.weights.scalars()) values.push_back(load_relaxed(&scalar.value));
  return values;
}

Statistics Engine::statistics() {
  const auto pin = domain_.pin_reader();
  std::array<std::uint64_t, kBadEventNames.size()> bad_events;
  for (std::size_t r = 0; r < bad_events.size(); ++r) bad_events[r] = bad_events_[r].load(std::memory_order_relaxed);
  return {num_users(),
          num_items(),
          events_.load(std::memory_order_relaxed),
          queries_.load(std::memory_order_relaxed),
          ignored_ids_.load(std::memory_order_relaxed),
          over_budget_.load(std::memory_order_relaxed),
          bad_events,
          model_.users.memory_bytes() + model_.user_state.memory_bytes(model_.users.count()) +
              precisions_.memory_bytes() + budget_.memory_bytes() + user_capacity_.memory_bytes(),
          model_.items.memory_bytes() + model_.popularity.memory_bytes() + model_.recent.memory_bytes() +
              (model_.demand ? model_.demand->trends.memory_bytes() : 0) + ranker_.features.memory_bytes() +
              filters_.memory_bytes() + item_capacity_.memory_bytes(),
          retriever_.memory_bytes(),
          model_.cooccurrence.memory_bytes(),
          retriever_.num_clusters(),
          retriever_.samples(),
          retriever_.sampled_recall(),
          latest_timestamp_.load(std::memory_order_relaxed)};
}

}  // namespace recengine
