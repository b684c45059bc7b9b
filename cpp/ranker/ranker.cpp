#include "ranker/ranker.hpp"

#include <algorithm>
#include <stdexcept>

#include "kernels/kernels.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr std::size_t kBlock = 256;  // candidates scored at once: their signals stay in the first cache
constexpr std::size_t kPooled = 2;

}  // namespace

std::vector<std::unique_ptr<Ranker::Scratch>>& Ranker::pool() {
  thread_local std::vector<std::unique_ptr<Scratch>> unused;
  return unused;
}

Ranker::Ranker(Model& model, const Settings& settings)
    : features(settings.item_features.size()),
      weights(kSignals + settings.item_features.size()),
      model_(model),
      settings_(settings),
      sampler_(model) {
  check_feature_names(settings.item_features);
  if (settings.ranker == RankerKind::kMlp) network.emplace(num_signals(), settings.seed);
  if (!on()) return;
  model.items.attach([this](std::size_t count) { features.reserve(count); }, [this](Row item) { features.wipe(item); });
}

void check_feature_names(std::span<const std::string> names) {
  for (const std::string& name : names) {
    if (std::find(kSignalNames.begin(), kSignalNames.end(), name) != kSignalNames.end()) {
      throw std::invalid_argument(message("item_features must not have the name of a signal, '", name, "'"));
    }
  }
}

// ---- queries

Ranker::Query::Query(const Ranker& ranker, const QueryVector& query, Row user, double now,
                     std::span<const float> context)
    : ranker_(ranker), query_(query), now_(now), context_(context) {
  pool().reserve(kPooled);
  if (pool().empty()) {
    work_ = std::make_unique<Scratch>();
  } else {
    work_ = std::move(pool().back());
    pool().pop_back();
  }
  const Model& model = ranker.model_;
  work_->entries.clear();
  if (user != kNoRow) {
    work_->items.resize(kRankerHistory);
    work_->times.resize(kRankerHistory);
    const std::uint32_t count =
        model.user_state.last_items(user, now, work_->items.data(), kRankerHistory, work_->times.data());
    for (std::uint32_t k = 0; k < count; ++k) {
      if (model.items.is_live(work_->items[k].item)) work_->entries.push_back({work_->items[k], work_->times[k]});
    }
  }
  work_->evidence.gather(model.cooccurrence, work_->entries, now);
}

Ranker::Query::Query(const Ranker& ranker, const QueryVector& query, std::span<const Row> session, double now,
                     std::span<const float> context)
    : Query(ranker, query, kNoRow, now, context) {
  const std::size_t count = std::min<std::size_t>(session.size(), kRankerHistory);
  for (std::size_t k = 0; k < count; ++k) {
    work_->entries.push_back({{session[session.size() - 1 - k], true, false}, static_cast<float>(now)});
  }
  work_->evidence.gather(ranker.model_.cooccurrence, work_->entries, now);
}

Ranker::Query::~Query() {
  if (pool().size() < pool().capacity()) pool().push_back(std::move(work_));
}

std::size_t Ranker::Query::num_own() const { return work_->evidence.num_own_candidates(); }
bool Ranker::Query::is_candidate(Row row) const { return work_->evidence.is_candidate(row); }
Row Ranker::Query::last_item() const { return work_->evidence.last_source(); }
bool Ranker::Query::in_session() const { return work_->evidence.in_session(); }

void Ranker::Query::score(std::span<const Row> rows, float* out) {
  for (std::size_t first = 0; first < rows.size(); first += kBlock) {
    const std::span<const Row> block = rows.subspan(first, std::min(kBlock, rows.size() - first));
    weigh(block);
    std::copy_n(work_->scores.data(), block.size(), out + first);
  }
}

void Ranker::Query::weigh(std::span<const Row> rows) {
  SignalMatrix& signals = work_->signals;
  signals.fill(ranker_.model_, ranker_.features, query_, work_->evidence, rows, now_);
  work_->weights.resize(signals.count());
  ranker_.weights.load(in_session(), work_->weights.data());
  for (std::size_t f = 0; f < context_.size(); ++f) work_->weights[kSignals + f] += context_[f];
  work_->scores.assign(signals.stride(), 0.0f);
  active_kernels().multiply(work_->weights.data(), signals.count(), 1, signals.row(0), signals.count(),
                            work_->scores.data(), 1, signals.stride());
  if (!ranker_.network) return;
  ranker_.network->add(ranker_.model_, query_, signals, rows, in_session(), work_->network, work_->scores.data());
}

}  // namespace recengine
