// Engines whose tables are a mapped file: threads that ask while newer snapshots take its place, the check that runs
// beside them, and files that are wrong with all checksums right, asked before anybody has looked at them.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "storage/crc32c.hpp"
#include "storage/id_index.hpp"
#include "storage/random.hpp"
#include "storage/snapshot.hpp"

using namespace recengine;

namespace {

const std::filesystem::path folder =
    std::filesystem::temp_directory_path() / ("recengine-mapped-" + std::to_string(getpid()));

Id id(std::int64_t number) { return {IdKind::kInt, number, {}}; }

// Every id is found in its row and no other is, in full tables and in small ones.
void index_finds_what_it_holds() {
  for (const std::size_t size : {0u, 1u, 2u, 3u, 5u, 12u, 13u, 1000u}) {
    std::vector<std::int64_t> ints;
    std::string text;
    std::vector<std::uint64_t> offsets{0};
    for (std::size_t k = 0; k < size; ++k) {
      ints.push_back(static_cast<std::int64_t>(k * k) - 9);
      text += "item " + std::to_string(k);
      offsets.push_back(text.size());
    }
    const auto is_live = [](std::size_t row) { return row % 3 != 1; };
    for (const IdKind kind : {IdKind::kInt, IdKind::kString}) {
      const IdSpan ids{kind, size, ints.data(), text.data(), offsets.data()};
      const std::vector<std::uint64_t> words = IdIndex::build(ids, is_live).words;
      const std::size_t live = size - (size + 1) / 3;
      const IdIndex index(ids, text.size(), words, live);
      CHECK(index.used() == live);
      CHECK_THROWS(std::invalid_argument, IdIndex(ids, text.size(), words, words.size()));
      for (std::size_t k = 0; k < size; ++k) {
        const Row expected = is_live(k) ? static_cast<Row>(k) : kNoRow;
        CHECK((kind == IdKind::kInt ? index.find(ints[k]) : index.find(ids.string_at(k))) == expected);
      }
      CHECK(index.find(std::int64_t{77777777}) == kNoRow && index.find(std::string_view("nobody")) == kNoRow);
    }
  }
}

Settings small_settings() {
  Settings settings;
  settings.dim = 4;
  settings.history = 3;
  settings.neighbors = 3;
  settings.ranker = RankerKind::kLinear;
  return settings;
}

void ask(Engine& engine) {
  QueryOptions options;
  options.exclude_seen = true;
  for (std::int64_t user = 0; user < 9; ++user) {
    engine.recommend(id(user), options);
    engine.explore(id(user), options, {});
  }
  const std::vector<std::int64_t> items{0, 1, 2, 3, 4, 5, 6, 7, 8};
  const IdSpan span{IdKind::kInt, items.size(), items.data(), nullptr, nullptr};
  engine.recommend_many(span, options);
  engine.recommend_history(span, {});
  for (const std::int64_t item : items) {
    if (!engine.has_item(id(item))) continue;
    engine.similar_items(id(item), {});
    engine.similar_by_behaviour(id(item), {});
    engine.explain(id(1), id(item));
  }
  engine.item_ids();
  engine.user_factors();
  engine.statistics();
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class T>
T get(const std::string& file, std::size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof(T));
  return value;
}
template <class T>
void put(std::string& file, std::size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof(T));
}

std::uint32_t checksum(const std::string& file, std::size_t first, std::size_t size) {
  return crc32c(std::as_bytes(std::span(file).subspan(first, size)));
}

// All checksums as they should be, whatever the file holds (docs/file-format.md).
void repair(std::string& file) {
  const auto sections = get<std::uint32_t>(file, 12);
  const auto table = get<std::uint64_t>(file, 16);
  for (std::size_t s = 0; s < sections; ++s) {
    const std::size_t entry = table + 40 * s;
    put(file, entry + 20, checksum(file, get<std::uint64_t>(file, entry + 24), get<std::uint64_t>(file, entry + 32)));
  }
  put(file, 32, checksum(file, table, file.size() - table));
  put(file, 60, checksum(file, 0, 60));
}

