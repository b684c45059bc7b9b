// IdMap: exact against std::unordered_map, all or nothing, no growth under churn, and safe while rows are reused.
#include "storage/id_map.hpp"
#include "storage/id_index.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "check.hpp"

namespace recengine {
namespace {

// Both kinds run through the same tests; `make` turns a number into an id, injectively.
struct Ints {
  using Id = std::int64_t;
  static Id make(std::uint64_t n) { return static_cast<Id>(n * 0x9E3779B97F4A7C15u); }
  static Id at(const IdMap& map, Row row) { return map.int_at(row); }
};
struct Strings {
  using Id = std::string;
  static Id make(std::uint64_t n) {  // of all lengths, many with long common prefixes
    return std::string(n % 5 * 9, 'x') + std::to_string(n);
  }
  static Id at(const IdMap& map, Row row) { return std::string(map.string_at(row)); }
};

// The columns of an IdSpan over ids of either kind.
struct Span {
  std::vector<std::int64_t> ints;
  std::string bytes;
  std::vector<std::uint64_t> offsets{0};
  IdKind kind = IdKind::kNone;

  void add(std::int64_t id) {
    kind = IdKind::kInt;
    ints.push_back(id);
  }
  void add(std::string_view id) {
    kind = IdKind::kString;
    bytes += id;
    offsets.push_back(bytes.size());
  }
  IdSpan view() const {
    const std::size_t size = kind == IdKind::kInt ? ints.size() : offsets.size() - 1;
    return {kind, size, ints.data(), bytes.data(), offsets.data()};
  }
};

void unusual_ids_are_kept_exactly() {
  EpochDomain domain;
  const EpochDomain::Pin pin = domain.pin_writer();
  IdMap ints(domain);
  const std::vector<std::int64_t> numbers = {0,
                                             1,
                                             -1,
                                             std::numeric_limits<std::int64_t>::min(),
                                             std::numeric_limits<std::int64_t>::max(),
                                             std::int64_t{1} << 32};
  for (Row row = 0; row < numbers.size(); ++row) {
    CHECK(ints.insert(numbers[row], [row] { return row; }) == std::pair(row, true));
  }
  for (Row row = 0; row < numbers.size(); ++row) {
    CHECK(ints.find(numbers[row]) == row && ints.int_at(row) == numbers[row]);
  }
  CHECK(ints.find(std::int64_t{2}) == kNoRow);

  IdMap strings(domain);
  using namespace std::string_view_literals;
  const std::string longest(kMaxIdBytes, 'a');
  const std::vector<std::string_view> words = {""sv,
                                               "\0"sv,
                                               "\0\0"sv,
                                               "a"sv,
                                               "A"sv,
                                               "ab"sv,
                                               "abc"sv,
                                               "\xC3\xA4"sv,
                                               "0"sv,
                                               longest,
                                               std::string_view(longest).substr(1)};
  for (Row row = 0; row < words.size(); ++row) {
    CHECK(strings.insert(words[row], [row] { return row; }) == std::pair(row, true));
  }
  for (Row row = 0; row < words.size(); ++row) {
    CHECK(strings.find(words[row]) == row && strings.string_at(row) == words[row]);
  }
  CHECK(strings.find("b"sv) == kNoRow);
}

void the_first_id_settles_the_kind() {
  EpochDomain domain;
  const EpochDomain::Pin pin = domain.pin_writer();
  IdMap map(domain);
  CHECK(map.kind() == IdKind::kNone);
  CHECK(map.find(std::int64_t{1}) == kNoRow && map.find(std::string_view("1")) == kNoRow);
  CHECK(map.erase(std::int64_t{1}) == kNoRow);
  map.insert(std::int64_t{1}, [] { return Row{0}; });
  CHECK(map.kind() == IdKind::kInt);
  CHECK_THROWS(std::invalid_argument, map.insert(std::string_view("1"), [] { return Row{1}; }));
  CHECK_THROWS(std::invalid_argument, map.claim_kind(IdKind::kString));
  map.claim_kind(IdKind::kInt);
  CHECK(map.find(std::string_view("1")) == kNoRow && map.size() == 1);
  Span span;
  span.add("1");
  Row row = 0;
  map.find_many(span.view(), 0, 1, &row);
  CHECK(row == kNoRow);
}

constexpr IdHashKey kFileKey{};

void hashes_of_files_are_fixed() {
  CHECK(hash_id(std::int64_t{0}, kFileKey) == 0xE220A8397B1DCDAFu);  // as splitmix64, seed 0
  for (const IdHashKey key : {kFileKey, IdHashKey{1, 2}, kProcessKey}) {
    std::set<std::uint64_t> seen;  // every length and every byte counts
    for (std::size_t length = 0; length <= 80; ++length) {
      std::string id(length, '\0');
      CHECK(seen.insert(hash_id(std::string_view(id), key)).second);
      for (char& byte : id) {
        byte = 1;
        CHECK(seen.insert(hash_id(std::string_view(id), key)).second);
        byte = 0;
      }
    }
    for (int bit = 0; bit < 64; ++bit) {
      CHECK(seen.insert(hash_id(static_cast<std::int64_t>(std::uint64_t{1} << bit), key)).second);
    }
  }
}

// Every bit of an id changes each bit of its hash about half of the time, whatever the key.
void hashes_avalanche() {
  std::mt19937_64 random(11);
  for (int bit = 0; bit < 64; ++bit) {
    std::array<int, 64> flips{};
    constexpr int kRounds = 2000;
    for (int round = 0; round < kRounds; ++round) {
      const IdHashKey key = round % 2 == 0 ? kProcessKey : IdHashKey{random(), random() | 1};
      const std::uint64_t id = round % 3 == 0 ? static_cast<std::uint64_t>(round) : random();
      const std::uint64_t difference = hash_id(static_cast<std::int64_t>(id), key) ^
                                       hash_id(static_cast<std::int64_t>(id ^ std::uint64_t{1} << bit), key);
      for (int out = 0; out < 64; ++out)
        flips[static_cast<std::size_t>(out)] += static_cast<int>(difference >> out & 1);
    }
    for (const int count : flips) CHECK(count > kRounds * 4 / 10 && count < kRounds * 6 / 10);
  }
}

// Ids with the hashes that somebody wishes for: found by running the function of files backwards.
std::int64_t id_with_hash(std::uint64_t h) {
  const auto unshift = [](std::uint64_t x, int by) {
    std::uint64_t y = x;
    for (int done = by; done < 64; done += by) y = x ^ (y >> by);
    return y;
  };
  const auto inverse = [](std::uint64_t odd) {
    std::uint64_t x = odd;
    for (int i = 0; i < 6; ++i) x *= 2 - odd * x;
    return x;
  };
  h = unshift(h, 31) * inverse(0x94D049BB133111EBu);
  h = unshift(h, 27) * inverse(0xBF58476D1CE4E5B9u);
  return static_cast<std::int64_t>(unshift(h, 30) - 0x9E3779B97F4A7C15u);
}

// Ids that share their shard and their tag: rare pairs, of which there are about eight among so many.
void colliding_ids_stay_apart() {
  EpochDomain domain;
  const EpochDomain::Pin pin = domain.pin_writer();
  IdMap map(domain);
  std::vector<std::pair<std::uint64_t, std::int64_t>> hashed;
  for (std::int64_t id = 0; id < 1 << 21; ++id) {
    hashed.emplace_back(IdMap::hash(id) & 0xFC000000FFFFFFFFu, id);
  }
  std::sort(hashed.begin(), hashed.end());
  Row pairs = 0;
  for (std::size_t k = 1; k < hashed.size() && pairs < 20; ++k) {
    if (hashed[k].first != hashed[k - 1].first) continue;
    const std::int64_t one = hashed[k - 1].second, other = hashed[k].second;
    const Row row = 2 * pairs++;
    map.insert(one, [row] { return row; });
    CHECK(map.find(other) == kNoRow);
    map.insert(other, [row] { return row + 1; });
    CHECK(map.find(one) == row && map.find(other) == row + 1);
    CHECK(map.erase(one) == row);
    CHECK(map.find(one) == kNoRow && map.find(other) == row + 1);
  }
}

// As many ids as one likes on one place of a file's index: it is built by another function, as fast as any, and serves.
void an_index_withstands_ids_made_against_it() {
  std::vector<std::int64_t> ids;
  for (std::uint64_t k = 0; k < 30'000; ++k) ids.push_back(id_with_hash(std::uint64_t{5} << 40 | k));
  CHECK(hash_id(ids[3], kFileKey) == (std::uint64_t{5} << 40 | 3));
  const auto all = [](std::size_t) { return true; };
  const IdSpan span{IdKind::kInt, ids.size(), ids.data(), nullptr, nullptr};
  const IdIndex::Built built = IdIndex::build(span, all);
  CHECK(!built.key.is_zero());
  const IdIndex index(span, 0, built.words, ids.size(), built.key);
  for (Row row = 0; row < ids.size(); ++row) CHECK(index.find(ids[row]) == row);
  CHECK(index.find(id_with_hash(std::uint64_t{5} << 40 | ids.size())) == kNoRow);
  const IdSpan few{IdKind::kInt, 4000, ids.data(), nullptr, nullptr};
  CHECK(IdIndex::build(few, all).key.is_zero());
  CHECK(IdIndex::build(few, all).words == IdIndex::build(few, all).words);
}

void a_failed_allocation_changes_nothing() {
  EpochDomain domain;
  const EpochDomain::Pin pin = domain.pin_writer();
  IdMap map(domain);
  const std::string_view id = "unlucky";
  for (int i = 0; i < 100; ++i) {
    CHECK_THROWS(std::runtime_error, map.insert(id, []() -> Row { throw std::runtime_error("full"); }));
  }
  CHECK(map.size() == 0 && map.find(id) == kNoRow);
  CHECK(map.insert(id, [] { return Row{3}; }) == std::pair(Row{3}, true));
  CHECK(map.insert(id, []() -> Row { throw std::runtime_error("unused"); }) == std::pair(Row{3}, false));
}

template <class Kind>
void random_operations_match_a_model() {
  EpochDomain domain;
  IdMap map(domain);
  std::unordered_map<typename Kind::Id, Row> model;
  std::vector<Row> free_rows;
  Row rows = 0;
  std::mt19937 random(7);
  for (int step = 0; step < 60000; ++step) {
    const EpochDomain::Pin pin = domain.pin_writer();
    const std::uint64_t universe = step < 30000 ? 300 : 20000;  // first much reuse of few ids, then growth
    const typename Kind::Id id = Kind::make(random() % universe);
    const auto known = model.find(id);
    if (random() % 3 != 0) {
      const auto [row, inserted] = map.insert(id, [&] {
        if (free_rows.empty()) return rows++;
        const Row reused = free_rows.back();
        free_rows.pop_back();
        return reused;
      });
      CHECK(inserted == (known == model.end()));
      CHECK(inserted || row == known->second);
      model.emplace(id, row);
    } else {
      const Row row = map.erase(id);
      CHECK(row == (known == model.end() ? kNoRow : known->second));
      if (row != kNoRow) free_rows.push_back(row);
      model.erase(id);
    }
    CHECK(map.size() == model.size());
    if (step % 1000 == 0) map.reserve(random() % 1000);
    if (step % 5000 != 0) continue;
    Span span;
    for (std::uint64_t n = 0; n < 777; ++n) span.add(Kind::make(n));
    std::vector<Row> found(700);
    map.find_many(span.view(), 77, 700, found.data());
    for (std::uint64_t n = 77; n < 777; ++n) {
      map.prefetch(Kind::make(n));
      const auto expected = model.find(Kind::make(n));
      CHECK(map.find(Kind::make(n)) == (expected == model.end() ? kNoRow : expected->second));
      CHECK(found[n - 77] == map.find(Kind::make(n)));
    }
    for (const auto& [known_id, row] : model) CHECK(map.find(known_id) == row && Kind::at(map, row) == known_id);
  }
}

template <class Kind>
void churn_does_not_grow_memory() {
  EpochDomain domain;
  IdMap map(domain);
  CHECK(map.memory_bytes() < 16384);
  constexpr std::uint64_t kLive = 2000;
  std::size_t settled = 0;
  for (std::uint64_t n = 0; n < 40 * kLive; ++n) {
    const EpochDomain::Pin pin = domain.pin_writer();
    map.insert(Kind::make(n), [n] { return static_cast<Row>(n % kLive); });
    if (n >= kLive - 1) CHECK(map.erase(Kind::make(n + 1 - kLive)) == (n + 1) % kLive);
    if (n == 4 * kLive) settled = map.memory_bytes();
  }
  CHECK(map.size() == kLive - 1);
  CHECK(map.memory_bytes() <= 2 * settled);
  CHECK(settled < kLive * 200);
}

void reserved_room_is_used() {
  EpochDomain domain;
  IdMap map(domain);
  map.reserve(100000);
  const std::size_t reserved = map.memory_bytes();
  for (std::int64_t id = 0; id < 100000; ++id) map.insert(id, [id] { return static_cast<Row>(id); });
  CHECK(map.memory_bytes() == reserved);
}

// Valid if decoding and encoding again, both naively, gives the same bytes.
bool slow_is_utf8(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || i + length > bytes.size()) return false;
    std::uint32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length; ++k) point = point << 6 | (static_cast<unsigned char>(bytes[i + k]) & 0x3Fu);
    const auto tail = [point](int shift) { return static_cast<char>(0x80 | (point >> shift & 0x3F)); };
    std::string again;
    if (point < 0x80) {
      again = {static_cast<char>(point)};
    } else if (point < 0x800) {
      again = {static_cast<char>(0xC0 | point >> 6), tail(0)};
    } else if (point < 0x10000) {
      again = {static_cast<char>(0xE0 | point >> 12), tail(6), tail(0)};
    } else {
      again = {static_cast<char>(0xF0 | point >> 18), tail(12), tail(6), tail(0)};
    }
    if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) || again != bytes.substr(i, length)) return false;
    i += length;
  }
  return true;
}

