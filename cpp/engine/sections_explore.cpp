// Impressions, and what exploration knows of its uncertainty, in an engine's file.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/decision_payload.hpp"
#include "engine/ids.hpp"
#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

void save_impressions(SnapshotWriter& file, const Impressions::Stored& stored, std::uint64_t decisions) {
  const FeedbackSettings& settings = stored.settings;
  if (stored.next == 1 && decisions == 0 && settings == FeedbackSettings()) return;
  add<std::uint64_t>(file, "feedback.ints",
                     {settings.capacity, static_cast<std::uint64_t>(settings.correction), stored.next, decisions});
  add<double>(file, "feedback.reals", {settings.window, settings.clip, settings.position_bias});
  std::vector<double> times;
  std::vector<std::uint64_t> ends;
  std::vector<float> rewards;
  PayloadWriter lists;
  lists.clear();
  for (const Impression& shown : stored.queue) {
    check_interrupt();
    times.push_back(shown.time);
    if (shown.decision) put_decision(lists, *shown.decision);
    ends.push_back(lists.payload().size());
    rewards.insert(rewards.end(), shown.rewards.begin(), shown.rewards.end());
  }
  add(file, "shown.times", times);
  file.add<std::byte>("shown.lists", lists.payload());
  add(file, "shown.ends", ends);
  add(file, "shown.rewards", rewards);
}

namespace {

Impression load_impression(std::span<const std::byte> bytes, double time, const IdMap& users, const IdMap& items) {
  if (bytes.empty()) return prepare_impression(nullptr, time);
  PayloadReader list(bytes);
  auto decision = std::make_shared<const Decision>(get_decision(list));
  list.finish();
  check_kind(users, decision->user.kind, "user");
  check_kind(items, decision->candidates.kind, "item");
  check_kind(items, decision->history.kind, "item");
  return prepare_impression(std::move(decision), time);
}

}  // namespace

// A file without any of the sections was written before impressions were saved, or by an engine that has none.
void load_impressions(const SnapshotReader& file, Impressions& impressions, std::atomic<std::uint64_t>& decisions,
                      const IdMap& users, const IdMap& items) {
  const auto sections = {"feedback.ints", "feedback.reals", "shown.times",
                         "shown.lists",   "shown.ends",     "shown.rewards"};
  if (std::none_of(sections.begin(), sections.end(), [&file](const char* name) { return file.has(name); })) return;
  const auto ints = read<std::uint64_t>(file, "feedback.ints", 4);
  const auto reals = read<double>(file, "feedback.reals", 3);
  require(ints[1] <= 2, "a setting is out of range");
  Impressions::Stored stored;
  stored.settings = {ints[0], reals[0], static_cast<Correction>(ints[1]), reals[1], reals[2]};
  stored.next = ints[2];
  const auto times = file.array<double>("shown.times");
  const auto ends = read<std::uint64_t>(file, "shown.ends", times.size());
  const auto lists = file.array<std::byte>("shown.lists");
  const auto rewards = file.array<float>("shown.rewards");
  require(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() ? 0 : ends.back()) == lists.size() &&
              std::all_of(ends.begin(), ends.end(), [](std::uint64_t end) { return end % kRecordAlignment == 0; }),
          "shown.ends are out of order");
  require(ints[0] >= times.size() && stored.next > times.size(), "more impressions than there can be");
  for (const float reward : rewards) require(!std::isinf(reward), "a reward is out of range");
  const double clock = read<double>(file, "clock", 1)[0];
  std::size_t at = 0;
  try {
    stored.settings.validate();
    for (std::size_t k = 0; k < times.size(); ++k) {
      check_interrupt();
      // Before there was a clock nothing had a time; older files have 0 there.
      const double time = std::isnan(clock) ? clock : times[k];
      require(std::isnan(time) || std::abs(time) <= kMaxTimestamp, "the time of an impression is out of range");
      const std::uint64_t begin = k == 0 ? 0 : ends[k - 1];
      Impression& shown =
          stored.queue.emplace_back(load_impression(lists.subspan(begin, ends[k] - begin), time, users, items));
      shown.number = stored.next - times.size() + k;
      require(rewards.size() - at >= shown.rewards.size(), "rewards are missing");
      std::copy_n(rewards.begin() + static_cast<std::ptrdiff_t>(at), shown.rewards.size(), shown.rewards.begin());
      at += shown.rewards.size();
    }
  } catch (const PayloadError& error) {
    require(false, "an impression: ", error.what());
  } catch (const std::invalid_argument& error) {
    require(false, "an impression: ", error.what());
  }
  require(at == rewards.size(), "rewards of no impression");
  impressions.restore(std::move(stored));
  decisions.store(ints[3], std::memory_order_relaxed);
}

