// What policies make of lists that were shown, many at a time: for off-policy evaluation.
#include <pybind11/numpy.h>

#include <cmath>
#include <limits>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/columns.hpp"
#include "bindings/python_interrupt.hpp"
#include "bindings/register.hpp"
#include "engine/engine.hpp"
#include "explore/judge.hpp"
#include "storage/interrupt.hpp"
#include "storage/random.hpp"

namespace recengine::bindings {

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

std::size_t length(const py::array& array) { return static_cast<std::size_t>(array.size()); }

// Lists one after another: where the candidates and the slots of each end, and what they are.
class Lists {
 public:
  Lists(const Array<std::int64_t>& ends, const Array<float>& scores, const Array<std::int64_t>& groups,
        const Array<double>& features, const Array<std::int64_t>& slot_ends, const Array<std::int64_t>& slate,
        std::size_t per_group)
      : scores_(scores.data(), length(scores)), features_(features.data(), length(features)), per_group_(per_group) {
    if (length(groups) != 0 && length(groups) != scores_.size()) throw py::value_error("groups must be one a score");
    if (features.ndim() != 2 || (length(features) != 0 && features.shape(0) != scores.size())) {
      throw py::value_error("features must be a row a score");
    }
    width_ = length(features) == 0 ? 0 : static_cast<std::size_t>(features.shape(1));
    if (length(ends) != length(slot_ends)) throw py::value_error("ends and slot_ends must be of equal length");
    take(ends, scores_.size(), "ends", ends_);
    take(slot_ends, length(slate), "slot_ends", slot_ends_);
    for (const float score : scores_) {
      if (!std::isfinite(score) && score != -std::numeric_limits<float>::infinity()) {
        throw py::value_error(message("scores must be finite or -inf, not ", score));
      }
    }
    for (std::size_t i = 0; i < length(groups); ++i) {
      const std::int64_t group = groups.data()[i];
      if (group < 0 || group > std::numeric_limits<std::uint32_t>::max()) {
        throw py::value_error(message("groups must be between 0 and 2^32 - 1, not ", group));
      }
      groups_.push_back(static_cast<std::uint32_t>(group));
    }
    std::vector<bool> is_there;
    for (std::size_t list = 0; list < size(); ++list) {
      const std::size_t count = ends_[list + 1] - ends_[list];
      is_there.assign(count, false);
      for (std::size_t slot = slot_ends_[list]; slot < slot_ends_[list + 1]; ++slot) {
        const std::int64_t place = slate.data()[slot];
        if (place < 0 || static_cast<std::size_t>(place) >= count || is_there[static_cast<std::size_t>(place)]) {
          throw py::value_error(message("slate must hold different places below ", count, ", not ", place));
        }
        is_there[static_cast<std::size_t>(place)] = true;
        slate_.push_back(static_cast<std::uint32_t>(place));
      }
    }
  }

  std::size_t size() const { return ends_.size() - 1; }
  std::size_t width() const { return width_; }
  ShownList list(std::size_t number) const {
    const std::size_t begin = ends_[number], count = ends_[number + 1] - begin, slot = slot_ends_[number];
    ShownList list;
    list.scores = scores_.subspan(begin, count);
    if (!groups_.empty()) list.groups = std::span(groups_).subspan(begin, count);
    list.per_group = per_group_;
    list.features = features_.subspan(begin * width_, count * width_);
    list.width = width_;
    list.slate = std::span(slate_).subspan(slot, slot_ends_[number + 1] - slot);
    return list;
  }

 private:
  static void take(const Array<std::int64_t>& ends, std::size_t last, const char* name, std::vector<std::size_t>& to) {
    to.push_back(0);
    for (std::size_t k = 0; k < length(ends); ++k) {
      const std::int64_t end = ends.data()[k];
      if (end < static_cast<std::int64_t>(to.back()) || static_cast<std::size_t>(end) > last) {
        throw py::value_error(message(name, " must ascend up to ", last, ", not hold ", end));
      }
      to.push_back(static_cast<std::size_t>(end));
    }
    if (to.back() != last) throw py::value_error(message(name, " must end with ", last, ", not ", to.back()));
  }