void only_short_utf8_is_an_id() {
  validate_id("");
  validate_id(std::string(kMaxIdBytes, 'x'));
  CHECK_THROWS(std::invalid_argument, validate_id(std::string(kMaxIdBytes + 1, 'x')));
  const auto is_valid = [](std::string_view id) {
    try {
      validate_id(id);
      return true;
    } catch (const std::invalid_argument&) {
      return false;
    }
  };
  // All edges of the table of well-formed sequences, alone, cut short and inside other text.
  std::vector<char> bytes;
  for (const int byte : {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                         0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF}) {
    bytes.push_back(static_cast<char>(byte));
  }
  for (const char a : bytes) {
    for (const char b : bytes) {
      for (const char c : bytes) {
        const std::string three = {a, b, c};
        CHECK(is_valid(three) == slow_is_utf8(three));
        for (const int last : {0x00, 0x7F, 0x80, 0xBF, 0xC0}) {
          const std::string four = three + static_cast<char>(last);
          CHECK(is_valid(four) == slow_is_utf8(four));
        }
      }
      CHECK(is_valid({&a, 1}) == slow_is_utf8({&a, 1}));
      const std::string inside = std::string("ab") + a + b;
      CHECK(is_valid(inside) == slow_is_utf8(inside));
    }
  }
  try {
    validate_id("abc\xFF");
    CHECK(false);
  } catch (const std::invalid_argument& error) {
    CHECK(std::string(error.what()).find("byte 3") != std::string::npos);
  }
}

