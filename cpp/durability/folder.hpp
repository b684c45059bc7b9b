// The folder of a durable engine: its lock, and the names of what it holds.
//
//   lock                          held (flock) by the one process that writes
//   snapshot-<number>             the state before record <number>
//   log-<number>                  a segment of the log, from record <number> on
// Numbers have 20 digits, so that names sort as numbers do. Other files are left alone.
//
// Errors: std::system_error; of a folder that another process writes, EAGAIN (BlockingIOError in Python).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "storage/file.hpp"

namespace recengine {

class FolderLock {
 public:
  // Makes the folder if there is none.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock() { release(); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  void release() noexcept;

 private:
  File file_;
};

// Puts the folder's own name on the disk, and those of the folders above it, which may be as new. (A process may have
// died between making them and this.)
void sync_ancestors(const std::filesystem::path& folder);

// Names of what is in a folder, in no particular order. (A std::filesystem::directory_iterator ends the process where
// it finds no memory.)
std::vector<std::string> names_in(const std::filesystem::path& folder);

// Numbers of the files "<kind>-<number>", ascending.
std::vector<std::uint64_t> numbered_files(const std::filesystem::path& folder, std::string_view kind);
std::filesystem::path numbered_file(const std::filesystem::path& folder, std::string_view kind, std::uint64_t number);

inline constexpr std::string_view kSnapshotKind = "snapshot";
inline constexpr std::string_view kLogKind = "log";

// Deletes snapshots and segments that recovery from snapshot `number` does not need. REQUIRES: the lock is held, the
// snapshot is on the disk.
void remove_superseded(const std::filesystem::path& folder, std::uint64_t number);

}  // namespace recengine
