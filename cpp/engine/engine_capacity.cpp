// Limits: how many users and items there may be, who goes where there is no room, and what a user may move.
//
// Evictions are removals, and records of the log as such: a later record, which may name an item that is still there,
// never depends on the order in which threads learned. They come between two events, never within a chunk that is
// applied as a whole: a batch is cut before the event that finds no room.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/engine.hpp"
#include "engine/newcomers.hpp"
#include "storage/interrupt.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

IdArray ids_of(const EmbeddingTable& table, const std::vector<Row>& rows) {
  IdArray ids;
  for (const Row row : rows) ids.append(table.ids, row);
  return ids;
}

}  // namespace

Row Engine::find_or_add(EmbeddingTable& table, const Id& id, Claims* claims, void (Claims::*added)()) {
  const auto [row, is_new] = with_key(id, [&table](auto key) { return table.insert(key); });
  if (is_new && claims != nullptr) (claims->*added)();
  return row;
}

Row Engine::user_row(const Id& id, Claims* claims) {
  return find_or_add(model_.users, id, claims, &Claims::user_added);
}
Row Engine::item_row(const Id& id, Claims* claims) {
  return find_or_add(model_.items, id, claims, &Claims::item_added);
}

void Engine::remember_only(const Event& event) {
  learner_.record(event);
  over_budget_.fetch_add(1, std::memory_order_relaxed);
}

void Engine::make_room(std::size_t users, std::size_t items, std::uint64_t before) {
  const auto check = [](const Capacity& capacity, std::size_t rows) {
    if (capacity.has_room(rows)) return;
    if (!capacity.evicts() || rows > capacity.most()) capacity.refuse(rows);
  };
  check(user_capacity_, users);
  check(item_capacity_, items);
  domain_.refuse_within_pause();
  std::uint64_t record = 0;
  {
    const auto closure = evictions_.close();
    const Quiet still = quiet();
    const auto pin = domain_.pin_reader();
    // Others may have made room meanwhile; or all is claimed and nothing there yet: then the caller asks again.
    const auto going = [before](const EmbeddingTable& table, const Capacity& capacity, std::size_t rows) {
      return capacity.has_room(rows) ? IdArray() : ids_of(table, capacity.least_recent(rows, before));
    };
    const IdArray gone_users = going(model_.users, user_capacity_, users);
    const IdArray gone_items = going(model_.items, item_capacity_, items);
    if (gone_users.size() > 0) record = erase_users(gone_users.span());
    if (gone_items.size() > 0) record = erase_items(gone_items.span());
  }
  acknowledge(record);
}

void Engine::claim_rows(const Id& user, const Id& item, Claims& claims, std::optional<EpochDomain::Pin>& pin) {
  for (;;) {
    const std::size_t users = find(model_.users.ids, user) == kNoRow ? 1 : 0;
    const std::size_t items = find(model_.items.ids, item) == kNoRow ? 1 : 0;
    if (claims.try_claim(users, items)) return;
    pin.reset();
    make_room(users, items);
    pin.emplace(domain_.pin_writer());
  }
}

void Engine::claim_block(bool is_users, const IdSpan& ids, std::uint64_t use, Claims& claims,
                         std::optional<EpochDomain::Pin>& pin) {
  EmbeddingTable& table = is_users ? model_.users : model_.items;
  Capacity& capacity = is_users ? user_capacity_ : item_capacity_;
  std::vector<Row> rows(ids.size);
  for (;;) {
    table.ids.find_many(ids, 0, ids.size, rows.data());
    for (const Row row : rows) {
      if (row != kNoRow) capacity.touch(row, use);  // not to be evicted for the others
    }
    const std::size_t fresh = count_new(ids, rows.data());
    if (claims.try_claim(is_users ? fresh : 0, is_users ? 0 : fresh)) return;
    pin.reset();
    make_room(is_users ? fresh : 0, is_users ? 0 : fresh, use);
    pin.emplace(domain_.pin_writer());
  }
}

// All of them at once: `fit` trains them together.
void Engine::claim_pairs(const EventColumns& pairs, Claims& claims) {
  const std::uint64_t use = take_uses(1);
  std::vector<Row> users(pairs.users.size), items(pairs.items.size);
  for (;;) {
    {
      const auto pin = domain_.pin_writer();
      model_.users.ids.find_many(pairs.users, 0, users.size(), users.data());
      model_.items.ids.find_many(pairs.items, 0, items.size(), items.data());
      for (std::size_t e = 0; e < users.size(); ++e) {
        if (users[e] != kNoRow) user_capacity_.touch(users[e], use);
        if (items[e] != kNoRow) item_capacity_.touch(items[e], use);
      }
    }
    const std::size_t new_users = count_new(pairs.users, users.data());
    const std::size_t new_items = count_new(pairs.items, items.data());
    if (claims.try_claim(new_users, new_items)) return;
    const auto check = [](Capacity& capacity, std::vector<Row> rows, std::size_t fresh) {
      std::sort(rows.begin(), rows.end());
      rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
      const std::size_t known = rows.size() - (!rows.empty() && rows.back() == kNoRow ? 1 : 0);
      if (capacity.on() && known + fresh > capacity.most()) capacity.refuse(fresh);
    };
    check(user_capacity_, users, new_users);
    check(item_capacity_, items, new_items);
    make_room(new_users, new_items, use);
  }
}

void Engine::learn_bounded(const EventColumns& events, std::size_t threads, const SourceSpan& source,
                           std::size_t& applied) {
  if (user_capacity_.evicts() || item_capacity_.evicts()) return learn_evicting(events, threads, source, applied);
  Claims claims(user_capacity_, item_capacity_);
  Newcomers newcomers(domain_, model_.users.ids, model_.items.ids, events, claims);
  for (std::size_t e = 0; e < events.users.size; ++e) {
    if (e % kEventsPerCheck == 0) check_interrupt();
    switch (newcomers.admit(e)) {
      case BadEvent::kMaxUsers:
        claims.release();
        user_capacity_.refuse(newcomers.num_users() + 1);
      case BadEvent::kMaxItems:
        claims.release();
        item_capacity_.refuse(newcomers.num_items() + 1);
      default:
        continue;
    }
  }
  learn_some(events, threads, source, true, &claims, applied);
}

void Engine::learn_evicting(const EventColumns& events, std::size_t threads, const SourceSpan& source,
                            std::size_t& applied) {
  const std::size_t size = events.users.size;
  while (applied < size) {
    domain_.refuse_within_pause();
    BadEvent full = BadEvent::kNone;
    {
      const auto passage = evictions_.pass();
      const EventColumns rest = part_of(events, applied, size - applied);
      Claims claims(user_capacity_, item_capacity_);
      Newcomers newcomers(domain_, model_.users.ids, model_.items.ids, rest, claims);
      std::size_t count = 0;
      while (count < std::min(rest.users.size, kEventsPerCheck) && (full = newcomers.admit(count)) == BadEvent::kNone)
        ++count;
      if (count > 0) {
        const SourceSpan part{source.name,
                              source.offsets.empty() ? source.offsets : source.offsets.subspan(applied, count)};
        const std::size_t before = applied;
        try {
          learn_some(part_of(events, applied, count), threads, part, true, &claims, applied);
        } catch (const Interrupted&) {
          if (applied == 0) throw;
          return;
        }
        if (applied < before + count) return;
      }
    }
    if (full != BadEvent::kNone) make_room(full == BadEvent::kMaxUsers ? 1 : 0, full == BadEvent::kMaxItems ? 1 : 0);
  }
}

}  // namespace recengine
