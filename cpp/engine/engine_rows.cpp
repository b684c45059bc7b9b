#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "engine/engine.hpp"
#include "kernels/relaxed.hpp"
#include "storage/fence.hpp"
#include "storage/file.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr float kMaxCoordinate = 1e15f;  // the inner product of two such rows of the largest dimension is still finite

// Removed items are forgotten by user states in bulk, once they are this many or one in so many.
constexpr std::size_t kSweepCount = 64;
constexpr std::size_t kSweepShare = 8;

}  // namespace

void check_finite(std::span<const float> values, std::string_view what) {
  for (std::size_t k = 0; k < values.size(); ++k) {
    if (std::abs(values[k]) <= kMaxCoordinate) continue;  // also false for NaN
    throw std::invalid_argument(message(what, " must be finite and at most 1e15, not ", values[k], " at position ", k));
  }
}

std::vector<float> Engine::user_vectors(const IdSpan& users) {
  const auto pin = pin_query();
  const std::vector<Row> rows = find_all(model_.users.ids, users, "user");
  std::vector<float> vectors;
  QueryVector query;
  for (const Row row : rows) {
    if (vectors.size() % (kRowsPerPin * settings_.dim) == 0) check_interrupt();
    model_.compose(row, latest_timestamp(), query);
    vectors.insert(vectors.end(), query.x.begin(), query.x.begin() + static_cast<std::ptrdiff_t>(settings_.dim));
  }
  return vectors;
}

std::vector<float> Engine::item_vectors(const IdSpan& items) {
  const auto pin = pin_query();
  const std::vector<Row> rows = find_all(model_.items.ids, items, "item");
  std::vector<float> vectors;
  AlignedFloats padded(model_.items.stride());
  for (const Row row : rows) {
    if (vectors.size() % (kRowsPerPin * settings_.dim) == 0) check_interrupt();
    model_.items.rows.load(row, padded.data());
    vectors.insert(vectors.end(), padded.begin(), padded.begin() + static_cast<std::ptrdiff_t>(settings_.dim));
  }
  return vectors;
}

// kSetUsers or kSetItems, a record a block.
void Engine::set_rows_of(RecordKind kind, const IdSpan& ids, std::span<const float> vectors, const float* biases) {
  const bool is_users = kind == RecordKind::kSetUsers;
  EmbeddingTable& table = is_users ? model_.users : model_.items;
  const std::size_t dim = settings_.dim;
  check_ids(table.ids, ids, is_users ? "user" : "item");
  check_finite(vectors, "vectors");
  if (biases != nullptr) check_finite({biases, ids.size}, "biases");
  check_writable();
  Capacity& capacity = is_users ? user_capacity_ : item_capacity_;
  Claims claims(user_capacity_, item_capacity_);
  {
    const auto pin = domain_.pin_writer();
    std::vector<Row> rows(ids.size);
    table.ids.find_many(ids, 0, ids.size, rows.data());
    std::size_t fresh = count_new(ids, rows.data());
    if (capacity.evicts()) {
      fresh = std::min(fresh, capacity.most());
    } else if (!claims.try_claim(is_users ? fresh : 0, is_users ? 0 : fresh)) {
      capacity.refuse(fresh);
    }
    table.reserve(fresh);
    if (ids.size > 0) table.ids.claim_kind(ids.kind);  // whoever came first with the other kind has it
  }
  AlignedFloats padded(table.stride(), 0.0f);
  std::array<Row, kRowsPerPin> written;
  const std::size_t block = capacity.evicts() ? std::min(kRowsPerPin, capacity.most()) : kRowsPerPin;
  std::size_t first = 0;  // all before it are set
  const auto set_block = [&](std::uint64_t& record) {
    const std::size_t size = std::min(block, ids.size - first);
    const std::uint64_t use = take_uses(size);
    std::optional pin(domain_.pin_writer());
    if (capacity.evicts()) claim_block(is_users, part_of(ids, first, size), use, claims, pin);
    const auto encode = [&](PayloadWriter& to) {
      to.put_ids(ids, first, size);
      to.put_array(vectors.data() + first * dim, size * dim);
      if (biases != nullptr) to.put_array(biases + first, size);
    };
    record = logged(kind, biases != nullptr ? kHasBiases : 0u, encode, [&] {
      for (std::size_t k = first; k < first + size; ++k) {
        const Row row = is_users ? user_row(id_at(ids, k), &claims) : item_row(id_at(ids, k), &claims);
        capacity.touch(row, use + (k - first));
        std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>(k * dim), dim, padded.begin());
        table.rows.store(row, padded.data());
        if (biases != nullptr) store_relaxed(&table.bias[row], biases[k]);
        written[k - first] = row;
      }
      full_fence();
      for (std::size_t k = 0; k < size; ++k) table.mark_replaced(written[k]);
      if (!is_users && model_.fold_in) model_.fold_in->invalidate();
    });
    first += size;
  };
  const auto done = [&] { return message(first, " of ", ids.size, " rows were set"); };
  try {
    acknowledging([&](std::uint64_t& record) {
      while (first < ids.size) {
        check_interrupt();
        set_block(record);
      }
    });
  } catch (const Interrupted&) {
    throw Interrupted(done());
  } catch (const std::system_error& failure) {
    if (first == 0) throw;
    fail_after(done(), failure);
  }
}

