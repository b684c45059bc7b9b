// Offline training: rows out of the engine, and back.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "engine/engine.hpp"
#include "kernels/kernels.hpp"
#include "kernels/relaxed.hpp"
#include "storage/fence.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

constexpr float kMaxWeight = 1e6f;

// Numbers the rows that occur, in the order of the rows; `rows` become their numbers.
std::vector<Row> number_rows(std::vector<Row>& rows, Row count) {
  std::vector<Row> number(count, kNoRow), distinct;
  for (const Row row : rows) number[row] = 0;
  for (Row row = 0; row < count; ++row) {
    if (number[row] == kNoRow) continue;
    number[row] = static_cast<Row>(distinct.size());
    distinct.push_back(row);
  }
  for (Row& row : rows) row = number[row];
  return distinct;
}

// The mean square of a coordinate.
float mean_square(const AlignedFloats& rows, std::size_t stride, std::size_t dim) {
  double sum = 0;
  for (std::size_t first = 0; first < rows.size(); first += stride) {
    sum += double{active_kernels().square_norm(&rows[first], stride)};
  }
  const double count = static_cast<double>(rows.size() / stride * dim);
  return count > 0 ? static_cast<float>(std::min(sum / count, 1e20)) : 0.0f;
}

}  // namespace

// As take_out did.
void Engine::insert_pairs(const IdSpan& users, const IdSpan& items) {
  check_ids(model_.users.ids, users, "user");
  check_ids(model_.items.ids, items, "item");
  const auto pin = domain_.pin_writer();
  const std::uint64_t use = take_uses(1);
  for (std::size_t e = 0; e < users.size; ++e) {
    touch(user_row(id_at(users, e), nullptr), item_row(id_at(items, e), nullptr), use);
  }
}

FitTables Engine::take_out(const EventColumns& pairs) {
  const std::size_t size = pairs.users.size;
  if (size != pairs.items.size) {
    throw std::invalid_argument(
        message("users and items must be of equal length, not ", size, " and ", pairs.items.size));
  }
  if (size == 0) throw std::invalid_argument("there must be at least one pair to learn from");
  check_ids(model_.users.ids, pairs.users, "user");
  check_ids(model_.items.ids, pairs.items, "item");
  for (std::size_t e = 0; pairs.values != nullptr && e < size; ++e) {
    if (pairs.values[e] > 0 && pairs.values[e] <= kMaxWeight) continue;
    throw std::invalid_argument(message("values must be positive and at most 1e6, not ", pairs.values[e]));
  }

  check_writable();

  std::vector<Row> users(size), items(size);
  IdArray user_ids, item_ids;
  AlignedFloats user_rows, item_rows;
  std::uint64_t removals = 0;
  Claims claims(user_capacity_, item_capacity_);
  if (is_bounded()) claim_pairs(pairs, claims);
  do {  // until nothing was removed meanwhile: what was looked up is still whose it was
    removals = removals_.load(std::memory_order_acquire);
    for (std::size_t first = 0; first < size; first += kEventsPerCheck) {
      check_interrupt();
      const auto pin = domain_.pin_writer();
      const std::size_t count = std::min(kEventsPerCheck, size - first);
      model_.users.ids.claim_kind(pairs.users.kind);
      model_.items.ids.claim_kind(pairs.items.kind);
      const auto encode = [&](PayloadWriter& to) {
        to.put_ids(pairs.users, first, count);
        to.put_ids(pairs.items, first, count);
      };
      const std::uint64_t use = take_uses(1);
      logged(RecordKind::kInsert, 0, encode, [&] {
        for (std::size_t e = first; e < first + count; ++e) {
          users[e] = user_row(id_at(pairs.users, e), &claims);
          items[e] = item_row(id_at(pairs.items, e), &claims);
          touch(users[e], items[e], use);
        }
      });
    }
    const auto pin = domain_.pin_reader();
    std::vector<Row> user_numbers = users, item_numbers = items;
    const std::vector<Row> distinct_users = number_rows(user_numbers, model_.users.count());
    const std::vector<Row> distinct_items = number_rows(item_numbers, model_.items.count());
    const std::size_t stride = model_.items.stride();
    QueryVector query;
    user_ids = item_ids = {};
    user_rows.assign(distinct_users.size() * stride, 0.0f);
    item_rows.assign(distinct_items.size() * stride, 0.0f);
    for (std::size_t u = 0; u < distinct_users.size(); ++u) {
      if (u % kRowsPerPin == 0) check_interrupt();
      user_ids.append(model_.users.ids, distinct_users[u]);
      model_.compose(distinct_users[u], latest_timestamp(), query);
      std::copy(query.x.begin(), query.x.end(), user_rows.begin() + static_cast<std::ptrdiff_t>(u * stride));
    }
    for (std::size_t i = 0; i < distinct_items.size(); ++i) {
      if (i % kRowsPerPin == 0) check_interrupt();
      item_ids.append(model_.items.ids, distinct_items[i]);
      model_.items.rows.load(distinct_items[i], &item_rows[i * stride]);
    }
    if (removals_.load(std::memory_order_acquire) == removals) {
      users = std::move(user_numbers);
      items = std::move(item_numbers);
      break;
    }
  } while (true);
  Interactions interactions(users, items, pairs.values, user_ids.size(), item_ids.size());
  return {std::move(user_ids),  std::move(item_ids),  std::move(interactions),
          std::move(user_rows), std::move(item_rows), {},
          settings_.dim,        model_.items.stride()};
}

