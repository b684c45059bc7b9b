// Engine files. Most inputs give sections only, and the file around them, header, table and checksums, is made right,
// so that what is behind it is met. Whatever is loaded must answer, learn and be finite.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "engine/engine.hpp"
#include "learner/recent_items.hpp"
#include "memory_file.hpp"
#include "storage/crc32c.hpp"
#include "storage/snapshot.hpp"

namespace recengine::fuzz {

namespace {

constexpr std::size_t kHeader = 64;

template <class T>
T at(const std::vector<std::byte>& bytes, std::size_t place) {
  T value;
  std::memcpy(&value, bytes.data() + place, sizeof(T));
  return value;
}

template <class T>
void put(std::vector<std::byte>& bytes, std::size_t place, T value) {
  std::memcpy(bytes.data() + place, &value, sizeof(T));
}

// The window of recent items is most of a small file, and all of it says "none": inputs leave it out.
constexpr std::string_view kWindow = "recent";
constexpr std::size_t kWindowBytes = RecentItems::kWindow * sizeof(Row);

std::vector<std::pair<Section, std::vector<std::byte>>> sections_of(const std::vector<std::byte>& file) {
  std::vector<std::pair<Section, std::vector<std::byte>>> sections;
  const auto table = std::min<std::uint64_t>(at<std::uint64_t>(file, 16), file.size());
  for (std::uint64_t entry = table; entry + sizeof(Section) <= file.size(); entry += sizeof(Section)) {
    const auto section = at<Section>(file, entry);
    const std::uint64_t offset = std::min(section.offset, table), length = std::min(section.length, table - offset);
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(offset);
    sections.emplace_back(section, std::vector<std::byte>(begin, begin + static_cast<std::ptrdiff_t>(length)));
  }
  return sections;
}

// A file of these sections: what is said of them elsewhere is right (docs/file-format.md).
std::vector<std::byte> file_of(const std::vector<std::pair<Section, std::vector<std::byte>>>& sections) {
  std::vector<std::byte> file(kHeader), table;
  for (const auto& [section, bytes] : sections) {
    Section entry = section;
    entry.offset = file.size();
    entry.length = bytes.size();
    entry.crc = crc32c(bytes);
    const auto raw = std::as_bytes(std::span(&entry, 1));
    table.insert(table.end(), raw.begin(), raw.end());
    file.insert(file.end(), bytes.begin(), bytes.end());
    file.resize((file.size() + 63) / 64 * 64);
  }
  std::memcpy(file.data(), "RECENGIN", 8);
  put(file, 8, kFormatVersion);
  put(file, 12, static_cast<std::uint32_t>(sections.size()));
  put(file, 16, std::uint64_t{file.size()});
  put(file, 24, std::uint64_t{file.size() + table.size()});
  put(file, 32, crc32c(table));
  put(file, 60, crc32c(std::span(file).first(60)));
  file.insert(file.end(), table.begin(), table.end());
  return file;
}

bool is_window(const Section& section) { return std::string_view(section.name.data(), 6) == kWindow; }

std::vector<std::byte> repaired(const std::vector<std::byte>& file) {
  auto sections = sections_of(file);
  for (auto& [section, bytes] : sections) {
    if (is_window(section) && bytes.size() < kWindowBytes) bytes.resize(kWindowBytes, std::byte{0xFF});
  }
  return file_of(sections);
}

std::string shortened(const std::string& file) {
  const auto* const begin = reinterpret_cast<const std::byte*>(file.data());
  auto sections = sections_of({begin, begin + file.size()});
  for (auto& [section, bytes] : sections) {
    if (is_window(section)) bytes.resize(64);
  }
  const std::vector<std::byte> whole = file_of(sections);
  return {reinterpret_cast<const char*>(whole.data()), whole.size()};
}

void check_finite_rows(const FactorTable& factors) {
  for (const float value : factors.vectors) expect(std::isfinite(value));
  for (const float value : factors.biases) expect(std::isfinite(value));
}

void live_with(Engine& engine) {
  engine.set_maintenance(false);
  engine.set_threads(1);
  const IdArray users = engine.user_ids(), items = engine.item_ids();
  QueryOptions query;
  query.k = 5;
  const Id user = users.size() > 0 ? id_at(users.span(), 0) : Id{};
  const Id item = items.size() > 0 ? id_at(items.span(), 0) : Id{};
  if (user.kind != IdKind::kNone) {
    for (const float score : engine.recommend(user, query).scores) expect(!std::isnan(score));
    ExploreOptions explore;
    explore.policy = {PolicyKind::kThompson, 1.0, PrecisionKind::kShared, 3};
    explore.seed = 1;
    const Decision decision = engine.explore(user, query, explore);
    engine.impression(std::make_shared<const Decision>(decision), kLatest);
    try {
      if (item.kind != IdKind::kNone) engine.learn_one(user, item, 1, 1, kLatest);
    } catch (const std::invalid_argument&) {  // more than the file's limits allow
    }
  }
  engine.recommend_history(items.span(), query);
  for (const Impression& shown : engine.impressions().copy()) {
    for (const std::uint32_t place : shown.decision->slate) expect(place < shown.decision->candidates.size());
  }
  if (item.kind != IdKind::kNone) {
    const std::vector<std::uint64_t> ends{0, item.text.size()};
    engine.remove_items({item.kind, 1, &item.number, item.text.data(), ends.data()});
  }
  engine.statistics();
  check_finite_rows(engine.user_factors());
  check_finite_rows(engine.item_factors());
}

std::string saved(Engine& engine) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("recengine-fuzz-" + std::to_string(getpid()));
  engine.save(path.string());
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::filesystem::remove(path);
  return bytes;
}

Id number(std::int64_t value) { return {IdKind::kInt, value, {}}; }

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> files;
  for (const bool full : {false, true}) {
    Settings settings;
    settings.dim = 2;
    settings.negatives = full ? 2 : 0;
    settings.history = full ? 3 : 0;
    settings.objective = full ? Objective::kSoftmax : Objective::kSquared;
    if (full) {
      settings.ranker = RankerKind::kMlp;
      settings.neighbors = 3;
      settings.neighbors_window = 2;
      settings.item_features = {"price"};
      settings.storage = Storage::kFp16;
    }
    Engine engine(settings);
    files.push_back('\1' + shortened(saved(engine)));
    for (std::int64_t n = 0; n < 12; ++n) engine.learn_one(number(n % 3), number(n % 5), 1, 1, static_cast<double>(n));
    const std::vector<std::int64_t> some{1, 2};
    const IdSpan items{IdKind::kInt, some.size(), some.data(), nullptr, nullptr};
    engine.set_filter("f", items);
    engine.set_groups(items, items);
    QueryOptions query;
    query.k = 2;
    ExploreOptions explore;
    explore.policy = {PolicyKind::kUcb, 1.0, PrecisionKind::kShared, 0};
    engine.impression(std::make_shared<const Decision>(engine.explore(number(1), query, explore)), kLatest);
    engine.impression(std::make_shared<const Decision>(engine.explore_history(items, query, explore)), kLatest);
    explore.diversity = {DiversityKind::kMaxPerGroup, 0, 1};  // for somebody who is not known
    engine.impression(std::make_shared<const Decision>(engine.explore(number(77), query, explore)), 20);
    const std::int64_t offset = 7;
    engine.learn_one(number(1), number(4), 1, 1, kLatest, {"orders", {&offset, 1}});
    files.push_back('\1' + shortened(saved(engine)));
  }
  return files;
}

}  // namespace recengine::fuzz

// The first byte says whether the file around the sections is made right.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace recengine;
  static fuzz::MemoryFile memory;
  if (size < 1) return 0;
  const auto* const begin = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> file(begin + 1, begin + size);
  if (data[0] % 8 != 0 && file.size() >= fuzz::kHeader) file = fuzz::repaired(file);
  memory.set(file);
  std::unique_ptr<Engine> engine;
  try {
    engine = Engine::load(memory.path().string());
  } catch (const FormatError&) {
    return 0;
  }
  fuzz::live_with(*engine);
  return 0;
}