void Engine::set_users(const IdSpan& ids, std::span<const float> vectors, const float* biases) {
  set_rows_of(RecordKind::kSetUsers, ids, vectors, biases);
}

void Engine::set_items(const IdSpan& ids, std::span<const float> vectors, const float* biases) {
  set_rows_of(RecordKind::kSetItems, ids, vectors, biases);
}

void Engine::set_item_features(const IdSpan& ids, std::span<const float> values) {
  const std::size_t features = ranker_.features.count();
  if (features == 0) {
    throw std::invalid_argument("set_item_features needs an engine that was made with item_features");
  }
  if (values.size() != ids.size * features) {
    throw std::invalid_argument(message("values must be ", ids.size * features, " numbers, not ", values.size()));
  }
  check_finite(values, "an item feature");
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    const std::vector<Row> rows = find_all(model_.items.ids, ids, "item");
    const auto encode = [&](PayloadWriter& to) {
      to.put_ids(ids, 0, ids.size);
      to.put_array(values.data(), values.size());
    };
    record = logged(RecordKind::kSetItemFeatures, 0, encode, [&] {
      for (std::size_t k = 0; k < rows.size(); ++k) {
        for (std::size_t f = 0; f < features; ++f) ranker_.features.set(rows[k], f, values[k * features + f]);
      }
    });
  }
  acknowledge(record);
}

void Engine::remove_users(const IdSpan& ids) {
  check_writable();
  std::uint64_t record = 0;
  {
    const Quiet still = quiet();
    const auto pin = domain_.pin_reader();
    record = erase_users(ids);
  }
  acknowledge(record);
}

std::uint64_t Engine::erase_users(const IdSpan& ids) {
  check_kind(model_.users.ids, ids.kind, "user");
  std::vector<Row> rows(ids.size);
  model_.users.ids.find_many(ids, 0, ids.size, rows.data());
  if (std::find(rows.begin(), rows.end(), kNoRow) != rows.end()) {
    // Who was shown something and has learned the engine nothing yet has no row, but is in the impressions.
    const std::vector<bool> is_shown = impressions_.shown_to(ids);
    for (std::size_t k = 0; k < ids.size; ++k) {
      if (rows[k] == kNoRow && !is_shown[k]) throw UnknownId(message("unknown user ", describe(id_at(ids, k))));
    }
  }
  const auto encode = [&](PayloadWriter& to) { to.put_ids(ids, 0, ids.size); };
  return logged(RecordKind::kRemoveUsers, 0, encode, [&] {
    impressions_.forget(ids);
    EmbeddingTable::Recycled memory(ids.size);
    // Nothing can fail from here on.
    removals_.fetch_add(1, std::memory_order_relaxed);
    user_removals_.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t k = 0; k < ids.size; ++k) {
      const Row row = with_key(id_at(ids, k), [this](auto key) { return model_.users.erase(key); });
      // Nothing refers to users: the slot is free once queries have left.
      if (row == kNoRow) continue;
      precisions_.forget(row);
      model_.users.recycle(row, memory);
    }
  });
}

