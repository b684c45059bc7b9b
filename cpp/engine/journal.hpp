// Journal: what makes an engine durable. Every call that changes the engine is a record of the log before it is
// applied; a snapshot now and then makes the log before it superfluous. docs/durability.md has the promise.
//
// Order. A call is appended under `log.order` and applied under the writer's pin, the passage of the gate or the pause
// that it was appended under. So whoever shuts the gate and pauses writers finds exactly the records applied that are
// in the log; and what a call has done can be seen by others only after its record is in the log, so that a record
// never depends on a later one. Records of calls that ran at once may be applied in another order than theirs.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "durability/folder.hpp"
#include "durability/gate.hpp"
#include "durability/log.hpp"
#include "durability/payload.hpp"

namespace recengine {

class Engine;

// Kinds of records. Their numbers are part of the format (docs/file-format.md).
enum class RecordKind : std::uint32_t {
  kLearn = 1,
  kInsert = 2,
  kSetUsers = 3,
  kSetItems = 4,
  kSetItemFeatures = 5,
  kRemoveUsers = 6,
  kRemoveItems = 7,
  kSweep = 8,
  kSetFilter = 9,
  kUpdateFilter = 10,
  kRemoveFilter = 11,
  kSetGroups = 12,
  kLearningRate = 13,
  kGlobalBias = 14,
  kImpression = 20,
  kFeedback = 21,
  kFeedbackSettings = 22,
};

// Beside the kind: which columns a record has.
enum RecordFlag : std::uint32_t {
  kHasValues = 1,
  kHasWeights = 2,
  kHasTimestamps = 4,
  kHasSource = 8,
  kHasBiases = 16,
  kLearns = 32,  // feedback: there is an event
};

struct RecordStart {
  RecordKind kind;
  std::uint32_t flags;
};
static_assert(sizeof(RecordStart) == 8);

struct DurabilityOptions {
  SyncMode sync = SyncMode::kInterval;
  // A checkpoint is due once the log since the last one is this long, and as long as its snapshot. 0: never by itself.
  std::uint64_t checkpoint_bytes = std::uint64_t{64} << 20;
  bool salvage = false;  // what follows damage in the log is given up
  // Asked, if there is one, about the engine of a folder that exists, before anything there changes; may throw.
  std::function<void(const Engine&)> accept;
};

class Journal {
 public:
  // `checkpoint` is called by a thread of the journal's when one is due.
  Journal(std::filesystem::path folder, std::unique_ptr<FolderLock> lock, std::uint64_t identity, std::uint64_t first,
          std::uint64_t next, std::uint64_t end, const DurabilityOptions& options, std::function<void()> checkpoint);
  ~Journal() { stop(); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  // Ends the thread of checkpoints. REQUIRES: not called by it.
  void stop();

  // Encodes and appends a record; `then()` runs while nobody else can append, and is the first part of what applies it.
  // Throws std::system_error, and nothing has happened. Also if a call before could not be applied, until there is a
  // checkpoint.
  template <class Encode, class Then>
  std::uint64_t append(RecordKind kind, std::uint32_t flags, Encode encode, Then then) {
    std::uint64_t number;
    {
      const std::lock_guard lock(log.order);
      check_usable();
      writer_.clear();
      writer_.put(RecordStart{kind, flags});
      encode(writer_);
      number = log.append(writer_.record());
      apply(then);
    }
    if (checkpoint_due() && !requested_.load(std::memory_order_relaxed)) wake();
    return number;
  }
  template <class Encode>
  std::uint64_t append(RecordKind kind, std::uint32_t flags, Encode encode) {
    return append(kind, flags, encode, [] {});
  }

  // Applies what was appended. If it throws, state and log say different things from then on: nothing is learned until
  // a checkpoint has made the state the truth.
  template <class Apply>
  auto apply(Apply apply_it) {
    try {
      return apply_it();
    } catch (...) {
      diverge();
      throw;
    }
  }
  void diverge() { diverged_.fetch_add(1, std::memory_order_relaxed); }

  // Of the moment of a snapshot, while nobody appends; and that it is on the disk.
  struct Moment {
    std::uint64_t number = 0;     // of the first record that is not in it
    std::uint64_t log_bytes = 0;  // appended so far
    std::uint64_t diverged = 0, failures = 0;
  };
  Moment begin_segment();
  void try_sync() noexcept;  // as far as the disk takes it
  // What was replayed counts towards the next checkpoint.
  void recovered(std::uint64_t log_bytes, std::uint64_t snapshot_bytes);
  void snapshot_done(const Moment& moment, std::uint64_t snapshot_bytes);
  // No more records: later calls throw. Everything so far is synced. Throws std::system_error if that fails.
  void close();
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

  const std::filesystem::path& folder() const { return folder_; }
  std::uint64_t identity() const { return identity_; }
  std::uint64_t log_bytes() const {  // since the last snapshot
    return recovered_.load(std::memory_order_relaxed) + log.bytes() - snapshot_at_.load(std::memory_order_relaxed);
  }
  std::uint64_t checkpoints() const { return checkpoints_.load(std::memory_order_relaxed); }
  std::string checkpoint_error() const;  // of the last one in the background; empty: none

  Gate gate;
  std::mutex checkpointing;  // one at a time

 private:
  void check_usable() const;
  bool checkpoint_due() const {
    const std::uint64_t least = checkpoint_bytes_;
    return least > 0 && log_bytes() >= std::max(least, due_at_.load(std::memory_order_relaxed));
  }
  void wake();
  void run(const std::function<void()>& checkpoint);

  const std::filesystem::path folder_;
  const std::uint64_t identity_;
  const std::uint64_t checkpoint_bytes_;
  std::unique_ptr<FolderLock> lock_;  // before the log: held until that has ended

 public:
  Log log;

 private:
  PayloadWriter writer_;  // GUARDED_BY(log.order)
  // Figures, and flags that stand for themselves: relaxed.
  std::atomic<bool> closed_{false}, requested_{false};
  std::atomic<std::uint64_t> diverged_{0}, mended_{0};  // how often; how often before the last snapshot
  std::atomic<std::uint64_t> recovered_{0}, snapshot_at_{0}, due_at_{0}, checkpoints_{0};

  mutable std::mutex mutex_;
  std::condition_variable woken_;
  bool stop_ = false;  // GUARDED_BY(mutex_), like what follows
  std::string checkpoint_error_;
  std::thread thread_;
};

}  // namespace recengine