  const std::span<const float> scores_;
  const std::span<const double> features_;
  const std::size_t per_group_;
  std::size_t width_ = 0;
  std::vector<std::size_t> ends_, slot_ends_;
  std::vector<std::uint32_t> groups_, slate_;
};

// Target, marginals, expected, ahead.
py::tuple to_tuple(const Views& views, std::size_t width) {
  return py::make_tuple(to_array<double>(views.target), to_array<double>(views.marginals),
                        to_rows<double>(views.expected, width), to_rows<double>(views.ahead, width));
}

// A limit per group, where there is one; what diversity does beside that comes before.
std::size_t limit_of(const ExploreOptions& options, const Array<std::int64_t>& groups) {
  if (options.diversity.kind != DiversityKind::kMaxPerGroup) return 0;
  if (groups.size() == 0) throw py::value_error("MaxPerGroup needs groups");
  return options.diversity.count;
}

void require_closed(const ExploreOptions& options) {
  if (options.policy.is_closed()) return;
  throw py::value_error(message("policy '", name_of(options.policy.kind), "' has no propensities in closed form"));
}

// Each list's draws are its own, whatever lists stand beside it.
std::vector<std::uint64_t> seeds_of(const Array<std::int64_t>& numbers, std::size_t lists, std::uint64_t seed) {
  if (length(numbers) != lists) throw py::value_error("numbers must be one a list");
  std::vector<std::uint64_t> seeds;
  for (std::size_t k = 0; k < lists; ++k) {
    seeds.push_back(Random(seed, static_cast<std::uint64_t>(numbers.data()[k])).next());
  }
  return seeds;
}

py::tuple judge_lists(const ExploreOptions& options, const Array<std::int64_t>& ends, const Array<float>& scores,
                      const Array<std::int64_t>& groups, const Array<double>& features,
                      const Array<std::int64_t>& slot_ends, const Array<std::int64_t>& slate,
                      const Array<std::int64_t>& numbers, std::size_t draws, std::uint64_t seed) {
  require_closed(options);
  const Lists lists(ends, scores, groups, features, slot_ends, slate, limit_of(options, groups));
  const std::vector<std::uint64_t> seeds = seeds_of(numbers, lists.size(), seed);
  return to_tuple(released([&] {
                    Views views;
                    for (std::size_t k = 0; k < lists.size(); ++k) {
                      check_interrupt();
                      judge(options.policy, lists.list(k), draws, seeds[k], views);
                    }
                    return views;
                  }),
                  lists.width());
}

py::array_t<double> list_marginals(const ExploreOptions& options, const Array<std::int64_t>& ends,
                                   const Array<float>& scores, const Array<std::int64_t>& groups,
                                   const Array<std::int64_t>& slot_ends, const Array<std::int64_t>& slate,
                                   const Array<std::int64_t>& numbers, std::size_t draws, std::uint64_t seed) {
  require_closed(options);
  const Array<double> none(std::vector<py::ssize_t>{0, 0});
  const Lists lists(ends, scores, groups, none, slot_ends, slate, limit_of(options, groups));
  const std::vector<std::uint64_t> seeds = seeds_of(numbers, lists.size(), seed);
  return to_array<double>(released([&] {
    std::vector<double> all;
    for (std::size_t k = 0; k < lists.size(); ++k) {
      check_interrupt();
      const std::vector<double> marginals = marginals_of(options.policy, lists.list(k), draws, seeds[k]);
      all.insert(all.end(), marginals.begin(), marginals.end());
    }
    return all;
  }));
}

// One list, by what the engine knows of its uncertainty.
py::tuple judge_list(Engine& engine, py::handle user, py::handle items, const Array<float>& scores,
                     const Array<std::int64_t>& groups, const Array<double>& features, const Array<std::int64_t>& slate,
                     const ExploreOptions& options, std::size_t draws, std::uint64_t seed) {
  if (options.policy.is_closed()) throw py::value_error("an engine judges Thompson sampling and UCB");
  if (options.policy.kind == PolicyKind::kThompson && options.policy.samples == 0) {
    throw py::value_error("ThompsonSampling needs samples to estimate propensities from");
  }
  IdArray asker;
  if (!user.is_none()) asker.append(to_id(user, "user"));
  const IdColumn known(items, "item");
  const auto whole = [](const py::array& array) {
    Array<std::int64_t> end(1);
    *end.mutable_data() = array.size();
    return end;
  };
  const Lists lists(whole(scores), scores, groups, features, whole(slate), slate, limit_of(options, groups));
  return to_tuple(
      released([&] { return engine.judge(asker.span(), known.span(), lists.list(0), options.policy, draws, seed); }),
      lists.width());
}

py::array_t<float> ranking_scores(Engine& engine, py::handle user, py::handle history, py::handle items,
                                  const std::vector<float>& context) {
  IdArray asker;
  if (!user.is_none()) asker.append(to_id(user, "user"));
  const IdColumn session(history, "item"), column(items, "item");
  const std::vector<float> scores =
      released([&] { return engine.ranking_scores(asker.span(), session.span(), column.span(), context); });
  py::array_t<float> out(static_cast<py::ssize_t>(scores.size()));
  std::copy(scores.begin(), scores.end(), out.mutable_data());
  return out;
}

py::array_t<std::int64_t> diversified(Engine& engine, py::handle items, const Array<float>& scores,
                                      const ExploreOptions& options, std::size_t k) {
  if (!options.diversity.reorders()) throw py::value_error("diversified is for MMR and DPP");
  const IdColumn known(items, "item");
  if (known.span().size != length(scores)) throw py::value_error("scores must be one an item");
  const std::vector<std::uint32_t> order =
      released([&] { return engine.diversified(known.span(), {scores.data(), length(scores)}, options.diversity, k); });
  py::array_t<std::int64_t> out(static_cast<py::ssize_t>(order.size()));
  std::copy(order.begin(), order.end(), out.mutable_data());
  return out;
}

py::array_t<std::int64_t> groups_of(Engine& engine, py::handle items) {
  const IdColumn known(items, "item");
  const std::vector<Row> groups = released([&] { return engine.groups_of(known.span()); });
  py::array_t<std::int64_t> out(static_cast<py::ssize_t>(groups.size()));
  std::copy(groups.begin(), groups.end(), out.mutable_data());
  return out;
}

}  // namespace

void register_judge(py::class_<ExploreOptions>& explore, EngineClass& engine) {
  explore
      .def("judge", &judge_lists, py::arg("ends"), py::arg("scores"), py::arg("groups"), py::arg("features"),
           py::arg("slot_ends"), py::arg("slate"), py::arg("numbers"), py::arg("draws"), py::arg("seed"))
      .def("marginals", &list_marginals, py::arg("ends"), py::arg("scores"), py::arg("groups"), py::arg("slot_ends"),
           py::arg("slate"), py::arg("numbers"), py::arg("draws"), py::arg("seed"));
  engine
      .def("judge", &judge_list, py::arg("user"), py::arg("items"), py::arg("scores"), py::arg("groups"),
           py::arg("features"), py::arg("slate"), py::arg("explore"), py::arg("draws"), py::arg("seed"))
      .def("ranking_scores", &ranking_scores, py::arg("user"), py::arg("history"), py::arg("items"), py::arg("context"))
      .def("diversified", &diversified, py::arg("items"), py::arg("scores"), py::arg("explore"), py::arg("k"))
      .def("groups_of", &groups_of, py::arg("items"));
}

}  // namespace recengine::bindings