void Engine::remove_items(const IdSpan& ids) {
  check_writable();
  std::uint64_t record = 0;
  {
    const Quiet still = quiet();
    const auto pin = domain_.pin_reader();
    record = erase_items(ids);
  }
  acknowledge(record);
}

std::uint64_t Engine::erase_items(const IdSpan& ids) {
  const std::vector<Row> rows = find_all(model_.items.ids, ids, "item");
  FilterSets::Change change = filters_.prepare_removal(rows);
  const auto encode = [&](PayloadWriter& to) { to.put_ids(ids, 0, ids.size); };
  removed_items_.reserve(removed_items_.size() + ids.size);
  return logged(RecordKind::kRemoveItems, 0, encode, [&] {
    impressions_.forget_items(ids);
    removals_.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t k = 0; k < ids.size; ++k) {
      const Row row = with_key(id_at(ids, k), [this](auto key) { return model_.items.erase(key); });
      if (row != kNoRow) removed_items_.push_back(row);
    }
    if (model_.fold_in) model_.fold_in->invalidate();
    // Only now: an item that has left its filters and is still live would match what shuts them out.
    filters_.finish_removal(std::move(change), rows);
    if (model_.demand) model_.demand->popular.erase_if([this](Row item) { return !model_.items.is_live(item); });
    if (removed_items_.size() >= std::max(kSweepCount, num_items() / kSweepShare)) sweep_removed();
  });
}

// Makes user states and the window of recent items forget the removed slots, which then can have new owners.
void Engine::sweep_removed() {
  if (removed_items_.empty()) return;
  const auto gone = [this](Row item) { return !model_.items.is_live(item); };
  model_.user_state.erase_items(model_.users.count(), gone);
  model_.recent.erase_if(gone);
  if (model_.demand) model_.demand->popular.erase_if(gone);
  model_.cooccurrence.erase_if(model_.items.count(), gone);
  retriever_.forget(removed_items_);
  impressions_.sweep();
  model_.items.recycle(removed_items_);
  removed_items_.clear();
}

FactorTable Engine::factors_of(const EmbeddingTable& table) {
  const auto pin = pin_query();
  FactorTable factors;
  factors.ids.kind = table.ids.kind();
  AlignedFloats padded(table.stride());
  for (Row row = 0; row < table.count(); ++row) {
    if (row % kRowsPerPin == 0) check_interrupt();
    if (!table.is_live(row)) continue;
    factors.ids.append(table.ids, row);
    table.rows.load(row, padded.data());
    factors.vectors.insert(factors.vectors.end(), padded.begin(),
                           padded.begin() + static_cast<std::ptrdiff_t>(settings_.dim));
    factors.biases.push_back(load_relaxed(&table.bias[row]));
  }
  return factors;
}

FactorTable Engine::user_factors() { return factors_of(model_.users); }
FactorTable Engine::item_factors() { return factors_of(model_.items); }

namespace {

IdArray ids_of(const EmbeddingTable& table) {
  IdArray ids;
  ids.kind = table.ids.kind();
  for (Row row = 0; row < table.count(); ++row) {
    if (table.is_live(row)) ids.append(table.ids, row);
  }
  return ids;
}

}  // namespace

IdArray Engine::user_ids() {
  const auto pin = pin_query();
  return ids_of(model_.users);
}

IdArray Engine::item_ids() {
  const auto pin = pin_query();
  return ids_of(model_.items);
}

bool Engine::has_user(const Id& id) {
  const auto pin = pin_query();
  return find(model_.users.ids, id) != kNoRow;
}

bool Engine::has_item(const Id& id) {
  const auto pin = pin_query();
  return find(model_.items.ids, id) != kNoRow;
}

}  // namespace recengine
