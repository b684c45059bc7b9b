// Distances between rows, the choice of links by them, and how far a row has moved.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "retrieval/graph.hpp"
#include "retrieval/graph_beam.hpp"

namespace recengine {

namespace {

constexpr float kClip = 0.25f;   // T, as a share of the longest row's length
constexpr float kDrift = 0.15f;  // as a share of the row's length

}  // namespace

float Graph::limit() const { return kClip * kClip * longest_.load(std::memory_order_relaxed); }

float Graph::lift(float square, float limit) const { return square < limit ? std::sqrt(limit - square) : 0.0f; }

void Graph::load_point(Row row, Point& point) const {
  point.x.resize(items_.stride());
  items_.rows.load(row, point.x.data());
  point.square = active_kernels().square_norm(point.x.data(), items_.stride());
  point.bias = load_relaxed(&items_.bias[row]);
  point.lift = lift(point.square, limit());
}

void Graph::measure(const Point& point, std::span<const Row> rows, std::vector<Candidate>& candidates) const {
  std::array<float, kMaxLinks> dots;
  const float bound = limit();
  candidates.clear();
  for (std::size_t first = 0; first < rows.size(); first += kMaxLinks) {
    const std::size_t count = std::min(kMaxLinks, rows.size() - first);
    items_.rows.gather_dot(point.x.data(), rows.subspan(first, count), dots.data());
    for (std::size_t i = 0; i < count; ++i) {
      const Row row = rows[first + i];
      Candidate candidate{0, row, items_.rows.square_norm(row), load_relaxed(&items_.bias[row]), 0};
      candidate.lift = lift(candidate.square, bound);
      const float bias = point.bias - candidate.bias;
      const float height = point.lift - candidate.lift;
      // Not below zero: rounding, or a row that moved between its square and its product.
      candidate.distance =
          std::max(0.0f, point.square + candidate.square - 2 * dots[i] + bias * bias + height * height);
      candidates.push_back(candidate);
    }
  }
}

// The neighbour heuristic (Malkov and Yashunin 2018, Algorithm 4): nearest first, a candidate is chosen unless one
// chosen before is nearer to it than the point is, or equal to it. Rows equal to a chosen one go to each other in turn,
// as a chain, so that many equal rows don't overflow the list of one. Sorts the candidates.
void Graph::select(std::vector<Candidate>& candidates, std::size_t count, std::vector<Row>& chosen,
                   std::vector<Dropped>* dropped) const {
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.row < b.row;
  });
  chosen.clear();
  std::array<Candidate, kMaxLinks> kept;
  std::array<Row, kMaxLinks> last_equal;
  AlignedFloats x(items_.stride());
  constexpr std::size_t kTile = 4;  // that gather_dot works on at once
  std::array<float, kTile> dots;
  for (const Candidate& candidate : candidates) {
    if (chosen.size() == count && dropped == nullptr) return;
    items_.rows.load(candidate.row, x.data());
    Row cover = kNoRow;
    for (std::size_t first = 0; first < chosen.size() && cover == kNoRow; first += kTile) {
      const std::size_t tile = std::min(kTile, chosen.size() - first);
      items_.rows.gather_dot(x.data(), std::span<const Row>(chosen).subspan(first, tile), dots.data());
      for (std::size_t i = 0; i < tile && cover == kNoRow; ++i) {
        const Candidate& other = kept[first + i];
        const float bias = candidate.bias - other.bias;
        const float height = candidate.lift - other.lift;
        const float apart = candidate.square + other.square - 2 * dots[i] + bias * bias + height * height;
        if (apart == 0) {
          cover = std::exchange(last_equal[first + i], candidate.row);
        } else if (apart < candidate.distance) {
          cover = other.row;
        }
      }
    }
    if (cover == kNoRow && chosen.size() < count) {
      kept[chosen.size()] = candidate;
      last_equal[chosen.size()] = candidate.row;
      chosen.push_back(candidate.row);
    } else if (dropped != nullptr) {
      dropped->push_back({candidate.row, cover});
    }
  }
}

std::array<float, Graph::kProjections> Graph::project(Row row) const {
  std::array<float, kProjections> projections;
  for (std::size_t j = 0; j < kProjections; ++j) {
    projections[j] = items_.rows.dot(signs_.data() + j * items_.stride(), row) + load_relaxed(&items_.bias[row]);
  }
  return projections;
}

// The squares of how far the projections have moved are, on average, the square of how far the row has (Alon, Matias
// and Szegedy 1996): four floats a row instead of a copy.
bool Graph::has_drifted(Row row) const {
  const std::array<float, kProjections> now = project(row);
  float moved = 0;
  for (std::size_t j = 0; j < kProjections; ++j) {
    const float step = now[j] - nodes_[row].projections[j];
    moved += step * step / kProjections;
  }
  const float bias = load_relaxed(&items_.bias[row]);
  return moved > kDrift * kDrift * (items_.rows.square_norm(row) + bias * bias);
}

}  // namespace recengine
