// Log: the segment that records are appended to, and when it reaches the disk.
//
// A record has reached the kernel when `append` returns: a killed process loses nothing. `acknowledge` makes it as
// durable as the mode promises: always waits for the disk, together with whoever else waits (group commit); interval
// leaves it to a thread that syncs every so often; os to the system.
//
// Errors: where the system refuses a write, the segment is cut back to what it was and append throws: nothing has
// happened, and the next may succeed. Where even that is refused, or the disk refuses to sync (what was not synced may
// be lost, whatever a second attempt says), the log has failed: it throws until `repair`.
//
// Thread safety: append, rotate and next_number under `order`, the rest from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <thread>

#include "durability/log_format.hpp"
#include "storage/file.hpp"

namespace recengine {

enum class SyncMode { kAlways, kInterval, kOs };

class Log {
 public:
  static constexpr std::chrono::milliseconds kInterval{1000};

  // Goes on with record `next`: at byte `end` of segment `first`, which exists.
  Log(std::filesystem::path folder, std::uint64_t identity, std::uint64_t first, std::uint64_t next, std::uint64_t end,
      SyncMode mode);
  ~Log();  // syncs, as far as it can
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Makes a segment without records: its file's bytes are in the kernel. Throws std::system_error.
  static File create(const std::filesystem::path& folder, std::uint64_t identity, std::uint64_t first);

  mutable std::mutex order;  // of records

  // The record's number. Throws std::system_error, without a trace. `record` has room for the header before the
  // payload. REQUIRES: the payload's length is a multiple of 8.
  std::uint64_t append(std::span<std::byte> record);
  void acknowledge(std::uint64_t number);
  // Ends the segment, which is on the disk afterwards, and begins another. Without records in it: does nothing.
  void rotate();
  void sync();  // everything appended so far
  // What has failed so often does not matter any more: there is a snapshot of later than that.
  std::uint64_t failures() const;
  void repair(std::uint64_t failures);
  std::uint64_t next_number() const { return next_; }
  // The same without `order`, a moment ago.
  std::uint64_t written() const { return written_.load(std::memory_order_acquire); }
  std::uint64_t first_number() const { return first_; }

  std::uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }  // appended, a figure
  std::uint64_t syncs() const { return syncs_.load(std::memory_order_relaxed); }  // a figure
  std::string failure() const;                                                    // empty: none

 private:
  void run();  // the thread of kInterval
  void sync_to(std::uint64_t number);
  void fail(std::string_view what, int error);  // REQUIRES: sync_mutex_ held
  void check_failed() const;

  const std::filesystem::path folder_;
  const std::uint64_t identity_;
  const SyncMode mode_;

  // GUARDED_BY(order)
  std::shared_ptr<File> file_;
  std::uint64_t first_, next_, end_;
  std::uint32_t start_;

  std::atomic<std::uint64_t> written_;  // next_, for who syncs: release, after the bytes
  std::atomic<std::uint64_t> bytes_{0}, syncs_{0};
  std::atomic<bool> failed_{false};

  mutable std::mutex sync_mutex_;
  std::condition_variable synced_changed_;
  std::shared_ptr<File> syncing_file_;  // GUARDED_BY(sync_mutex_), as what follows: the segment that is written
  std::uint64_t synced_;                // every record below is on the disk
  bool syncing_ = false;
  bool stop_ = false;
  std::string failure_;
  int failure_code_ = 0;
  std::uint64_t failures_ = 0;
  std::thread thread_;  // last
};

}  // namespace recengine
