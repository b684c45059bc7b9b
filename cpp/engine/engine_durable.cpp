// An engine with a folder: opening it, that is recovery, and checkpoints.
#include <array>
#include <filesystem>
#include <random>
#include <utility>

#include "durability/log_reader.hpp"
#include "engine/engine.hpp"
#include "engine/replay.hpp"
#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

std::uint64_t random_identity() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

void add_position(SnapshotWriter& file, std::uint64_t number, std::uint64_t identity) {
  add<std::uint64_t>(file, "log", {number, identity});
}

// What a killed process left of a snapshot that it was writing. Only before there is an engine that may be writing one.
void remove_temporaries(const std::filesystem::path& folder) {
  for (const std::string& name : names_in(folder)) {
    if (name.starts_with(".recengine-")) std::filesystem::remove(folder / name);
  }
}

// Where recovery has come to: the segment that goes on, and what was cut off.
struct Recovered {
  std::uint64_t first, next, end, records = 0, cut = 0;
};

}  // namespace

// Replays the segments from `number` on. What is torn off at the end stays where it is until the log is opened.
template <class Apply>
static Recovered recover_log(const std::filesystem::path& folder, std::uint64_t identity, std::uint64_t number,
                             bool salvage, Apply apply) {
  std::vector<std::uint64_t> segments = numbered_files(folder, kLogKind);
  std::erase_if(segments, [number](std::uint64_t first) { return first < number; });
  if (segments.empty() || segments.front() != number) {
    // A folder gets its first segment after its first snapshot: a process may have died in between.
    if (!salvage && (number != 1 || !segments.empty())) {
      throw FormatError(message("cannot recover from ", folder.string(), ": segment ",
                                numbered_file(folder, kLogKind, number).filename().string(),
                                " is missing (Engine.open(..., salvage=True) does without)"));
    }
    for (const std::uint64_t first : segments) std::filesystem::remove(numbered_file(folder, kLogKind, first));
    Log::create(folder, identity, number);
    return {number, number, sizeof(SegmentHeader)};
  }
  Recovered at{number, number, 0};
  for (std::size_t s = 0; s < segments.size(); ++s) {
    const std::filesystem::path path = numbered_file(folder, kLogKind, segments[s]);
    bool is_torn = segments[s] != at.next;
    if (!is_torn) {
      LogReader reader(path, identity, segments[s], salvage);
      while (const auto record = reader.next()) {
        apply(path, *record);
        ++at.records;
      }
      at.first = segments[s];
      at.next = reader.next_number();
      at.end = reader.end();
      if (reader.is_void()) {
        Log::create(folder, identity, at.first);
        at.end = sizeof(SegmentHeader);
      }
      at.cut += reader.bytes() - std::min(reader.bytes(), reader.end());
      is_torn = reader.end() < reader.bytes();
      if (!is_torn) continue;
    }
    // The log ends here. A later segment may have been made, but nothing was written to it.
    for (std::size_t later = is_torn && segments[s] == at.first ? s + 1 : s; later < segments.size(); ++later) {
      const std::filesystem::path rest = numbered_file(folder, kLogKind, segments[later]);
      LogReader reader(rest, identity, segments[later], salvage);
      if (reader.next() && !salvage) {
        throw FormatError(message("cannot recover from ", folder.string(), ": record ", at.next,
                                  " is missing, and record ", segments[later],
                                  " is there (Engine.open(..., salvage=True) keeps what comes before)"));
      }
      at.cut += reader.bytes();
      std::filesystem::remove(rest);
    }
    break;
  }
  return at;
}

