// An engine with a folder: checkpoints, and the end of it.
#include <filesystem>
#include <utility>

#include "engine/engine.hpp"
#include "engine/sections.hpp"
#include "storage/interrupt.hpp"

namespace recengine {

// Takes memory for so many, and some more, in advance: while learners wait it would take longer than the copying. The
// system gives pages when they are written.
template <class T>
static void take_memory(std::vector<T>& values, std::size_t size) {
  values.resize(size + size / 64 + 1024);
  values.clear();
}

void Engine::prepare(SnapshotWriter& image, Deferred& deferred) const {
  const Row users = model_.users.count(), items = model_.items.count();
  std::size_t entries = 0, seen = 0, neighbors = 0;
  for (Row user = 0; user < users; ++user) {
    entries += model_.user_state.num_entries(user);
    seen += model_.user_state.seen(user).size();
  }
  for (Row item = 0; model_.cooccurrence.on() && item < items; ++item) {
    neighbors += model_.cooccurrence.used(item, Removed{});
  }
  take_memory(deferred.history, entries);
  take_memory(deferred.sessions, entries);
  if (model_.user_state.timed()) take_memory(deferred.times, entries);
  take_memory(deferred.seen, seen);
  take_memory(deferred.history_ends, users);
  take_memory(deferred.seen_ends, users);
  take_memory(deferred.neighbors, neighbors);
  take_memory(deferred.after, neighbors);
  take_memory(deferred.before, neighbors);
  take_memory(deferred.neighbor_ends, items);
  deferred.users.reserve(model_.users.ids, users + users / 64 + 1024);
  deferred.items.reserve(model_.items.ids, items + items / 64 + 1024);
  // The rest goes into the image at once: rows, and so many bytes beside each.
  constexpr std::size_t kPerUser = 48, kPerItem = 96;
  const std::size_t element = settings_.storage == Storage::kFp32 ? sizeof(float) : sizeof(Half);
  const std::size_t row = model_.items.stride() * element, features = ranker_.features.count() * sizeof(float);
  const std::size_t bytes = users * (row + kPerUser) + items * (row + kPerItem + features);
  image.reserve(bytes + bytes / 64);
}

void Engine::checkpoint() {
  if (!journal_) throw std::invalid_argument("checkpoint needs an engine with a folder: Engine.open");
  check_writable();
  domain_.refuse_within_pause();
  const std::lock_guard one(journal_->checkpointing);
  if (journal_->closed()) throw std::invalid_argument("the engine is closed");
  SnapshotWriter image;
  Deferred deferred;
  Journal::Moment moment;
  {
    const auto pin = domain_.pin_reader();
    prepare(image, deferred);
  }
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
    write_state(image, deferred);
  }
  write_deferred(image, deferred);
  save_position(image, moment.number, journal_->identity());
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
