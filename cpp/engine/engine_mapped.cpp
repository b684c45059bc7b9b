// An engine whose tables are a mapped file: opening it, and what comes after it.
#include <filesystem>

#include "durability/folder.hpp"
#include "engine/engine.hpp"
#include "engine/sections.hpp"
#include "engine/stored_sections.hpp"
#include "storage/fence.hpp"
#include "storage/file.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

namespace {

constexpr int kAttempts = 100;  // to find the newest snapshot before the next one takes its place

// The file, or of a folder the newest snapshot, mapped; none if it is the one that is already there.
std::unique_ptr<SnapshotReader> map_newest(const std::filesystem::path& path, const SnapshotReader* known) {
  for (int attempt = 1;; ++attempt) {
    std::filesystem::path name = path;
    const bool is_folder = std::filesystem::is_directory(path);
    if (is_folder) {
      const std::vector<std::uint64_t> snapshots = numbered_files(path, kSnapshotKind);
      if (snapshots.empty()) {
        errno = EISDIR;
        fail_io("find a snapshot in", path);
      }
      name = numbered_file(path, kSnapshotKind, snapshots.back());
    }
    try {
      auto file = std::make_unique<SnapshotReader>(name, SnapshotReader::Access::kMapped);
      if (known != nullptr && known->identity() == file->identity()) return nullptr;
      return file;
    } catch (const std::system_error& error) {
      // A checkpoint has just replaced it.
      if (!is_folder || error.code() != std::errc::no_such_file_or_directory || attempt == kAttempts) throw;
    }
  }
}

}  // namespace

std::unique_ptr<Engine> Engine::load_mapped(const std::string& path, bool verify) {
  return of_mapping(path, map_newest(path, nullptr), verify);
}

std::unique_ptr<Engine> Engine::of_mapping(const std::string& path, std::unique_ptr<SnapshotReader> file, bool verify) {
  const SnapshotReader& mapped = *file;
  if (mapped.version() < kMappableVersion) {
    throw FormatError(message("cannot map ", mapped.path().string(), ": it is of format version ", mapped.version(),
                              ", which can only be loaded; save it again"));
  }
  const auto named = [name = mapped.path().string()](const Damage& damage) {
    return FormatError(message(name, ": damaged engine file: ", damage.what()));
  };
  try {
    std::unique_ptr<Engine> engine(new Engine(load_settings(mapped)));
    engine->source_ = path;
    engine->adopt(std::move(file));
    engine->verification_ = std::make_unique<Verification>([raw = engine.get(), named](const std::atomic<bool>& stop) {
      try {
        return raw->verify_mapping(stop);
      } catch (const Damage& damage) {
        throw named(damage);
      }
    });
    if (verify) {
      engine->verification_->run();
    } else {
      engine->verification_->start();
    }
    return engine;
  } catch (const Damage& damage) {
    throw named(damage);
  }
}

void Engine::adopt(std::unique_ptr<SnapshotReader> file) {
  mapping_ = std::move(file);
  const SnapshotReader& mapped = *mapping_;
  const auto pin = domain_.pin_writer();
  retriever_.hold();  // nothing is derived from rows that nobody has looked at
  const Counters counters = load_counters(mapped);
  adopt_user_state(mapped, model_.user_state, mapped.array<float>("items.biases").size());
  adopt_item_state(mapped, model_, ranker_);
  adopt_table(mapped, "users", counters.user_kind, model_.users);
  adopt_table(mapped, "items", counters.item_kind, model_.items);
  load_context(mapped, model_.context);
  if (model_.demand) load_demand_parts(mapped, *model_.demand, model_.items);
  load_ranker_weights(mapped, ranker_);
  const std::vector<Row> items = all_slots(model_.items);
  load_filters(mapped, filters_, items, model_.items);
  // What exploration knows, but no impressions: no feedback can come to them.
  load_precisions(mapped, precisions_, all_slots(model_.users), items, settings_.dim);
  if (mapped.has("feedback.ints")) {
    decisions_.store(read<std::uint64_t>(mapped, "feedback.ints", 4)[3], std::memory_order_relaxed);
  }
  load_sources(mapped, sources_);
  load_numbers(mapped);
}

bool Engine::verify_mapping(const std::atomic<bool>& stop) {
  if (!mapping_->verify(stop) || !check_stored(*mapping_, model_, ranker_, stop)) return false;
  // Now codes may follow.
  full_fence();
  for (Row row = 0; row < model_.items.count(); ++row) {
    if (model_.items.is_live(row)) model_.items.mark_replaced(row);
  }
  retriever_.release();
  return true;
}

std::unique_ptr<Engine> Engine::reloaded() {
  if (!mapping_) throw std::invalid_argument("reload needs an engine that is mapped: Engine.load(path, mmap=True)");
  std::unique_ptr<SnapshotReader> file = map_newest(source_, mapping_.get());
  if (file == nullptr) return nullptr;
  std::unique_ptr<Engine> fresh = of_mapping(source_, std::move(file), true);
  fresh->set_threads(threads());
  fresh->maintain();
  fresh->set_maintenance(maintenance());
  return fresh;
}

std::optional<Engine::MappingFigures> Engine::mapping() const {
  if (!mapping_) return std::nullopt;
  return MappingFigures{mapping_->path().string(), mapping_->bytes(),
                        verification_->state() == Verification::State::kSound, verification_->damage()};
}

}  // namespace recengine
