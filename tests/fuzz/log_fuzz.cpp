// Segments of the log, and what their records do to an engine. Of most inputs the numbers and checksums of the records
// are made right first.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "durability/folder.hpp"
#include "durability/log_reader.hpp"
#include "engine/engine.hpp"
#include "memory_file.hpp"
#include "storage/snapshot.hpp"

namespace recengine::fuzz {

namespace {

constexpr std::uint64_t kIdentity = 17, kFirst = 1;

SegmentHeader header_of() {
  SegmentHeader header;
  header.identity = kIdentity;
  header.first = kFirst;
  header.crc = header_checksum(header);
  return header;
}

void repair(std::vector<std::byte>& file) {
  const SegmentHeader segment = header_of();
  std::memcpy(file.data(), &segment, sizeof(segment));
  std::size_t at = sizeof(segment);
  for (std::uint64_t number = kFirst; at + sizeof(RecordHeader) <= file.size(); ++number) {
    RecordHeader header;
    std::memcpy(&header, file.data() + at, sizeof(header));
    header.number = number;
    header.length = std::min(header.length, static_cast<std::uint32_t>(file.size() - at - sizeof(header)));
    const auto payload = std::span<const std::byte>(file).subspan(at + sizeof(header), header.length);
    header.crc = record_checksum(header, payload, checksum_start(kIdentity, kFirst));
    std::memcpy(file.data() + at, &header, sizeof(header));
    at += record_size(header.length);
  }
}

Settings settings_of(bool ranks) {
  Settings settings;
  settings.dim = 2;
  settings.negatives = 2;
  settings.history = 2;
  if (ranks) {
    settings.ranker = RankerKind::kLinear;
    settings.item_features = {"price"};
  } else {
    settings.objective = Objective::kBpr;
  }
  return settings;
}

Id number(std::int64_t value) { return {IdKind::kInt, value, {}}; }

}  // namespace

std::vector<std::string> seeds() {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("recengine-fuzz-" + std::to_string(getpid()));
  std::vector<std::string> logs;
  for (const bool ranks : {false, true}) {
    std::filesystem::remove_all(folder);
    {
      const auto engine = Engine::open(folder.string(), settings_of(ranks), {SyncMode::kOs, 0, false, {}});
      for (std::int64_t n = 0; n < 4; ++n) engine->learn_one(number(n % 2), number(n), 1, 0.5f, static_cast<double>(n));
      const std::vector<std::int64_t> some{1, 2};
      const IdSpan ids{IdKind::kInt, some.size(), some.data(), nullptr, nullptr};
      const std::vector<float> rows(ids.size * engine->settings().dim, 0.25f), two{1, 2};
      engine->set_items(ids, rows, two.data());
      engine->set_users(ids, rows, nullptr);
      if (ranks) engine->set_item_features(ids, two);
      engine->set_filter("f", ids);
      engine->update_filter("f", ids, ids);
      engine->set_groups(ids, ids);
      engine->set_feedback_settings({});
      QueryOptions query;
      query.k = 2;
      ExploreOptions explore;
      explore.policy = {PolicyKind::kThompson, 1.0, PrecisionKind::kShared, 2};
      for (int n = 0; n < 2; ++n) {
        const auto decision = std::make_shared<const Decision>(engine->explore(number(1), query, explore));
        const std::uint64_t shown = engine->impression(decision, 9);
        engine->feedback(shown, id_at(decision->candidates.span(), decision->slate[0]), 1, kLatest, n == 0);
      }
      explore.diversity = {DiversityKind::kMaxPerGroup, 0, 1};
      for (const std::int64_t stranger : {77, 78}) {
        const auto decision = std::make_shared<const Decision>(engine->explore(number(stranger), query, explore));
        const std::uint64_t shown = engine->impression(decision, kLatest);
        engine->feedback(shown, id_at(decision->candidates.span(), decision->slate[0]), 1, kLatest, stranger == 77);
      }
      const std::vector<std::int64_t> unlearned{78};
      engine->remove_users({IdKind::kInt, 1, unlearned.data(), nullptr, nullptr});
      const std::int64_t offset = 7;
      engine->learn_one(number(1), number(3), 1, 1, kLatest, {"orders", {&offset, 1}});
      engine->set_learning_rate(0.1);
      engine->set_global_bias(0.5);
      engine->remove_filter("f");
      engine->remove_users(ids);
      engine->remove_items(ids);
    }
    std::ifstream in(numbered_file(folder, kLogKind, kFirst), std::ios::binary);
    std::string log{std::istreambuf_iterator<char>(in), {}};
    logs.push_back(static_cast<char>(ranks ? 3 : 1) + log);
    // A record at a time, which are easier to vary.
    for (std::size_t at = sizeof(SegmentHeader); at + sizeof(RecordHeader) <= log.size();) {
      RecordHeader header;
      std::memcpy(&header, log.data() + at, sizeof(header));
      const std::size_t size = record_size(header.length);
      logs.push_back(static_cast<char>(ranks ? 3 : 1) + log.substr(0, sizeof(SegmentHeader)) + log.substr(at, size));
      at += size;
    }
  }
  std::filesystem::remove_all(folder);
  return logs;
}

}  // namespace recengine::fuzz

// The first byte: whether the checksums are made right, and which engine it is.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace recengine;
  static fuzz::MemoryFile memory;
  if (size < 1) return 0;
  const auto* const begin = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> file(begin + 1, begin + size);
  if (data[0] % 2 != 0 && file.size() >= sizeof(SegmentHeader)) fuzz::repair(file);
  memory.set(file);
  Engine engine(fuzz::settings_of(data[0] / 2 % 2 != 0));
  engine.set_maintenance(false);
  try {
    LogReader reader(memory.path(), fuzz::kIdentity, fuzz::kFirst, data[0] / 4 % 2 != 0);
    std::vector<std::span<const std::byte>> records;
    while (const auto record = reader.next()) records.push_back(record->payload);
    engine.apply_records(records);
  } catch (const FormatError&) {
  } catch (const PayloadError&) {  // what came before it has happened
  }
  for (const FactorTable& factors : {engine.user_factors(), engine.item_factors()}) {
    for (const float value : factors.vectors) fuzz::expect(std::isfinite(value));
    for (const float value : factors.biases) fuzz::expect(std::isfinite(value));
  }
  const IdArray users = engine.user_ids();
  if (users.size() > 0) {
    for (const float score : engine.recommend(id_at(users.span(), 0), {}).scores) fuzz::expect(!std::isnan(score));
  }
  engine.impressions().copy();
  return 0;
}
