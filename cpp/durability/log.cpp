#include "durability/log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

#include "durability/folder.hpp"
#include "storage/message.hpp"

namespace recengine {

File Log::create(const std::filesystem::path& folder, std::uint64_t identity, std::uint64_t first) {
  const std::filesystem::path path = numbered_file(folder, kLogKind, first);
  SegmentHeader header;
  header.identity = identity;
  header.first = first;
  header.crc = header_checksum(header);
  File file{retry([&] { return open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666); })};
  if (file.descriptor < 0) fail_io("make", path);
  if (!write_fully_at(file.descriptor, std::as_bytes(std::span(&header, 1)), 0) || sync_to_disk(file.descriptor) < 0 ||
      sync_folder(folder) < 0) {
    const int error = errno;
    unlink(path.c_str());
    errno = error;
    fail_io("write", path);
  }
  return file;
}

Log::Log(std::filesystem::path folder, std::uint64_t identity, std::uint64_t first, std::uint64_t next,
         std::uint64_t end, SyncMode mode)
    : folder_(std::move(folder)),
      identity_(identity),
      mode_(mode),
      first_(first),
      next_(next),
      end_(end),
      start_(checksum_start(identity, first)),
      written_(next),
      synced_(first) {
  const std::filesystem::path path = numbered_file(folder_, kLogKind, first);
  file_ = std::make_shared<File>(retry([&] { return open(path.c_str(), O_WRONLY | O_CLOEXEC); }));
  // A torn tail goes: nothing of it may lie behind what is written next.
  if (file_->descriptor < 0 || ftruncate(file_->descriptor, static_cast<off_t>(end)) < 0) fail_io("open", path);
  syncing_file_ = file_;
  sync();
  if (mode_ == SyncMode::kInterval) thread_ = std::thread([this] { run(); });
}

Log::~Log() {
  {
    const std::lock_guard lock(sync_mutex_);
    stop_ = true;
  }
  synced_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  try {
    if (mode_ != SyncMode::kOs) sync();
  } catch (const std::exception&) {
    // Who wanted to know has called sync().
  }
}

std::uint64_t Log::append(std::span<std::byte> record) {
  check_failed();
  const std::span<const std::byte> payload = record.subspan(sizeof(RecordHeader));
  if (payload.size() > kMaxRecord) throw std::length_error("a record of the log would be too large");
  RecordHeader header{0, static_cast<std::uint32_t>(payload.size()), next_};
  header.crc = record_checksum(header, payload, start_);
  std::memcpy(record.data(), &header, sizeof(header));
  if (!write_fully_at(file_->descriptor, record, static_cast<off_t>(end_))) {
    const int error = errno;
    if (retry([&] { return ftruncate(file_->descriptor, static_cast<off_t>(end_)); }) < 0) {
      const std::lock_guard lock(sync_mutex_);
      fail("can neither be written nor cut", error);
    }
    throw std::system_error(error, std::generic_category(), "cannot write the log in " + folder_.string());
  }
  end_ += record.size();
  // Release: who syncs up to this number finds the bytes written.
  written_.store(next_ + 1, std::memory_order_release);
  bytes_.fetch_add(record.size(), std::memory_order_relaxed);
  return next_++;
}

void Log::acknowledge(std::uint64_t number) {
  if (mode_ == SyncMode::kAlways) sync_to(number);
}

void Log::sync() {
  check_failed();
  const std::uint64_t written = written_.load(std::memory_order_acquire);
  if (written > 0) sync_to(written - 1);
}

void Log::sync_to(std::uint64_t number) {
  std::unique_lock lock(sync_mutex_);
  while (synced_ <= number) {
    if (!failure_.empty()) throw std::system_error(failure_code_, std::generic_category(), failure_);
    if (syncing_) {  // whoever comes meanwhile is served by the next one
      synced_changed_.wait(lock);
      continue;
    }
    syncing_ = true;
    const std::shared_ptr<File> file = syncing_file_;
    const std::uint64_t target = written_.load(std::memory_order_acquire);
    lock.unlock();
    const int result = sync_to_disk(file->descriptor);
    const int error = errno;
    lock.lock();
    syncing_ = false;
    syncs_.fetch_add(1, std::memory_order_relaxed);
    if (result == 0) {
      if (file == syncing_file_) synced_ = target;  // else rotate has synced the rest
    } else {
      fail("cannot be synced", error);
    }
    synced_changed_.notify_all();
  }
}

void Log::rotate() {
  if (next_ == first_) return;
  try {
    sync();
  } catch (const std::system_error&) {
    // The log has failed: what it holds is lost unless the snapshot that follows is written.
  }
  File fresh = create(folder_, identity_, next_);
  {
    const std::lock_guard lock(sync_mutex_);
    file_ = syncing_file_ = std::make_shared<File>(std::move(fresh));
    synced_ = next_;  // the old segment's were synced, or are given up for a snapshot
  }
  synced_changed_.notify_all();
  first_ = next_;
  end_ = sizeof(SegmentHeader);
  start_ = checksum_start(identity_, first_);
}

std::uint64_t Log::failures() const {
  const std::lock_guard lock(sync_mutex_);
  return failures_;
}

void Log::repair(std::uint64_t failures) {
  const std::lock_guard lock(sync_mutex_);
  if (failures_ != failures) return;
  failure_.clear();
  failed_.store(false, std::memory_order_relaxed);
}

void Log::fail(std::string_view what, int error) {
  ++failures_;
  failure_code_ = error;
  failure_ = "the log";  // short enough to need no memory; who waits must not find it empty
  failed_.store(true, std::memory_order_relaxed);
  failure_ = message("the log in ", folder_.string(), " ", what, "; checkpoint() makes it whole again");
}

std::string Log::failure() const {
  const std::lock_guard lock(sync_mutex_);
  return failure_;
}

void Log::check_failed() const {
  // Relaxed: who misses it meets the failure itself.
  if (!failed_.load(std::memory_order_relaxed)) [[likely]]
    return;
  const std::lock_guard lock(sync_mutex_);
  throw std::system_error(failure_code_, std::generic_category(), failure_);
}

void Log::run() {
  std::unique_lock lock(sync_mutex_);
  auto next = std::chrono::steady_clock::now() + kInterval;
  while (!stop_) {
    if (synced_changed_.wait_until(lock, next) != std::cv_status::timeout) continue;
    next = std::chrono::steady_clock::now() + kInterval;
    if (stop_ || !failure_.empty() || synced_ >= written_.load(std::memory_order_acquire)) continue;
    lock.unlock();
    try {
      sync();
    } catch (const std::exception&) {
      // Kept: the next append says it. Without memory: tried again.
    }
    lock.lock();
  }
}

}  // namespace recengine