std::unique_ptr<Engine> Engine::open(const std::string& name, const Settings& settings,
                                     const DurabilityOptions& options) {
  const std::filesystem::path folder(name);
  auto lock = std::make_unique<FolderLock>(folder);
  remove_temporaries(folder);
  const std::vector<std::uint64_t> snapshots = numbered_files(folder, kSnapshotKind);
  std::unique_ptr<Engine> engine;
  std::uint64_t number = 1, identity = 0, snapshot_bytes = 0;
  if (snapshots.empty()) {
    if (!numbered_files(folder, kLogKind).empty()) {
      throw FormatError(message("cannot recover from ", name, ": there is a log, but no snapshot"));
    }
    engine = std::make_unique<Engine>(settings);
    identity = random_identity();
    SnapshotWriter image;
    write_indexes(image, engine->write_state(image));
    add_position(image, number, identity);
    image.commit_to(numbered_file(folder, kSnapshotKind, number));
    snapshot_bytes = image.bytes();
  } else {
    number = snapshots.back();
    const std::filesystem::path path = numbered_file(folder, kSnapshotKind, number);
    const SnapshotReader file(path);
    try {
      engine = load_from(file);
      const auto position = read<std::uint64_t>(file, "log", 2);
      require(position[0] == number, "it is of record ", position[0]);
      identity = position[1];
    } catch (const Damage& damage) {
      throw FormatError(message(path.string(), ": damaged engine file: ", damage.what()));
    }
    snapshot_bytes = std::filesystem::file_size(path);
  }
  // What the log holds was let in when it came, and what went then is in the log too.
  engine->enforce_limits(false);
  Replay pending;
  const Recovered at = recover_log(folder, identity, number, options.salvage,
                                   [&](const std::filesystem::path& path, const LogReader::Record& record) {
                                     check_interrupt();
                                     try {
                                       engine->replay(record.payload, pending);
                                     } catch (const PayloadError& error) {
                                       throw FormatError(message("cannot recover from ", path.string(), ": record ",
                                                                 record.number, ": ", error.what()));
                                     }
                                   });
  engine->learn_pending(pending);
  engine->enforce_limits(true);
  remove_superseded(folder, number);
  engine->recovered_records_ = at.records;
  engine->cut_bytes_ = at.cut;
  engine->journal_ = std::make_unique<Journal>(folder, std::move(lock), identity, at.first, at.next, at.end, options,
                                               [raw = engine.get()] { raw->checkpoint(); });
  engine->journal_->recovered(at.end, snapshot_bytes);
  if (at.cut > 0 && options.salvage) engine->checkpoint();
  return engine;
}

// Of a snapshot: nearly all of a large one.
static std::uint64_t estimated_bytes(const Engine& engine) {
  const Settings& settings = engine.settings();
  const std::size_t element = settings.storage == Storage::kFp32 ? 4 : 2, scalars = 48;
  const std::size_t stride = (settings.dim + kRowPadding - 1) / kRowPadding * kRowPadding;
  const std::size_t item = stride * element + scalars + std::size_t{12} * settings.neighbors;
  const std::size_t user = stride * element + scalars + std::size_t{6} * settings.remembered();
  return engine.num_items() * item + engine.num_users() * user;
}

void Engine::checkpoint() {
  if (!journal_) throw std::invalid_argument("checkpoint needs an engine with a folder: Engine.open");
  check_writable();
  domain_.refuse_within_pause();
  const std::lock_guard one(journal_->checkpointing);
  if (journal_->closed()) throw std::invalid_argument("the engine is closed");
  SnapshotWriter image;
  Journal::Moment moment;
  image.reserve(estimated_bytes(*this));
  SavedIds ids;
  {
    const Uninterrupted whole;
    journal_->try_sync();  // most of what must be on the disk before the segment ends, while learning goes on
    const Quiet still = quiet();
    const auto pin = domain_.pin_reader();
    try {
      sweep_for_saving();
    } catch (const std::system_error&) {
      journal_->diverge();  // until the snapshot is there: it cannot be logged that slots are free
      sweep_removed();
    } catch (const std::runtime_error&) {
      sweep_removed();  // they have diverged already
    }
    moment = journal_->begin_segment();
    ids = write_state(image);
    add_position(image, moment.number, journal_->identity());
  }
  write_indexes(image, ids);
  image.commit_to(numbered_file(journal_->folder(), kSnapshotKind, moment.number));
  remove_superseded(journal_->folder(), moment.number);
  journal_->snapshot_done(moment, image.bytes());
}

void Engine::sync() {
  check_writable();
  journal_->log.sync();
}

void Engine::close() {
  check_writable();
  journal_->close();
}

Engine::DurabilityFigures Engine::durability() const {
  const Journal& journal = *journal_;
  return {journal.next_record(), journal.log_bytes(),        journal.log.syncs(),
          journal.checkpoints(), recovered_records_,         cut_bytes_,
          journal.log.failure(), journal.checkpoint_error(), journal.closed()};
}

}  // namespace recengine
