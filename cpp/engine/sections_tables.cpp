// Users and items in an engine's file: ids, rows, biases, Adagrad's sums.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "engine/engine.hpp"
#include "engine/sections.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/fence.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

std::vector<Row> live_rows(const EmbeddingTable& table) {
  std::vector<Row> rows;
  for (Row row = 0; row < table.count(); ++row) {
    if (table.is_live(row)) rows.push_back(row);
  }
  return rows;
}

namespace {

// Rows as the table holds them: a half that was converted comes back as it was.
template <class Element>
void save_vectors(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table,
                  const std::vector<Row>& rows) {
  AlignedFloats padded(table.stride());
  AlignedVector<Element> elements(table.stride());
  file.begin<Element>(name);
  for (const Row row : rows) {
    check_interrupt();
    table.rows.load(row, padded.data());
    row_kernels<Element>().store(elements.data(), padded.data(), padded.size());
    file.append(std::span<const Element>(elements).first(table.dim()));
  }
  file.end();
}

template <class Element>
void load_vectors(const SnapshotReader& file, const std::string& name, std::span<const Row> slots,
                  EmbeddingTable& table) {
  const auto vectors = read<Element>(file, name, slots.size() * table.dim());
  AlignedFloats padded(table.stride());
  AlignedVector<Element> elements(table.stride(), Element{});
  for (std::size_t k = 0; k < slots.size(); ++k) {
    check_interrupt();
    std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>(k * table.dim()), table.dim(), elements.begin());
    row_kernels<Element>().load(padded.data(), elements.data(), padded.size());
    try {
      check_finite(padded, name);
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    table.rows.store(slots[k], padded.data());
  }
}

}  // namespace

void save_table(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table,
                const std::vector<Row>& rows) {
  IdArray ids;
  for (const Row row : rows) ids.append(table.ids, row);
  add(file, name + ".slots", rows);
  add(file, name + ".free", table.free_slots());
  add(file, name + ".ints", ids.ints);
  file.add<char>(name + ".text", std::span<const char>(ids.bytes));
  add(file, name + ".offsets", ids.offsets);
  const auto save = table.storage() == Storage::kFp32 ? save_vectors<float> : save_vectors<Half>;
  save(file, name + ".vectors", table, rows);
  file.begin<float>(name + ".scalars");
  for (const Row row : rows) {
    const std::array<float, 3> scalars{load_relaxed(&table.bias[row]), load_relaxed(&table.accumulators[row].row),
                                       load_relaxed(&table.accumulators[row].bias)};
    file.append(std::span<const float>(scalars));
  }
  file.end();
}

std::vector<Row> load_table(const SnapshotReader& file, const std::string& name, IdKind kind, EmbeddingTable& table) {
  const auto slots = file.array<Row>(name + ".slots");
  const auto free = file.array<Row>(name + ".free");
  const std::size_t size = slots.size();
  const std::size_t count = size + free.size();
  require(count < kNoRow, name, " has too many slots");
  std::vector<bool> used(count);
  const auto claim = [&](Row slot) {
    require(slot < count && !used[slot], name, " has slot ", slot, " twice or out of range");
    used[slot] = true;
  };
  std::for_each(slots.begin(), slots.end(), claim);
  std::for_each(free.begin(), free.end(), claim);

  const auto scalars = read<float>(file, name + ".scalars", size * 3);
  for (std::size_t k = 0; k < scalars.size(); ++k) {
    require(std::isfinite(scalars[k]) && (k % 3 == 0 || scalars[k] >= 0), name, ".scalars holds a value out of range");
  }
  const auto ints = read<std::int64_t>(file, name + ".ints", kind == IdKind::kInt ? size : 0);
  const auto text = file.array<char>(name + ".text");
  const auto offsets = read<std::uint64_t>(file, name + ".offsets", kind == IdKind::kString ? size + 1 : 1);
  require(offsets.front() == 0 && offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()), name,
          ".offsets are out of order");
  const IdSpan ids{kind, size, ints.data(), text.data(), offsets.data()};

  table.restore_slots(static_cast<Row>(count), {free.begin(), free.end()});
  const auto load = table.storage() == Storage::kFp32 ? load_vectors<float> : load_vectors<Half>;
  load(file, name + ".vectors", slots, table);
  table.ids.reserve(size);
  if (kind != IdKind::kNone) table.ids.claim_kind(kind);
  for (std::size_t k = 0; k < size; ++k) {
    check_interrupt();
    const Row slot = slots[k];
    try {
      if (kind == IdKind::kString) validate_id(ids.string_at(k));
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    const bool fresh = with_key(id_at(ids, k), [&](auto key) { return table.restore_id(key, slot); });
    require(fresh, name, " has id ", describe(id_at(ids, k)), " twice");
    store_relaxed(&table.bias[slot], scalars[3 * k]);
    store_relaxed(&table.accumulators[slot].row, scalars[3 * k + 1]);
    store_relaxed(&table.accumulators[slot].bias, scalars[3 * k + 2]);
    full_fence();
    table.mark_replaced(slot);
  }
  return {slots.begin(), slots.end()};
}

}  // namespace recengine
