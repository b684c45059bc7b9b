// Users and items in an engine's file: ids, rows, biases, Adagrad's sums.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <optional>
#include <stdexcept>

#include "engine/engine.hpp"
#include "engine/sections.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/fence.hpp"
#include "storage/id_index.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

std::vector<Row> all_slots(const EmbeddingTable& table) {
  std::vector<Row> slots(table.count());
  std::iota(slots.begin(), slots.end(), Row{0});
  return slots;
}

std::vector<std::uint64_t> live_words(const EmbeddingTable& table) {
  std::vector<std::uint64_t> words(table.count() / 64 + 1, 0);
  for (std::size_t word = 0; word * 64 < table.count(); ++word) words[word] = table.live_word(word);
  return words;
}

namespace {

// Rows as the table holds them, padding included: a file that is mapped is such a table. Nobody writes them meanwhile.
template <class Element>
void save_vectors(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table) {
  file.begin<Element>(name);
  table.rows.for_each_piece<Element>(table.count(), [&file](std::span<const Element> rows) {
    check_interrupt();
    file.append(rows);
  });
  file.end();
}

// Of `width` elements each in the file: dim, or with the padding the stride.
template <class Element>
void load_vectors(const SnapshotReader& file, const std::string& name, std::span<const Row> slots, std::size_t width,
                  EmbeddingTable& table) {
  const auto vectors = read<Element>(file, name, slots.size() * width);
  AlignedFloats padded(table.stride());
  AlignedVector<Element> elements(table.stride(), Element{});
  for (std::size_t k = 0; k < slots.size(); ++k) {
    check_interrupt();
    std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>(k * width), width, elements.begin());
    row_kernels<Element>().load(padded.data(), elements.data(), padded.size());
    try {
      check_finite(padded, name);
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    require(std::all_of(padded.begin() + static_cast<std::ptrdiff_t>(table.dim()), padded.end(),
                        [](float value) { return value == 0; }),
            name, " holds something beyond a row's end");
    table.rows.store(slots[k], padded.data());
  }
}

// Which slots are live, in a file of version 1 and of later ones.
std::vector<Row> load_slots(const SnapshotReader& file, const std::string& name) {
  if (file.version() == 1) {
    const auto slots = file.array<Row>(name + ".slots");
    return {slots.begin(), slots.end()};
  }
  const std::size_t count = file.array<float>(name + ".biases").size();
  require(count < kNoRow, name, " has too many slots");
  const auto words = read<std::uint64_t>(file, name + ".live", count / 64 + 1);
  require(words.back() >> (count % 64) == 0, name, ".live has a slot out of range");
  std::vector<Row> slots;
  for (std::size_t word = 0; word < words.size(); ++word) {
    for (std::uint64_t bits = words[word]; bits != 0; bits &= bits - 1) {
      slots.push_back(static_cast<Row>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
    }
  }
  return slots;
}

// Bias, sum of squares of the row, and of the bias: of the k-th row of the file.
std::array<std::span<const float>, 2> load_scalars(const SnapshotReader& file, const std::string& name,
                                                   std::size_t rows) {
  if (file.version() == 1) return {read<float>(file, name + ".scalars", rows * 3), {}};
  return {read<float>(file, name + ".biases", rows), read<float>(file, name + ".sums", rows * 2)};
}

}  // namespace

void save_table(SnapshotWriter& file, const std::string& name, const EmbeddingTable& table,
                const std::vector<Row>& removed, IdArray& ids) {
  const Row count = table.count();
  ids.kind = table.ids.kind();
  for (Row row = 0; row < count; ++row) {
    if (table.is_live(row)) {
      ids.append(table.ids, row);
    } else {
      ids.append_blank();
    }
  }
  std::vector<Row> free = table.free_slots();
  free.insert(free.end(), removed.begin(), removed.end());
  add(file, name + ".live", live_words(table));
  add(file, name + ".free", free);
  const auto save = table.storage() == Storage::kFp32 ? save_vectors<float> : save_vectors<Half>;
  save(file, name + ".vectors", table);
  add_each<float>(file, name + ".biases", count, [&](Row row) { return load_relaxed(&table.bias[row]); });
  Numbers<float> sums(file, name + ".sums");
  for (Row row = 0; row < count; ++row) {
    sums.push(load_relaxed(&table.accumulators[row].row));
    sums.push(load_relaxed(&table.accumulators[row].bias));
  }
  sums.end();
}

void save_ids(SnapshotWriter& file, const std::string& name, const IdArray& ids, std::span<const std::uint64_t> live) {
  add(file, name + ".ints", ids.ints);
  file.add<char>(name + ".text", std::span<const char>(ids.bytes));
  add(file, name + ".offsets", ids.offsets);
  const auto [words, key] =
      IdIndex::build(ids.span(), [live](std::size_t row) { return (live[row / 64] >> (row % 64) & 1) != 0; });
  add(file, name + ".index", words);
  add<std::uint64_t>(file, name + ".key", {key.a, key.b});
}

IdIndex load_index(const SnapshotReader& file, const std::string& name, const IdSpan& ids, std::size_t live) {
  const auto words = file.array<std::uint64_t>(name + ".index");
  IdHashKey key;
  std::size_t farthest = words.size();  // before version 3: wherever it may be
  if (file.version() >= 3) {
    const auto given = read<std::uint64_t>(file, name + ".key", 2);
    key = {given[0], given[1]};
    farthest = IdIndex::kFarthest;
  }
  try {
    return IdIndex(ids, file.array<char>(name + ".text").size(), words, live, key, farthest);
  } catch (const std::invalid_argument& error) {
    throw Damage(message(name, ".index: ", error.what()));
  }
}

std::vector<Row> load_table(const SnapshotReader& file, const std::string& name, IdKind kind, EmbeddingTable& table) {
  const std::vector<Row> slots = load_slots(file, name);
  const auto free = file.array<Row>(name + ".free");
  const std::size_t count = slots.size() + free.size();
  require(count < kNoRow, name, " has too many slots");
  std::vector<bool> used(count);
  const auto claim = [&](Row slot) {
    require(slot < count && !used[slot], name, " has slot ", slot, " twice or out of range");
    used[slot] = true;
  };
  std::for_each(slots.begin(), slots.end(), claim);
  std::for_each(free.begin(), free.end(), claim);
  table.restore_slots(static_cast<Row>(count), {free.begin(), free.end()});
  const bool has_all = file.version() > 1;  // slots, not only live ones
  const std::vector<Row> rows = has_all ? all_slots(table) : slots;
  const std::size_t size = rows.size();

  const auto [biases, sums] = load_scalars(file, name, size);
  const auto scalar = [&, all = biases, squares = sums](std::size_t k, std::size_t which) {
    if (!has_all) return all[3 * k + which];
    return which == 0 ? all[k] : squares[2 * k + which - 1];
  };
  for (std::size_t k = 0; k < size; ++k) {
    require(std::isfinite(scalar(k, 0)) && std::isfinite(scalar(k, 1)) && scalar(k, 1) >= 0 &&
                std::isfinite(scalar(k, 2)) && scalar(k, 2) >= 0,
            name, " holds a bias or a sum out of range");
  }
  const auto ints = read<std::int64_t>(file, name + ".ints", kind == IdKind::kInt ? size : 0);
  const auto text = file.array<char>(name + ".text");
  const auto offsets = read<std::uint64_t>(file, name + ".offsets", kind == IdKind::kString ? size + 1 : 1);
  require(offsets.front() == 0 && offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()), name,
          ".offsets are out of order");
  require(kind != IdKind::kNone || size == 0, name, " are of no kind");
  const IdSpan ids{kind, size, ints.data(), text.data(), offsets.data()};

