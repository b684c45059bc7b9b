// An engine with a folder: checkpoints, and the end of it.
#include <filesystem>
#include <utility>

#include "engine/engine.hpp"
#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

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
    save_position(image, moment.number, journal_->identity());
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
  domain_.refuse_within_pause();  // before anything has ended: by a signal handler in the middle of save()
  journal_->close();
}

Engine::DurabilityFigures Engine::durability() const {
  const Journal& journal = *journal_;
  DurabilityFigures figures{journal.log.written(),
                            journal.log_bytes(),
                            journal.log.syncs(),
                            journal.checkpoints(),
                            recovered_records_,
                            cut_bytes_,
                            {},
                            {},
                            journal.closed()};
  if (is_own()) {  // they are texts, under locks that a child may find taken; and none of its business
    figures.log_error = journal.log.failure();
    figures.checkpoint_error = journal.checkpoint_error();
  }
  return figures;
}

}  // namespace recengine
