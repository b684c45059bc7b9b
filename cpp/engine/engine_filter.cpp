// Filters and groups. Changes hold a writer's pin, so that no item is removed between being found and being in the set.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/engine.hpp"
#include "storage/message.hpp"

namespace recengine {

namespace {

[[noreturn]] void refuse_unknown(const FilterTerm& term) {
  const bool group = term.op == FilterOp::kGroup;
  throw UnknownId(message("unknown ", group ? "group " : "filter ", describe(Id{term.kind, term.number, term.text})));
}

[[noreturn]] void refuse_unknown_filter(std::string_view name) {
  throw UnknownId(message("unknown filter '", name, "'"));
}

}  // namespace

void Engine::set_filter(std::string_view name, const IdSpan& items) {
  validate_id(name);
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    std::vector<Row> rows = find_all(model_.items.ids, items, "item");
    const auto encode = [&](PayloadWriter& to) {
      to.put_text(name);
      to.put_ids(items, 0, items.size);
    };
    record = logged(RecordKind::kSetFilter, 0, encode, [&] { filters_.set_filter(name, std::move(rows)); });
  }
  acknowledge(record);
}

void Engine::update_filter(std::string_view name, const IdSpan& add, const IdSpan& remove) {
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    if (!filters_.has_filter(name)) refuse_unknown_filter(name);
    check_kind(model_.items.ids, remove.kind, "item");
    std::vector<Row> added = find_all(model_.items.ids, add, "item");
    std::vector<Row> removed = find_known(remove);
    const auto encode = [&](PayloadWriter& to) {
      to.put_text(name);
      to.put_ids(add, 0, add.size);
      to.put_ids(remove, 0, remove.size);
    };
    record = logged(RecordKind::kUpdateFilter, 0, encode, [&] {
      if (!filters_.update_filter(name, std::move(added), std::move(removed))) refuse_unknown_filter(name);
    });
  }
  acknowledge(record);
}

void Engine::remove_filter(std::string_view name) {
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    if (!filters_.has_filter(name)) refuse_unknown_filter(name);
    const auto encode = [&](PayloadWriter& to) { to.put_text(name); };
    record = logged(RecordKind::kRemoveFilter, 0, encode, [&] {
      if (!filters_.remove_filter(name)) refuse_unknown_filter(name);
    });
  }
  acknowledge(record);
}

void Engine::set_groups(const IdSpan& items, const IdSpan& labels) {
  if (items.size != labels.size) {
    throw std::invalid_argument(
        message("items and values must be of equal length, not ", items.size, " and ", labels.size));
  }
  check_writable();
  std::uint64_t record = 0;
  {
    const auto pin = domain_.pin_writer();
    const auto turn = change_turn();
    check_ids(filters_.group_names(), labels, "group");
    const std::vector<Row> rows = find_all(model_.items.ids, items, "item");
    const auto encode = [&](PayloadWriter& to) {
      to.put_ids(items, 0, items.size);
      to.put_ids(labels, 0, labels.size);
    };
    record = logged(RecordKind::kSetGroups, 0, encode, [&] { filters_.set_groups(rows, labels); });
  }
  acknowledge(record);
}

Filter Engine::compile(const FilterExpression& filter, bool strict) const {
  const FilterTerm* unknown = nullptr;
  std::optional<Filter> compiled = filters_.compile(filter, strict, &unknown);
  if (!compiled) refuse_unknown(*unknown);
  return *std::move(compiled);
}

void Engine::check_filter(const FilterExpression& filter) {
  const auto pin = pin_query();
  compile(filter, true);
}

std::vector<std::string> Engine::filter_names() {
  const auto pin = pin_query();
  const std::vector<std::string_view> views = filters_.filter_names();
  std::vector<std::string> names(views.begin(), views.end());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace recengine
