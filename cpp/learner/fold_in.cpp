#include "learner/fold_in.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/kernels.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr std::size_t kItemTile = 32;    // items turned at a time
constexpr float kTolerance = 1e-6f;      // of the residual: as exact as floats get
constexpr std::size_t kSpareSteps = 16;  // beyond one for each item, after which only rounding is left
constexpr std::size_t kMostSteps = 500;
constexpr std::size_t kMovedShare = 8;

struct Scratch {
  AlignedFloats tile, turned, here, work;
  std::vector<const float*> rows;
};

}  // namespace

struct FoldIn::Basis {
  GramianBasis gramian;
  AlignedFloats common;
  std::uint64_t version;
  Row count;  // rows of the table then
};

FoldIn::FoldIn(EpochDomain& domain, const EmbeddingTable& items, const AlsSettings& settings)
    : domain_(domain), items_(items), settings_(settings) {
  settings_.validate();
}

FoldIn::~FoldIn() { delete basis_.load(std::memory_order_relaxed); }

void FoldIn::moved(std::size_t rows) {
  const std::size_t most = std::max<std::size_t>(items_.size() / kMovedShare, 1);
  // Relaxed: a count; the version that it raises orders what matters.
  if (moved_.fetch_add(rows, std::memory_order_relaxed) + rows < most) return;
  moved_.store(0, std::memory_order_relaxed);
  invalidate();
}

// Release: whoever sees the version sees the rows that were written before.
void FoldIn::invalidate() { version_.fetch_add(1, std::memory_order_release); }

const FoldIn::Basis& FoldIn::fresh_basis() {
  // Acquire: pairs with the release of a basis, complete, below.
  const Basis* found = basis_.load(std::memory_order_acquire);
  const std::uint64_t version = version_.load(std::memory_order_acquire);
  const Row count = items_.count();
  const auto serves = [&](const Basis* basis) {
    return basis != nullptr && basis->version >= version &&
           count - std::min(basis->count, count) <= count / kMovedShare;
  };
  if (serves(found)) return *found;
  std::atomic<bool> stop{false};
  const auto copy = [this](std::size_t first, std::size_t size, AlignedFloats& room) -> const float* {
    room.resize(size * items_.stride());
    for (std::size_t k = 0; k < size; ++k) {
      items_.rows.load(static_cast<Row>(first + k), &room[k * items_.stride()]);
    }
    return room.data();
  };
  auto fresh = std::make_unique<Basis>();
  fresh->gramian = gramian_basis(copy, count, items_.dim(), items_.stride(), 1, stop);
  if (stop.load(std::memory_order_relaxed)) throw Interrupted();
  fresh->common = fresh->gramian.values;
  for (float& value : fresh->common) value *= settings_.unobserved_weight;
  fresh->version = version;
  fresh->count = count;
  while (true) {
    if (found != nullptr && found->version > version) return *found;  // another's, of newer rows
    // Release: the basis is complete. Acquire: so is the one that another published meanwhile.
    if (basis_.compare_exchange_weak(found, fresh.get(), std::memory_order_acq_rel, std::memory_order_acquire)) break;
  }
  if (found != nullptr) domain_.retire([found] { delete found; });
  return *fresh.release();
}

void FoldIn::solve(std::span<const Row> items, std::span<const float> weights, float* x) {
  const std::size_t n = items_.stride(), dim = items_.dim();
  std::fill_n(x, n, 0.0f);
  if (items.empty()) return;
  const Kernels& kernels = active_kernels();
  const Basis& basis = fresh_basis();
  thread_local Scratch scratch;
  scratch.tile.resize(kItemTile * n);
  scratch.turned.assign(items.size() * n, 0.0f);
  scratch.rows.resize(items.size());
  for (std::size_t first = 0; first < items.size(); first += kItemTile) {
    const std::size_t size = std::min(kItemTile, items.size() - first);
    for (std::size_t k = 0; k < size; ++k) {
      items_.rows.load(items[first + k], &scratch.tile[k * n]);
      scratch.rows[first + k] = &scratch.turned[(first + k) * n];
    }
    kernels.multiply(scratch.tile.data(), n, 1, basis.gramian.vectors.data(), dim, &scratch.turned[first * n], size, n);
  }
  scratch.here.assign(n, 0.0f);
  scratch.work.resize(3 * n);
  const LeastSquares problem{scratch.rows.data(),
                             weights.data(),
                             items.size(),
                             basis.common.data(),
                             als_ridge(settings_, items.size(), items_.size()),
                             std::min(items.size() + kSpareSteps, kMostSteps),
                             kTolerance};
  kernels.solve_row(problem, scratch.here.data(), scratch.work.data(), n);
  kernels.multiply(scratch.here.data(), n, 1, basis.gramian.transposed.data(), dim, x, 1, n);
}

}  // namespace recengine
