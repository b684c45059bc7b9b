// Learning of the Ranker: ranker.hpp says what.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "ranker/ranker.hpp"
#include "retrieval/flat.hpp"
#include "retrieval/top_k.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {

constexpr std::uint64_t kDueStream = 0x72616E6Bu;     // "rank": not what draws negatives
constexpr std::uint64_t kSampleStream = 0x73616D70u;  // "samp"
constexpr std::uint64_t kOpeningEvery = 4;   // one in so many of the events that open a session is learned from,
constexpr std::uint64_t kOtherEvery = 64;    // and of the others. A multiple of the former. Of the first events more:
constexpr std::uint64_t kFirstEvents = 512;  // all of so many, half of twice as many, and so on; but
constexpr std::uint64_t kFewEvents = 1024;   // none of these, while most items are new and nothing holds
// Of a lesson. One that counts hundredfold would swell Adagrad's sums, which forget over some 10,000 lessons: what it
// had moved would stay where it is.
constexpr float kMostWeight = 8;
constexpr Row kScanned = 2048;       // rows: of more, not all are looked at for one lesson
constexpr std::size_t kDrawn = 512;  // but so many

}  // namespace

bool Ranker::is_due(const Event& event) const {
  const std::uint64_t draw = Random(settings_.seed ^ kDueStream, event.sequence).next();
  if (!(event.weight > 0) || event.sequence < kFewEvents) return false;
  const std::uint64_t every = std::min(kOtherEvery, std::bit_floor(event.sequence / kFirstEvents + 1));
  if (draw % every == 0) return true;
  return draw % kOpeningEvery == 0 && !model_.user_state.goes_on(event.user, event.timestamp);
}

// The embedding's best, but those that are candidates already. Of a large catalogue they are sought among items drawn
// like negatives, each of which then stands for those that were not drawn.
void Ranker::add_retrieved(const Event& event, const QueryVector& query, Scratch& work) const {
  const EmbeddingTable& items = model_.items;
  const bool whole = items.count() <= kScanned;
  TopK<float> top(kRetrieved);
  if (whole) {
    scan_flat(items, query.x.data(), {}, top);
  } else {
    work.drawn.resize(kDrawn);
    work.drawn_corrections.resize(kDrawn);
    Random random(settings_.seed ^ kSampleStream, event.sequence);
    const std::size_t count = sampler_.mixed(random, event.item, kDrawn, settings_.recent_share, work.drawn.data(),
                                             work.drawn_corrections.data());
    work.drawn.resize(count);
    work.scores.resize(kDrawn);
    items.rows.gather_dot(query.x.data(), work.drawn, work.scores.data());
    for (std::size_t k = 0; k < count; ++k) {
      top.push(work.scores[k] + load_relaxed(&items.bias[work.drawn[k]]), static_cast<Row>(k));
    }
    // What is learned from would be among the best if these are.
    const float score = items.rows.dot(query.x.data(), event.item) + load_relaxed(&items.bias[event.item]);
    if (score >= top.threshold() && !work.evidence.is_candidate(event.item)) {
      work.rows.push_back(event.item);
      work.corrections.push_back(1);
    }
  }
  for (const auto& [score, place] : top.take_sorted()) {
    const Row row = whole ? place : work.drawn[place];
    if (work.evidence.is_candidate(row)) continue;
    work.rows.push_back(row);
    work.corrections.push_back(whole ? 1.0f : work.drawn_corrections[place]);
  }
}

// Fills work.rows with the event's item first. False if it is not among the candidates.
bool Ranker::gather_candidates(const Event& event, const QueryVector& query, Scratch& work) const {
  work.rows.clear();
  work.corrections.clear();
  const std::vector<Row>& chosen = work.evidence.choose([this](Row row) { return model_.items.is_live(row); });
  add_retrieved(event, query, work);
  work.rows.insert(work.rows.end(), chosen.begin(), chosen.end());
  const std::size_t found = work.rows.size();
  model_.demand->popular.for_each([&](Row row) {
    const auto end = work.rows.begin() + static_cast<std::ptrdiff_t>(found);
    if (model_.items.is_live(row) && std::find(work.rows.begin(), end, row) == end) work.rows.push_back(row);
  });
  work.corrections.resize(work.rows.size(), 1.0f);
  const auto own = std::find(work.rows.begin(), work.rows.end(), event.item);
  if (own == work.rows.end()) return false;
  std::swap(*own, work.rows.front());
  std::swap(work.corrections[static_cast<std::size_t>(own - work.rows.begin())], work.corrections.front());
  return true;
}

void Ranker::learn(const Event& event) {
  QueryVector query;
  model_.compose(event.user, event.timestamp, query);
  Query asked(*this, query, event.user, event.timestamp, {});
  Scratch& work = *asked.work_;
  if (work.entries.empty()) return;  // who has no history is shown what is popular
  if (!gather_candidates(event, query, work)) return;
  SignalMatrix& signals = work.signals;
  asked.weigh(work.rows);

  // Softmax: slopes are the probabilities, less one for the event's item.
  const Kernels& kernels = active_kernels();
  const std::size_t count = work.rows.size();
  const float highest =
      *std::max_element(work.scores.begin(), work.scores.begin() + static_cast<std::ptrdiff_t>(count));
  work.slopes.assign(work.scores.begin(), work.scores.end());
  kernels.exponentials(work.slopes.data(), 1, -highest, signals.stride());
  float total = 0;
  for (std::size_t j = 0; j < count; ++j) total += work.slopes[j] *= work.corrections[j];
  const float weight = std::min(event.weight, kMostWeight);
  for (std::size_t j = 0; j < count; ++j) work.slopes[j] *= weight / total;
  work.slopes[0] -= weight;
  std::fill(work.slopes.begin() + static_cast<std::ptrdiff_t>(count), work.slopes.end(), 0.0f);

  work.gradient.resize(signals.count());
  kernels.scan(work.slopes.data(), signals.row(0), nullptr, signals.count(), signals.stride(), work.gradient.data());
  weights.step(asked.in_session(), work.gradient.data());
  if (network) network->step(work.slopes.data(), work.network);
}

}  // namespace recengine
