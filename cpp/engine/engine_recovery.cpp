// Recovery: the engine of a folder, as it was when its last change was logged. All of it is read, and accepted by
// whoever opens the folder, before anything there changes.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "durability/log_reader.hpp"
#include "engine/engine.hpp"
#include "engine/replay.hpp"
#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr std::uint64_t kNoRecord = std::numeric_limits<std::uint64_t>::max();
constexpr std::string_view kSalvage = " (Engine.open(..., salvage=True) keeps what comes before)";

// A record that is whole and says what no engine of this kind could have done.
struct RefusedRecord {
  std::uint64_t number;
  std::string error;
};

// What recovery makes of the segments: where the log goes on, and what is in the way.
struct LogEnd {
  explicit LogEnd(std::uint64_t number) : first(number), next(number) {}

  std::uint64_t first, next, end = 0;  // segment, record, byte
  bool is_made = true;                 // the segment is there, with its header
  std::uint64_t records = 0, cut = 0;
  std::vector<std::filesystem::path> rest;  // segments that go
};

std::uint64_t random_identity() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

// What a killed process left of a snapshot that it was writing. Only before there is an engine that may be writing one.
void remove_temporaries(const std::filesystem::path& folder) {
  for (const std::string& name : names_in(folder)) {
    if (name.starts_with(".recengine-")) std::filesystem::remove(folder / name);
  }
}

// Hands over the records of the segments from `number` on, up to `last`.
template <class Apply>
LogEnd read_log(const std::filesystem::path& folder, std::uint64_t identity, std::uint64_t number, bool salvage,
                std::uint64_t last, Apply apply) {
  std::vector<std::uint64_t> segments = numbered_files(folder, kLogKind);
  std::erase_if(segments, [number](std::uint64_t first) { return first < number; });
  LogEnd at(number);
  if (segments.empty() || segments.front() != number) {
    // A folder gets its first segment after its first snapshot: a process may have died in between.
    if (!salvage && (number != 1 || !segments.empty())) {
      throw FormatError(message("cannot recover from ", folder.string(), ": segment ",
                                numbered_file(folder, kLogKind, number).filename().string(),
                                " is missing (Engine.open(..., salvage=True) does without)"));
    }
    at.is_made = false;
    for (const std::uint64_t first : segments) at.rest.push_back(numbered_file(folder, kLogKind, first));
    return at;
  }
  bool is_over = false;
  for (const std::uint64_t first : segments) {
    const std::filesystem::path path = numbered_file(folder, kLogKind, first);
    is_over |= first != at.next;
    LogReader reader(path, identity, first, salvage);
    if (!is_over) {
      at.end = reader.end();
      while (const auto record = reader.next()) {
        is_over = record->number == last;
        if (is_over) break;
        apply(path, *record);
        at.end = reader.end();
        at.next = reader.next_number();
        ++at.records;
      }
      at.first = first;
      at.is_made = !reader.is_void();
      at.cut += reader.bytes() - std::min(reader.bytes(), at.end);
      is_over |= at.end < reader.bytes();
      continue;
    }
    // The log has ended. A later segment may have been made, but nothing was written to it.
    if (!salvage && reader.next()) {
      throw FormatError(message("cannot recover from ", folder.string(), ": record ", at.next,
                                " is missing, and record ", first, " is there", kSalvage));
    }
    at.cut += reader.bytes();
    at.rest.push_back(path);
  }
  return at;
}

}  // namespace

// The state that the log goes on from.
std::unique_ptr<Engine> Engine::load_snapshot(const std::filesystem::path& path, std::uint64_t number,
                                              std::uint64_t& identity) {
  const SnapshotReader file(path);
  try {
    std::unique_ptr<Engine> engine = load_from(file);
    const auto position = read<std::uint64_t>(file, "log", 2);
    require(position[0] == number, "it is of record ", position[0]);
    identity = position[1];
    return engine;
  } catch (const Damage& damage) {
    throw FormatError(message(path.string(), ": damaged engine file: ", damage.what()));
  }
}

// The first one of a folder.
std::uint64_t Engine::begin_folder(const std::filesystem::path& folder, std::uint64_t number, std::uint64_t identity) {
  if (!numbered_files(folder, kLogKind).empty()) {
    throw FormatError(message("cannot recover from ", folder.string(), ": there is a log, but no snapshot"));
  }
  SnapshotWriter image;
  Deferred deferred;
  write_state(image, deferred);
  write_deferred(image, deferred);
  save_position(image, number, identity);
  sync_ancestors(folder);
  image.commit_to(numbered_file(folder, kSnapshotKind, number));
  return image.bytes();
}

std::unique_ptr<Engine> Engine::open(const std::string& name, const Settings& settings,
                                     const DurabilityOptions& options) {
  const std::filesystem::path folder(name);
  auto lock = std::make_unique<FolderLock>(folder);
  remove_temporaries(folder);
  const std::vector<std::uint64_t> snapshots = numbered_files(folder, kSnapshotKind);
  const std::uint64_t number = snapshots.empty() ? 1 : snapshots.back();
  std::unique_ptr<Engine> engine;
  std::uint64_t identity = 0, snapshot_bytes = 0;
  LogEnd at(number);
  if (snapshots.empty()) {
    engine = std::make_unique<Engine>(settings);
    identity = random_identity();
    snapshot_bytes = engine->begin_folder(folder, number, identity);
    at.is_made = false;
  } else {
    const std::filesystem::path snapshot = numbered_file(folder, kSnapshotKind, number);
    std::uint64_t last = kNoRecord;
    const auto recover = [&] {
      engine = load_snapshot(snapshot, number, identity);
      // What the log holds was let in when it came, and what went then is in the log too.
      engine->enforce_limits(false);
      Replay pending;
      const auto apply = [&](const std::filesystem::path& path, const LogReader::Record& record) {
        check_interrupt();
        try {
          engine->replay(record.payload, pending);
        } catch (const PayloadError& error) {
          throw RefusedRecord{record.number, message("cannot recover from ", path.string(), ": record ", record.number,
                                                     ": ", error.what(), kSalvage)};
        }
      };
      at = read_log(folder, identity, number, options.salvage, last, apply);
      engine->learn_pending(pending);
      engine->enforce_limits(true);
    };
    try {
      recover();
    } catch (const RefusedRecord& refused) {
      if (!options.salvage) throw FormatError(refused.error);
      last = refused.number;  // it may have been carried out in part: once more, without it
      recover();
    }
    snapshot_bytes = std::filesystem::file_size(snapshot);
    if (options.accept) options.accept(*engine);
  }
  // From here on the folder changes. The last segments first: a gap would be taken for damage.
  std::for_each(at.rest.rbegin(), at.rest.rend(), [](const auto& path) { std::filesystem::remove(path); });
  if (!at.is_made) {
    Log::create(folder, identity, at.first);
    at.end = sizeof(SegmentHeader);
  }
  remove_superseded(folder, number);
  engine->recovered_records_ = at.records;
  engine->cut_bytes_ = at.cut;
  engine->journal_ = std::make_unique<Journal>(folder, std::move(lock), identity, at.first, at.next, at.end, options,
                                               [raw = engine.get()] { raw->checkpoint(); });
  engine->journal_->recovered(at.end, snapshot_bytes);
  if (at.cut > 0 && options.salvage) engine->checkpoint();
  return engine;
}

}  // namespace recengine
