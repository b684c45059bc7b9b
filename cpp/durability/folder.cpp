#include "durability/folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <string>
#include <system_error>

#include "storage/message.hpp"
#include "storage/process.hpp"

namespace recengine {

namespace {

constexpr std::size_t kDigits = 20;

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error && !std::filesystem::is_directory(folder)) throw std::system_error(error, "cannot make " + folder.string());
  const std::filesystem::path path = folder / "lock";
  file_ = File{retry([&] { return open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666); })};
  if (file_.descriptor < 0) fail_io("open", path);
  if (retry([&] { return flock(file_.descriptor, LOCK_EX | LOCK_NB); }) < 0) {
    if (errno != EWOULDBLOCK) fail_io("lock", path);
    std::array<char, 32> holder{};
    const ssize_t length = read(file_.descriptor, holder.data(), holder.size());
    const std::string_view process(holder.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    throw std::system_error(EAGAIN, std::generic_category(),
                            message("another engine writes ", folder.string(), process.empty() ? "" : ", in process ",
                                    process, "; one at a time can"));
  }
  // For that message alone: nothing depends on it.
  const std::string process = std::to_string(getpid());
  if (ftruncate(file_.descriptor, 0) < 0 || pwrite(file_.descriptor, process.data(), process.size(), 0) < 0) errno = 0;
  close_in_children(file_.descriptor);
}

void FolderLock::release() noexcept {
  if (file_.descriptor < 0) return;
  keep_in_children(file_.descriptor);
  flock(file_.descriptor, LOCK_UN);  // a child that was forked just now may not have closed its own yet
  file_.reset();
}

void sync_ancestors(const std::filesystem::path& folder) {
  std::filesystem::path below = std::filesystem::absolute(folder).lexically_normal();
  if (!below.has_filename()) below = below.parent_path();  // "folder/"
  for (std::filesystem::path above = below.parent_path(); above != below; below = above, above = below.parent_path()) {
    // Whoever may not read a folder has not made one in it.
    if (sync_folder(above) < 0 && errno != EACCES && errno != EPERM) fail_io("sync", above);
  }
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open_folder(opendir(folder.c_str()), &closedir);
  if (!open_folder) fail_io("read", folder);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* const entry = readdir(open_folder.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) fail_io("read", folder);
  return names;
}

std::vector<std::uint64_t> numbered_files(const std::filesystem::path& folder, std::string_view kind) {
  std::vector<std::uint64_t> numbers;
  for (const std::string& name : names_in(folder)) {
    if (name.size() != kind.size() + 1 + kDigits || !name.starts_with(kind) || name[kind.size()] != '-') continue;
    std::uint64_t number = 0;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kind.size() + 1, end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::filesystem::path numbered_file(const std::filesystem::path& folder, std::string_view kind, std::uint64_t number) {
  const std::string digits = std::to_string(number);
  return folder / (std::string(kind) + "-" + std::string(kDigits - digits.size(), '0') + digits);
}

void remove_superseded(const std::filesystem::path& folder, std::uint64_t number) {
  // The snapshots first: a segment that is still there is skipped by recovery, one that is missing is missed.
  for (const std::string_view kind : {kSnapshotKind, kLogKind}) {
    for (const std::uint64_t old : numbered_files(folder, kind)) {
      if (old < number) std::filesystem::remove(numbered_file(folder, kind, old));
    }
  }
}

}  // namespace recengine