void save_precisions(SnapshotWriter& file, const Precisions& precisions, Row items, std::size_t dim) {
  const std::vector<Row> known = precisions.known_users();
  std::vector<float> sums;
  for (const Row user : known) {
    const std::span<const float> own = precisions.sums(user);
    sums.insert(sums.end(), own.begin(), own.begin() + static_cast<std::ptrdiff_t>(dim));
  }
  const Precisions::Shared shared = precisions.shared(dim);
  bool none = known.empty() && shared.matrix.empty();
  for (Row item = 0; none && item < items; ++item) none = precisions.shown(item) == 0;
  if (none) return;
  add_each<float>(file, "precision.items", items, [&](Row item) { return precisions.shown(item); });
  add(file, "precision.users", known);
  add(file, "precision.sums", sums);
  if (shared.matrix.empty()) return;
  add<std::uint64_t>(file, "precision.count", {shared.observed});
  add(file, "precision.matrix", shared.matrix);
  add(file, "precision.factor", shared.factor);
}

// The same of a file without any of these.
void load_precisions(const SnapshotReader& file, Precisions& precisions, const std::vector<Row>& users,
                     const std::vector<Row>& items, std::size_t dim) {
  const auto is_there = [&file](const char* name) { return file.has(name); };
  const auto sections = {"precision.items", "precision.users", "precision.sums"};
  const auto shared_sections = {"precision.count", "precision.matrix", "precision.factor"};
  const bool is_shared = std::any_of(shared_sections.begin(), shared_sections.end(), is_there);
  if (!is_shared && std::none_of(sections.begin(), sections.end(), is_there)) return;
  const auto is_sum = [](float value) { return value >= 0 && value <= Precisions::kMostSum; };
  const auto shown = read<float>(file, "precision.items", items.size());
  require(std::all_of(shown.begin(), shown.end(), is_sum), "precision.items holds a value out of range");
  for (std::size_t k = 0; k < items.size(); ++k) precisions.restore_shown(items[k], shown[k]);
  const auto known = file.array<Row>("precision.users");
  const auto sums = file.array<float>("precision.sums");
  require(std::adjacent_find(known.begin(), known.end(), std::greater_equal<>()) == known.end() &&
              std::includes(users.begin(), users.end(), known.begin(), known.end()),
          "precision.users holds an unknown user");
  require(sums.size() % dim == 0 && sums.size() / dim == known.size(), "precision.sums are of other users");
  require(std::all_of(sums.begin(), sums.end(), is_sum), "precision.sums holds a value out of range");
  for (std::size_t k = 0; k < known.size(); ++k) {
    check_interrupt();
    precisions.restore_sums(known[k], sums.subspan(k * dim, dim));
  }
  if (!is_shared) return;
  const auto matrix = read<double>(file, "precision.matrix", dim * dim);
  const auto factor = read<float>(file, "precision.factor", dim * dim);
  const auto is_product = [](double value) { return std::abs(value) <= 1e40; };
  const auto is_factor = [](float value) { return std::abs(value) <= Precisions::kMostFactor; };
  require(std::all_of(matrix.begin(), matrix.end(), is_product), "precision.matrix holds a value out of range");
  require(std::all_of(factor.begin(), factor.end(), is_factor), "precision.factor holds a value out of range");
  try {
    precisions.check_shared();
  } catch (const std::invalid_argument& error) {
    require(false, error.what());
  }
  precisions.restore_shared({read<std::uint64_t>(file, "precision.count", 1)[0],
                             {matrix.begin(), matrix.end()},
                             {factor.begin(), factor.end()}},
                            dim);
}

}  // namespace recengine
