#include "engine/journal.hpp"

#include <new>
#include <stdexcept>
#include <utility>

#include "storage/message.hpp"

namespace recengine {

Journal::Journal(std::filesystem::path folder, std::unique_ptr<FolderLock> lock, std::uint64_t identity,
                 std::uint64_t first, std::uint64_t next, std::uint64_t end, const DurabilityOptions& options,
                 std::function<void()> checkpoint)
    : folder_(std::move(folder)),
      identity_(identity),
      checkpoint_bytes_(options.checkpoint_bytes),
      lock_(std::move(lock)),
      log(folder_, identity, first, next, end, options.sync) {
  if (checkpoint_bytes_ > 0) thread_ = std::thread([this, checkpoint = std::move(checkpoint)] { run(checkpoint); });
}

void Journal::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  woken_.notify_all();
  thread_.join();
}

void Journal::close() {
  static std::mutex closing;  // of any journal: two at once would both end the thread
  const std::lock_guard turn(closing);
  stop();
  const std::lock_guard one(checkpointing);
  const auto closure = gate.close();
  const std::lock_guard lock(log.order);
  if (closed_.exchange(true, std::memory_order_relaxed)) return;
  // Released even if the disk refuses: the folder can be opened again, and is as good as it gets.
  const std::unique_ptr<FolderLock> held = std::move(lock_);
  log.sync();
}

void Journal::check_usable() const {
  if (closed_.load(std::memory_order_relaxed)) throw std::invalid_argument("the engine is closed");
  if (diverged_.load(std::memory_order_relaxed) != mended_.load(std::memory_order_relaxed)) {
    throw std::runtime_error(
        message("a call that the log in ", folder_.string(),
                " holds could not be carried out to its end: checkpoint() makes the state the truth"));
  }
}

Journal::Moment Journal::begin_segment() {
  const std::lock_guard lock(log.order);
  log.rotate();
  return {log.next_number(), log.bytes(), diverged_.load(std::memory_order_relaxed), log.failures()};
}

void Journal::snapshot_done(const Moment& moment, std::uint64_t snapshot_bytes) {
  snapshot_at_.store(moment.log_bytes, std::memory_order_relaxed);
  recovered_.store(0, std::memory_order_relaxed);
  due_at_.store(snapshot_bytes, std::memory_order_relaxed);
  checkpoints_.fetch_add(1, std::memory_order_relaxed);
  mended_.store(moment.diverged, std::memory_order_relaxed);
  log.repair(moment.failures);
  const std::lock_guard lock(mutex_);
  checkpoint_error_.clear();
}

void Journal::try_sync() noexcept {
  try {
    log.sync();
  } catch (const std::exception&) {
    // The log says so itself, to whoever appends next.
  }
}

void Journal::recovered(std::uint64_t log_bytes, std::uint64_t snapshot_bytes) {
  recovered_.store(log_bytes, std::memory_order_relaxed);
  due_at_.store(snapshot_bytes, std::memory_order_relaxed);
}

std::string Journal::checkpoint_error() const {
  const std::lock_guard lock(mutex_);
  return checkpoint_error_;
}

void Journal::wake() {
  {
    const std::lock_guard lock(mutex_);
    requested_.store(true, std::memory_order_relaxed);
  }
  woken_.notify_one();
}

void Journal::run(const std::function<void()>& checkpoint) {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    woken_.wait(lock, [this] { return requested_.load(std::memory_order_relaxed) || stop_; });
    if (stop_) return;
    lock.unlock();
    std::string error;
    try {
      if (checkpoint_due()) checkpoint();
    } catch (const std::exception& failure) {
      try {
        error = failure.what();
      } catch (const std::bad_alloc&) {
        error = "out of memory";  // short enough to need none
      }
      // Tried again when the log has grown by a quarter: it serves meanwhile.
      due_at_.store(log_bytes() + checkpoint_bytes_ / 4, std::memory_order_relaxed);
    }
    lock.lock();
    if (!error.empty()) checkpoint_error_.swap(error);
    requested_.store(false, std::memory_order_relaxed);
  }
}

}  // namespace recengine