  const auto load = table.storage() == Storage::kFp32 ? load_vectors<float> : load_vectors<Half>;
  load(file, name + ".vectors", rows, has_all ? table.stride() : table.dim(), table);
  std::optional<IdIndex> index;
  if (has_all) {
    index.emplace(load_index(file, name, ids, slots.size()));
    require(index->used() == slots.size(), name, ".index has ", index->used(), " ids, not ", slots.size());
  }
  table.ids.reserve(slots.size());
  if (kind != IdKind::kNone) table.ids.claim_kind(kind);
  for (std::size_t place = 0; place < slots.size(); ++place) {
    check_interrupt();
    const Row slot = slots[place];
    const std::size_t k = has_all ? slot : place;
    try {
      if (kind == IdKind::kString) validate_id(ids.string_at(k));
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    const bool fresh = with_key(id_at(ids, k), [&](auto key) { return table.restore_id(key, slot); });
    if (!fresh) require(false, name, " has id ", describe(id_at(ids, k)), " twice");
    if (index && find(*index, id_at(ids, k)) != slot) {
      require(false, name, ".index does not have id ", describe(id_at(ids, k)));
    }
    store_relaxed(&table.bias[slot], scalar(k, 0));
    store_relaxed(&table.accumulators[slot].row, scalar(k, 1));
    store_relaxed(&table.accumulators[slot].bias, scalar(k, 2));
    full_fence();
    table.mark_replaced(slot);
  }
  AlignedFloats values(table.stride());
  for (std::size_t k = 0; has_all && k < free.size(); ++k) {
    const Row slot = free[k];
    table.rows.load(slot, values.data());
    const bool is_blank = std::all_of(values.begin(), values.end(), [](float value) { return value == 0; }) &&
                          scalar(slot, 0) == 0 && scalar(slot, 1) == 0 && scalar(slot, 2) == 0 &&
                          (kind == IdKind::kInt ? ints[slot] == 0 : ids.string_at(slot).empty());
    require(is_blank, name, " holds something in free slot ", slot);
  }
  return rows;
}

}  // namespace recengine