// The engine's use: rows are plain data, written before their id is published and handed to another id only when their
// ticket has passed. A pinned reader that finds a row finds the data of that id, every time it looks.
template <class Kind>
void stress_reused_rows() {
  constexpr std::uint64_t kIds = 400;
  constexpr int kSteps = 8000;
  EpochDomain domain;
  IdMap map(domain);
  std::vector<std::uint64_t> owner(2 * kSteps, 0);  // plain on purpose
  std::mutex slots_mutex;
  std::deque<std::pair<std::uint64_t, Row>> limbo;
  Row rows = 0;
  std::atomic<int> running{2};
  const auto take_slot = [&](std::uint64_t n) {
    const std::lock_guard lock(slots_mutex);
    Row row = rows;
    if (!limbo.empty() && domain.passed(limbo.front().first)) {
      row = limbo.front().second;
      limbo.pop_front();
    } else {
      ++rows;
    }
    CHECK(row < owner.size());
    owner[row] = n;
    return row;
  };
  const auto write = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int step = 0; step < kSteps; ++step) {
      const EpochDomain::Pin pin = domain.pin_writer();
      const std::uint64_t n = random() % kIds;
      if (random() % 2 == 0) {
        const Row row = map.insert(Kind::make(n), [&] { return take_slot(n); }).first;
        CHECK(owner[row] == n);
      } else if (const Row row = map.erase(Kind::make(n)); row != kNoRow) {
        const std::lock_guard lock(slots_mutex);
        limbo.emplace_back(domain.ticket(), row);
      }
    }
    running.fetch_sub(1);
  };
  const auto read = [&](unsigned seed) {
    std::mt19937 random(seed);
    Span span;
    for (std::uint64_t n = 0; n < kIds; ++n) span.add(Kind::make(n));
    std::vector<Row> found(64);
    while (running.load() != 0) {
      const EpochDomain::Pin pin = domain.pin_reader();
      for (int look = 0; look < 8; ++look) {
        const std::uint64_t n = random() % kIds;
        const Row row = map.find(Kind::make(n));
        if (row != kNoRow) CHECK(owner[row] == n && Kind::at(map, row) == Kind::make(n) && owner[row] == n);
      }
      const std::size_t first = random() % (kIds - found.size());
      map.find_many(span.view(), first, found.size(), found.data());
      for (std::size_t k = 0; k < found.size(); ++k) {
        if (found[k] != kNoRow) CHECK(owner[found[k]] == first + k);
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 2; ++seed) threads.emplace_back(write, seed);
  for (unsigned seed = 2; seed < 4; ++seed) threads.emplace_back(read, seed);
  for (std::thread& thread : threads) thread.join();
  CHECK(map.size() <= kIds && map.size() + limbo.size() == rows);
}

// Every thread inserts every id; each id is allocated once, and all get the same row.
template <class Kind>
void stress_racing_inserts() {
  constexpr std::size_t kIds = 5000;
  EpochDomain domain;
  IdMap map(domain);
  std::atomic<Row> rows{0};
  std::atomic<std::size_t> inserted{0};
  std::array<std::vector<Row>, 3> got;
  std::vector<std::thread> threads;
  for (std::vector<Row>& mine : got) {
    mine.resize(kIds);
    threads.emplace_back([&] {
      const std::size_t start = static_cast<std::size_t>(&mine - got.data()) * 100;
      for (std::size_t step = 0; step < kIds; ++step) {
        const std::size_t n = (start + step) % kIds;
        const EpochDomain::Pin pin = domain.pin_writer();
        const auto [row, fresh] = map.insert(Kind::make(n), [&] { return rows.fetch_add(1); });
        if (fresh) inserted.fetch_add(1);
        mine[n] = row;
        CHECK(map.find(Kind::make(n)) == row && Kind::at(map, row) == Kind::make(n));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(inserted == kIds && rows == kIds && map.size() == kIds);
  CHECK(got[0] == got[1] && got[1] == got[2]);
}

template <class Kind>
void run_both() {
  random_operations_match_a_model<Kind>();
  churn_does_not_grow_memory<Kind>();
  stress_reused_rows<Kind>();
  stress_racing_inserts<Kind>();
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::unusual_ids_are_kept_exactly();
  recengine::the_first_id_settles_the_kind();
  recengine::hashes_of_files_are_fixed();
  recengine::hashes_avalanche();
  recengine::colliding_ids_stay_apart();
  recengine::an_index_withstands_ids_made_against_it();
  recengine::a_failed_allocation_changes_nothing();
  recengine::reserved_room_is_used();
  recengine::only_short_utf8_is_an_id();
  recengine::run_both<recengine::Ints>();
  recengine::run_both<recengine::Strings>();
}
