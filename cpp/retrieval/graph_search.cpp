#include "retrieval/graph.hpp"
#include "retrieval/graph_beam.hpp"

namespace recengine {

std::size_t Graph::search(const float* query, std::size_t ef, const Selection& selection, TopK<float>& top) const {
  // Acquire: the entry's lists, and everything they lead to, are there.
  const Row entry = entry_.load(std::memory_order_acquire);
  if (entry == kNoRow) return 0;
  const std::size_t limit = nodes_.capacity();
  const InnerProduct score(items_, query);
  // The entry too, not only what the descent from it ends at: it is what every row can be reached from on level 0.
  std::array<Row, kSeeds + 2> starts{entry, entry};
  std::size_t count = 2;
  for (std::size_t level = level_of(entry); level > 0; --level) {
    starts[0] = descend(score, [this, level](Row row) { return list(row, level); }, starts[0], limit);
  }
  for (const std::atomic<Row>& seed : seeds_) {
    const Row row = seed.load(std::memory_order_acquire);  // as the entry
    if (row != kNoRow) starts[count++] = row;
  }
  const GraphScratch scratch;
  const auto accept = [&](Row row) { return items_.is_live(row) && selection.admits(row); };
  search_level(score, [this](Row row) { return links_[row]; }, accept, {starts.data(), count}, ef, limit, scratch);
  for (const Scored<float>& found : scratch->results) top.push(found.score, found.row);
  return scratch->visited.size();
}

}  // namespace recengine
