#include "engine/capacity.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "storage/message.hpp"

namespace recengine {

Capacity::Capacity(EmbeddingTable& table, std::size_t most, bool evicts, std::string_view name)
    : table_(table), most_(most), evicts_(most > 0 && evicts), name_(name) {
  if (!evicts_) return;
  table.attach([this](std::size_t rows) { stamps_.reserve(rows); },
               [this](Row row) { stamps_[row].store(0, std::memory_order_relaxed); });
}

bool Capacity::has_room(std::size_t rows) const {
  if (!on() || !enforced_.load(std::memory_order_relaxed)) return true;
  const std::lock_guard lock(mutex_);
  // The claims first: a row that is added in between counts twice, not never.
  const std::size_t taken = claimed_ + table_.size();
  return taken <= most_ && rows <= most_ - taken;
}

bool Capacity::try_claim(std::size_t rows) {
  if (!on() || rows == 0 || !enforced_.load(std::memory_order_relaxed)) return true;
  const std::lock_guard lock(mutex_);
  const std::size_t taken = claimed_ + table_.size();
  if (taken > most_ || rows > most_ - taken) return false;
  claimed_ += rows;
  return true;
}

void Capacity::release(std::size_t rows) {
  if (!on() || rows == 0 || !enforced_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  claimed_ -= rows;
}

void Capacity::refuse(std::size_t rows) const {
  throw std::invalid_argument(
      message(name_, " is ", most_, ", and ", table_.size(), " are there: no room for ", rows, " new"));
}

std::vector<Row> Capacity::least_recent(std::size_t room, std::uint64_t before) const {
  const std::size_t size = table_.size();
  const std::size_t excess = size + room > most_ ? size + room - most_ : 0;
  std::vector<std::pair<std::uint64_t, Row>> used;
  const auto collect = [&](std::uint64_t end) {
    used.clear();
    for (Row row = 0; row < table_.count(); ++row) {
      if (table_.is_live(row) && stamp(row) < end) used.emplace_back(stamp(row), row);
    }
  };
  collect(before);
  if (used.size() < excess) collect(std::numeric_limits<std::uint64_t>::max());
  const std::size_t count = std::min(used.size(), std::max(excess, most_ / kEvictedShare));
  const auto end = used.begin() + static_cast<std::ptrdiff_t>(count);
  if (count < used.size()) std::nth_element(used.begin(), end, used.end());
  std::sort(used.begin(), end);
  std::vector<Row> rows;
  std::transform(used.begin(), end, std::back_inserter(rows), [](const auto& entry) { return entry.second; });
  return rows;
}

bool Claims::try_claim(std::size_t users, std::size_t items) {
  if (!users_.try_claim(users)) return false;
  if (!items_.try_claim(items)) {
    users_.release(users);
    return false;
  }
  num_users_.fetch_add(users, std::memory_order_relaxed);
  num_items_.fetch_add(items, std::memory_order_relaxed);
  return true;
}

// A row may come without a claim: its id was known when room was claimed, and has been removed by somebody since.
void Claims::added(Capacity& capacity, std::atomic<std::size_t>& claimed) {
  std::size_t left = claimed.load(std::memory_order_relaxed);
  while (left > 0 && !claimed.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
  }
  if (left > 0) capacity.release(1);
}

void Claims::release() {
  users_.release(num_users_.exchange(0, std::memory_order_relaxed));
  items_.release(num_items_.exchange(0, std::memory_order_relaxed));
}

}  // namespace recengine
