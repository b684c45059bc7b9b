#include "retrieval/cell_index.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/relaxed.hpp"

namespace recengine {

CellIndex::CellIndex(EpochDomain& domain, EmbeddingTable& items)
    : domain_(domain), items_(items), copy_(items.stride()) {
  items.attach(
      [this](std::size_t rows) {
        locations_.reserve(rows);
        rewritten_.reserve(rows);
      },
      [](Row) {});
  auto none = std::make_shared<Centres>();
  none->stride = items.stride();
  directory_.store(new Directory(std::move(none), 0), std::memory_order_release);  // last: nothing may throw after it
}

CellIndex::~CellIndex() {
  Directory* const last = directory_.load(std::memory_order_relaxed);
  for (std::size_t j = 0; j < last->num_cells(); ++j) delete last->cell(j);
  delete last;
}

void CellIndex::follow(std::size_t most) {
  const std::unique_lock lock(lock_, std::try_to_lock);
  if (lock.owns_lock()) follow_locked(most);
}

// A query scores a few pending rows itself, in less time than they take to code.
void CellIndex::follow_many() {
  constexpr std::size_t kFew = 64;
  std::size_t pending = 0;
  items_.dirty.for_each_pending([&pending](Row) { ++pending; });
  if (pending > kFew) follow();
}

void CellIndex::take_pending(std::vector<Row>& rows) const {
  rows.clear();
  items_.dirty.for_each_pending([&rows](Row row) { rows.push_back(row); });
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

void CellIndex::follow_locked(std::size_t most) {
  const auto follow_row = [this](Row row) {
    // Relaxed: only the holder of the lock changes it.
    Directory& now = *directory_.load(std::memory_order_relaxed);
    if (locates(now.cells(), row)) {
      code(now, row);
    } else if (items_.is_live(row)) {
      append(row);
    }
    if (rebuilding_) rewritten_.mark(row);
    on_coded_(row);
  };
  items_.dirty.take(follow_row, most);
}

bool CellIndex::locates(std::span<Cell* const> cells, Row row) const {
  const Location& at = locations_[row];
  if (at.cell_plus_one == 0 || at.cell_plus_one > cells.size()) return false;
  const Cell& cell = *cells[at.cell_plus_one - 1];
  return at.lane < cell.size() && cell.row(at.lane) == row;
}

// The row as it is now, until the next call.
const float* CellIndex::copy_of(Row row) {
  items_.rows.load(row, copy_.data());
  return copy_.data();
}

// A row that has its lane.
void CellIndex::code(Directory& directory, Row row) {
  const Location at = locations_[row];
  const std::size_t j = at.cell_plus_one - 1;
  const float* const values = copy_of(row);
  const float bias = load_relaxed(&items_.bias[row]);
  coded(directory, j, values, directory.cell(j)->write(at.lane, row, values, bias).norm, bias);
  ++worn_[j];
}

void CellIndex::coded(Directory& directory, std::size_t j, const float* values, float norm, float bias) {
  directory.raise(j, values, norm, bias);
}

void CellIndex::append_to(Directory& directory, std::size_t j, Row row) {
  Cell& cell = *directory.cell(j);
  const float* const values = copy_of(row);
  const float bias = load_relaxed(&items_.bias[row]);
  locations_[row] = {static_cast<std::uint32_t>(j + 1), static_cast<std::uint32_t>(cell.size())};
  coded(directory, j, values, cell.append(row, values, bias).norm, bias);
}

// A newcomer: at the end of the last loose cell.
void CellIndex::append(Row row) {
  Directory* now = directory_.load(std::memory_order_relaxed);  // only the holder of the lock changes it
  std::size_t cells = now->num_cells();
  if (cells == now->num_centres() || now->cell(cells - 1)->size() == now->cell(cells - 1)->capacity()) {
    auto fresh = std::make_unique<Directory>(now->shared_centres(), cells + 1);
    for (std::size_t j = 0; j < cells; ++j) fresh->set_cell(j, now->cell(j), now->bounds(j));
    worn_.resize(cells + 1, 0);
    fresh->set_cell(cells, new Cell(kLooseRows, items_.stride()), {0, 0, -INFINITY, 0});
    now = fresh.get();
    publish(std::move(fresh));
    ++cells;
  }
  append_to(*now, cells - 1, row);
}

// The directory that was there goes, with its cells that are not in the new one, once nobody can see it.
void CellIndex::publish(std::unique_ptr<Directory> fresh) {
  std::vector<Cell*> kept;
  for (std::size_t j = 0; j < fresh->num_cells(); ++j) kept.push_back(fresh->cell(j));
  // Release: the directory and its cells are complete.
  Directory* const old = directory_.exchange(fresh.release(), std::memory_order_acq_rel);
  std::vector<Cell*> dropped;
  std::sort(kept.begin(), kept.end());
  for (std::size_t j = 0; j < old->num_cells(); ++j) {
    if (!std::binary_search(kept.begin(), kept.end(), old->cell(j))) dropped.push_back(old->cell(j));
  }
  domain_.retire([old, dropped = std::move(dropped)] {
    for (Cell* cell : dropped) delete cell;
    delete old;
  });
}

std::size_t CellIndex::memory_bytes() const {
  const Directory& now = *directory();
  std::size_t bytes = now.memory_bytes() + locations_.memory_bytes() + rewritten_.memory_bytes();
  for (std::size_t j = 0; j < now.num_cells(); ++j) bytes += now.cell(j)->memory_bytes();
  return bytes;
}

}  // namespace recengine