void Engine::put_back(const FitTables& tables) {
  for (const AlignedFloats* rows : {&tables.users, &tables.items}) check_finite(*rows, "a fitted row");
  check_writable();
  if (!journal_) return put_rows(tables);
  // Not in the log: there is a snapshot when the call returns. Until then recovery goes back to before it.
  const Uninterrupted whole;
  journal_->apply([&] {
    put_rows(tables);
    checkpoint();
  });
}

void Engine::put_rows(const FitTables& tables) {
  // Adagrad's sums as after so many events, each with a slope of one: what comes next moves the rows no further than
  // the next of them would.
  const float user_square = mean_square(tables.items, tables.stride, tables.dim);
  const float item_square = mean_square(tables.users, tables.stride, tables.dim);
  const Interactions by_item = tables.pairs.transposed();
  QueryVector query;
  AlignedFloats row_now(tables.stride);
  const auto put = [&](EmbeddingTable& table, const IdArray& ids, const AlignedFloats& rows, const Interactions& pairs,
                       float square, std::span<const float> biases, bool with_history) {
    std::array<Row, kRowsPerPin> found;
    const IdSpan span = ids.span();
    for (std::size_t first = 0; first < ids.size(); first += kRowsPerPin) {
      check_interrupt();
      const auto pin = domain_.pin_writer();
      const std::size_t size = std::min(kRowsPerPin, ids.size() - first);
      table.ids.find_many(span, first, size, found.data());
      for (std::size_t k = 0; k < size; ++k) {
        const Row row = found[k];
        if (row == kNoRow) continue;  // removed meanwhile
        std::copy_n(&rows[(first + k) * tables.stride], tables.stride, row_now.data());
        if (with_history) {  // the learned row is what the history leaves to it
          model_.compose(row, latest_timestamp(), query);
          for (const QueryVector::Term& term : query.history) {
            model_.items.rows.add_scaled(row_now.data(), term.item, -term.weight);
          }
        }
        table.rows.store(row, row_now.data());
        const Slot slot = table.slot(row);
        store_relaxed(slot.bias, biases.empty() ? 0.0f : biases[first + k]);
        const float sum = square * static_cast<float>(pairs.size(first + k));
        store_relaxed(&slot.sums->row, std::min(sum, kMaxAccumulator));
      }
      full_fence();
      for (std::size_t k = 0; k < size; ++k) {
        if (found[k] != kNoRow) table.mark_replaced(found[k]);
      }
    }
  };
  // Items first: the users' histories refer to them.
  put(model_.items, tables.item_ids, tables.items, by_item, item_square, tables.item_biases, false);
  if (model_.fold_in) model_.fold_in->invalidate();
  put(model_.users, tables.user_ids, tables.users, tables.pairs, user_square, {},
      settings_.history > 0 && !model_.fold_in);
}

}  // namespace recengine