// Nothing is read out of bounds, which AddressSanitizer sees; answers may be any.
void wrong_contents_are_harmless() {
  Engine engine(small_settings());
  for (std::int64_t n = 0; n < 60; ++n) {
    engine.learn_one(id(n % 7), id(n * n % 9), 1, 1, static_cast<double>(n));
  }
  engine.save(folder / "good");
  const std::string good = read_file(folder / "good");
  const auto table = get<std::uint64_t>(good, 16);
  std::size_t opened = 0;
  const int rounds = check::kSanitized ? 1500 : 3000;
  for (int round = 0; round < rounds; ++round) {
    Random random(5, static_cast<std::uint64_t>(round));
    std::string wrong = good;
    const auto section = random.next() % get<std::uint32_t>(good, 12);
    const auto offset = get<std::uint64_t>(good, table + 40 * section + 24);
    const auto length = get<std::uint64_t>(good, table + 40 * section + 32);
    if (length < 8) continue;
    const std::uint64_t special[] = {
        0, 1, ~std::uint64_t{0}, std::uint64_t{1} << 63, 0x7FC000007FC00000u, random.next()};
    put(wrong, offset + random.next() % (length / 8) * 8, special[random.next() % 6]);
    repair(wrong);
    const std::filesystem::path path = folder / ("wrong-" + std::to_string(round));
    std::ofstream(path, std::ios::binary) << wrong;
    try {
      const std::unique_ptr<Engine> mapped = Engine::load_mapped(path, false);
      ++opened;
      ask(*mapped);
    } catch (const FormatError&) {
    } catch (const std::length_error&) {  // a file may ask for more than there is
    }
    std::filesystem::remove(path);
  }
  CHECK(opened > 100);  // most are not noticed at once: that is what is tested
}

// Queries, newer snapshots and learning at once: a query goes on with the engine that it began with.
void queries_go_on_while_snapshots_are_replaced() {
  DurabilityOptions options;
  options.sync = SyncMode::kOs;
  const std::unique_ptr<Engine> writer = Engine::open(folder / "shop", small_settings(), options);
  const std::int64_t items = 3000;  // enough for codes
  for (std::int64_t n = 0; n < items; ++n) writer->learn_one(id(n % 50), id(n), 1, 1, static_cast<double>(n));
  writer->checkpoint();

  std::mutex mutex;
  std::shared_ptr<Engine> current = Engine::load_mapped(folder / "shop", false);  // GUARDED_BY(mutex)
  const auto engine = [&] {
    const std::lock_guard lock(mutex);
    return current;
  };
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    for (std::int64_t n = items; !stop.load(); ++n) {
      writer->learn_one(id(n % 50), id(n % (items + 500)), 1, 1, static_cast<double>(n));
    }
  });
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop.load()) {
        const std::shared_ptr<Engine> asked = engine();
        CHECK(asked->recommend(id(1), {}).counts[0] == 10);
        CHECK(asked->similar_items(id(2), {}).counts[0] == 10);
        CHECK_THROWS(std::runtime_error, asked->learn_one(id(1), id(2), 1, 1, 0));
      }
    });
  }
  const int rounds = check::kSanitized ? 8 : 30;
  std::size_t before = 0;
  for (int round = 0; round < rounds; ++round) {
    writer->checkpoint();
    std::shared_ptr<Engine> fresh = engine()->reloaded();
    CHECK(fresh != nullptr && fresh->mapping()->verified);
    CHECK(fresh->statistics().events >= before);
    before = fresh->statistics().events;
    {
      const std::lock_guard lock(mutex);
      current.swap(fresh);
    }
    CHECK(engine()->reloaded() == nullptr);
  }
  // Engines that end while they are being verified.
  for (int round = 0; round < rounds; ++round) {
    const std::unique_ptr<Engine> brief = Engine::load_mapped(folder / "shop", false);
    CHECK(brief->recommend(id(round), {}).certified);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  index_finds_what_it_holds();
  if (!check::kOnlyThreads) wrong_contents_are_harmless();
  queries_go_on_while_snapshots_are_replaced();
  std::filesystem::remove_all(folder);
  return 0;
}
