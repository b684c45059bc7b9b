#include "retrieval/graph.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "retrieval/graph_beam.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"
#include "storage/parallel.hpp"
#include "storage/random.hpp"

namespace recengine {

namespace {

GraphOptions checked(const GraphOptions& options) {
  if (options.m < 2 || options.m > Graph::kMaxM) {
    throw std::invalid_argument(message("m must be from 2 to ", Graph::kMaxM, ", not ", options.m));
  }
  if (options.ef_construction < 1 || options.ef_construction > Graph::kMaxEf) {
    throw std::invalid_argument(
        message("ef_construction must be from 1 to ", Graph::kMaxEf, ", not ", options.ef_construction));
  }
  return options;
}

}  // namespace

static_assert(kMaxLinks == 2 * Graph::kMaxM);

Graph::Graph(const EmbeddingTable& items, const GraphOptions& options)
    : items_(items),
      options_(checked(options)),
      level_scale_(1 / std::log(static_cast<double>(options.m))),
      signs_(kProjections * items.stride(), 0.0f),
      links_(2 * options.m) {
  for (std::size_t j = 0; j < kProjections; ++j) {
    Random random(~options_.seed, j);
    for (std::size_t d = 0; d < items_.dim(); ++d) {
      signs_[j * items_.stride() + d] = random.uniform() < 0.5f ? -1.0f : 1.0f;
    }
  }
  for (std::atomic<Row>& seed : seeds_) seed.store(kNoRow, std::memory_order_relaxed);
}

void Graph::reserve(std::size_t rows) {
  if (rows <= nodes_.capacity()) return;
  const std::lock_guard lock(grow_mutex_);
  links_.reserve(rows);
  upper_.reserve(rows);
  nodes_.reserve(rows);
}

// Exponentially fewer rows on each level, drawn once and for ever.
std::size_t Graph::level_of(Row row) const {
  Random random(options_.seed, row);
  const double uniform = (static_cast<double>(random.next() >> 11) + 1) * 0x1p-53;  // in (0, 1]
  return std::min(kMaxLevel, static_cast<std::size_t>(-std::log(uniform) * level_scale_));
}

void Graph::build(std::size_t threads) {
  const Row count = items_.count();
  reserve(count);
  std::atomic<Row> next{0};
  std::atomic<bool> stop{false};
  run_parallel(std::max<std::size_t>(threads, 1), stop, [&](std::size_t number) {
    // Relaxed: a flag and a counter, they publish nothing.
    while (!stop.load(std::memory_order_relaxed)) {
      if (number == 0) check_interrupt();
      const Row row = next.fetch_add(1, std::memory_order_relaxed);
      if (row >= count) return;
      if (items_.is_live(row) && !is_linked(row)) insert(row);
    }
  });
}

std::size_t Graph::memory_bytes() const {
  return links_.memory_bytes() + upper_.memory_bytes() + nodes_.memory_bytes() +
         upper_places_.load(std::memory_order_relaxed) * sizeof(LinkList::Place);
}

}  // namespace recengine
