// The log and the engine above it: what is read back, damage at every byte, threads that learn, ask, change and take
// checkpoints at once.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "durability/log.hpp"
#include "durability/log_reader.hpp"
#include "engine/engine.hpp"
#include "storage/snapshot.hpp"

using namespace recengine;

namespace {

struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / ("recengine-durability-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

std::vector<std::byte> payload_of(std::uint64_t number) {
  return std::vector<std::byte>(static_cast<std::size_t>(number * 3 % 5 * 8), static_cast<std::byte>(number));
}

std::uint64_t append_next(Log& log) {  // REQUIRES: log.order held
  std::vector<std::byte> record(sizeof(RecordHeader));
  for (const std::byte byte : payload_of(log.next_number())) record.push_back(byte);
  return log.append(record);
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// How many records of `expected` are read back, each as it was written; -1: the segment is refused.
int count_records(const std::filesystem::path& path, std::uint64_t first) {
  try {
    LogReader reader(path, 17, first);
    int count = 0;
    while (const auto record = reader.next()) {
      const auto payload = payload_of(record->number);
      CHECK(record->number == first + static_cast<std::uint64_t>(count));
      CHECK(std::equal(payload.begin(), payload.end(), record->payload.begin(), record->payload.end()));
      ++count;
    }
    return count;
  } catch (const FormatError&) {
    return -1;
  }
}

void test_damage() {
  const Folder folder;
  constexpr int kRecords = 12;
  Log::create(folder.path, 17, 5);
  {
    Log log(folder.path, 17, 5, 5, sizeof(SegmentHeader), SyncMode::kOs);
    for (int k = 0; k < kRecords; ++k) {
      const std::lock_guard lock(log.order);
      CHECK(append_next(log) == static_cast<std::uint64_t>(5 + k));
    }
  }
  const auto path = numbered_file(folder.path, kLogKind, 5);
  const std::string whole = read_file(path);
  CHECK(count_records(path, 5) == kRecords);
  std::size_t last = sizeof(SegmentHeader);  // where the last record begins
  for (std::uint64_t number = 5; number + 1 < 5 + kRecords; ++number) last += record_size(payload_of(number).size());

  int before = 0;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write_file(path, whole.substr(0, length));
    const int count = count_records(path, 5);
    CHECK(count == before || count == before + 1);
    before = count;
  }
  CHECK(before == kRecords - 1);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int bit : {0, 3, 7}) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      write_file(path, flipped);
      CHECK(count_records(path, 5) == (at < last ? -1 : kRecords - 1));
    }
  }
  // Another folder's, or another segment's: not one record.
  write_file(path, whole);
  CHECK(count_records(path, 4) == -1);
}

void test_group_commit() {
  const Folder folder;
  Log::create(folder.path, 17, 1);
  constexpr std::uint64_t kThreads = 4, kEach = 60;
  std::uint64_t syncs = 0;
  {
    Log log(folder.path, 17, 1, 1, sizeof(SegmentHeader), SyncMode::kAlways);
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (std::uint64_t k = 0; k < kEach; ++k) {
          std::uint64_t number = 0;
          {
            const std::lock_guard lock(log.order);
            if (k == kEach / 2) log.rotate();
            number = append_next(log);
          }
          log.acknowledge(number);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    syncs = log.syncs();
    CHECK(log.next_number() == 1 + kThreads * kEach);
  }
  CHECK(syncs <= kThreads * kEach + 2 * kThreads + 1);
  std::uint64_t next = 1;
  for (const std::uint64_t first : numbered_files(folder.path, kLogKind)) {
    CHECK(first == next);
    const int count = count_records(numbered_file(folder.path, kLogKind, first), first);
    CHECK(count >= 0);
    next += static_cast<std::uint64_t>(count);
  }
  CHECK(next == 1 + kThreads * kEach);
}

IdSpan span_of(const std::vector<std::int64_t>& ids) {
  return {IdKind::kInt, ids.size(), ids.data(), nullptr, nullptr};
}

// Everything at once; what the folder holds afterwards is what the engine held.
void test_mixed_load() {
  const Folder folder;
  Settings settings;
  settings.dim = 8;
  settings.negatives = 4;
  settings.ranker = RankerKind::kLinear;
  settings.neighbors = 8;
  DurabilityOptions options;
  options.checkpoint_bytes = 30'000;
  const std::string path = folder.path.string();
  constexpr int kRounds = check::kSanitized ? 25 : 60;
  std::uint64_t events = 0;
  std::vector<std::int64_t> users, items;
  {
    const auto engine = Engine::open(path, settings, options);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (std::int64_t t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        for (std::int64_t round = 0; round < kRounds; ++round) {
          for (std::int64_t k = 0; k < 20; ++k) {
            const std::int64_t offset = round * 20 + k;
            engine->learn_one({IdKind::kInt, t * 1000 + k, {}}, {IdKind::kInt, (round + k) % 90, {}}, 1, 1,
                              static_cast<double>(offset), {t == 0 ? "zero" : "one", {&offset, 1}});
          }
          std::vector<std::int64_t> many_users, many_items;
          for (std::int64_t k = 0; k < 600; ++k) {
            many_users.push_back(k % 37);
            many_items.push_back(k * k % 90);
          }
          engine->learn_many({span_of(many_users), span_of(many_items)}, 2);
        }
      });
    }
    threads.emplace_back([&] {  // changes of every other kind
      for (std::int64_t round = 0; round < kRounds; ++round) {
        const std::vector<std::int64_t> ids{1000 + round, 2000 + round};
        const std::vector<float> rows(ids.size() * settings.dim, 0.25f);
        engine->set_items(span_of(ids), rows, nullptr);
        engine->set_filter("f", span_of(ids));
        engine->set_groups(span_of(ids), span_of(ids));
        engine->set_learning_rate(0.1 + 0.001 * static_cast<double>(round));
        engine->remove_items(span_of(ids));
      }
    });
    threads.emplace_back([&] {
      while (!stop.load()) engine->checkpoint();
    });
    threads.emplace_back([&] {
      while (!stop.load()) engine->recommend({IdKind::kInt, 3, {}}, {});
    });
    for (std::size_t t = 0; t < 3; ++t) threads[t].join();
    stop.store(true);
    threads[3].join();
    threads[4].join();
    CHECK(engine->durability().checkpoint_error.empty());
    CHECK(engine->durability().log_error.empty());
    events = engine->statistics().events;
    CHECK(events == 2 * kRounds * (20 + 600));
    users = engine->user_ids().ints;
    items = engine->item_ids().ints;
  }
  const auto engine = Engine::open(path, settings, options);
  CHECK(engine->statistics().events == events);
  auto recovered_users = engine->user_ids().ints, recovered_items = engine->item_ids().ints;
  for (auto* ids : {&users, &items, &recovered_users, &recovered_items}) std::sort(ids->begin(), ids->end());
  CHECK(recovered_users == users);
  CHECK(recovered_items == items);
  CHECK(engine->filter_names() == std::vector<std::string>{"f"});
  CHECK(engine->sources().at("zero") == 20 * kRounds - 1);
}

}  // namespace

int main() {
  test_damage();
  test_group_commit();
  test_mixed_load();
  return 0;
}
