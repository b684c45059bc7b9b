#include "storage/snapshot.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "storage/crc32c.hpp"
#include "storage/file.hpp"
#include "storage/interrupt.hpp"

namespace recengine {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian, and so is this code");

constexpr std::array<char, 8> kMagic = {'R', 'E', 'C', 'E', 'N', 'G', 'I', 'N'};
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kBuffer = std::size_t{1} << 18;
constexpr std::uint64_t kPiece = std::uint64_t{1} << 22;  // of a section between two looks at who wants to stop

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kFormatVersion;
  std::uint32_t sections = 0;      // entries of the section table, with which the file ends
  std::uint64_t table_offset = 0;  // where it begins, a multiple of 64
  std::uint64_t file_length = 0;
  std::uint32_t table_crc = 0;
  std::array<std::byte, 24> zero{};
  std::uint32_t header_crc = 0;  // of all the bytes before it
};
static_assert(sizeof(Header) == kAlignment);

std::uint32_t header_crc(const Header& header) {
  return crc32c(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, header_crc)));
}

constexpr std::uint64_t aligned(std::uint64_t position) {
  return (position + kAlignment - 1) / kAlignment * kAlignment;
}

std::string_view name_of(const Section& section) {
  const auto end = std::find(section.name.begin(), section.name.end(), '\0');
  return {section.name.data(), static_cast<std::size_t>(end - section.name.begin())};
}

bool is_name(std::string_view name) {  // printable ASCII, fit for messages
  return !name.empty() && name.size() <= sizeof(Section::name) &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

SnapshotWriter::SnapshotWriter(std::filesystem::path path) : position_(kStart) { open_temporary(std::move(path)); }

void SnapshotWriter::open_temporary(std::filesystem::path path) {
  path_ = std::move(path);
  struct stat status{};
  if (stat(path_.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    fail();
  }
  // A short name of its own: `path` may be as long as the system allows. O_EXCL steps over what a killed process left.
  static std::atomic<unsigned> next{0};
  do {
    const std::string name =
        ".recengine-" + std::to_string(getpid()) + "-" + std::to_string(next.fetch_add(1, std::memory_order_relaxed));
    temporary_ = path_.parent_path() / name;
    file_ = retry([&] { return open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  } while (file_ < 0 && errno == EEXIST);
  if (file_ < 0) fail();
  static_assert(kStart == sizeof(Header));  // the header is written last
  if (lseek(file_, static_cast<off_t>(kStart), SEEK_SET) < 0) fail();
}

SnapshotWriter::~SnapshotWriter() { abandon(); }

void SnapshotWriter::abandon() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
  file_ = -1;
}

void SnapshotWriter::fail() {
  const int error = errno;
  abandon();  // a file with a gap must never be committed
  errno = error;
  fail_io("save", path_);
}

void SnapshotWriter::begin_section(std::string_view name, ElementType type) {
  if (open_section_) throw std::logic_error("a section begins inside another");
  const auto same = [name](const Section& section) { return name_of(section) == name; };
  if (!is_name(name) || std::any_of(sections_.begin(), sections_.end(), same)) {
    throw std::invalid_argument("not a new section name of 1 to 16 printable characters: '" + std::string(name) + "'");
  }
  Section section{{}, type, 0, position_, 0};
  std::copy(name.begin(), name.end(), section.name.begin());
  sections_.push_back(section);
  open_section_ = true;
}

void SnapshotWriter::append_bytes(ElementType type, std::span<const std::byte> bytes) {
  if (!open_section_ || type != sections_.back().type) throw std::logic_error("no open section of this type");
  Section& section = sections_.back();
  if (!in_memory_) section.crc = crc32c(bytes, section.crc);
  section.length += bytes.size();
  write(bytes);
}

void SnapshotWriter::end() {
  if (!open_section_) throw std::logic_error("no open section");
  pad();
  open_section_ = false;
}

void SnapshotWriter::pad() {
  static constexpr std::array<std::byte, kAlignment> zeros{};
  write(std::span(zeros).first(aligned(position_) - position_));
}

void SnapshotWriter::write(std::span<const std::byte> bytes) {
  if (in_memory_) return keep(bytes);
  position_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBuffer) flush();
  if (bytes.size() > kBuffer) {
    write_through(bytes);
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
}

void SnapshotWriter::reserve(std::uint64_t bytes) {
  while (blocks_.size() * kBlock < bytes) {
    blocks_.emplace_back(kBlock);
    for (std::size_t page = 0; page < kBlock; page += 4096) blocks_.back().data()[page] = std::byte{0};
  }
}

void SnapshotWriter::keep(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t block = (position_ - kStart) / kBlock, used = (position_ - kStart) % kBlock;
    if (block == blocks_.size()) blocks_.emplace_back(kBlock);
    const std::size_t piece = std::min(bytes.size(), kBlock - used);
    std::memcpy(blocks_[block].data() + used, bytes.data(), piece);
    bytes = bytes.subspan(piece);
    position_ += piece;
  }
}

void SnapshotWriter::commit_to(std::filesystem::path path) {
  if (!in_memory_ || open_section_) throw std::logic_error("nothing in memory, or a section is still open");
  open_temporary(std::move(path));
  in_memory_ = false;
  // Block by block: the checksums of what it holds of each section, then the block.
  auto section = sections_.begin();
  for (std::size_t b = 0; b < blocks_.size() && kStart + b * kBlock < position_; ++b) {
    const std::uint64_t first = kStart + b * kBlock, last = std::min<std::uint64_t>(first + kBlock, position_);
    const std::span<const std::byte> block(blocks_[b].data(), last - first);
    while (section != sections_.end() && section->offset < last) {
      const std::uint64_t from = std::max(section->offset, first);
      const std::uint64_t to = std::min(section->offset + section->length, last);
      if (from < to) section->crc = crc32c(block.subspan(from - first, to - from), section->crc);
      if (section->offset + section->length > last) break;  // goes on in the next block
      ++section;
    }
    write_through(block);
    blocks_[b] = Memory();
  }
  commit();
}

void SnapshotWriter::write_through(std::span<const std::byte> bytes) {
  if (file_ < 0) throw std::logic_error("the snapshot is already committed or has failed");
  while (!bytes.empty()) {
    const std::size_t piece = std::min(bytes.size(), kLargestTransfer);
    const ssize_t done = retry([&] { return ::write(file_, bytes.data(), piece); });
    if (done < 0) fail();
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    written_ += static_cast<std::uint64_t>(done);
  }
  // The disk works while the next part is being made, instead of beginning with the sync.
  if (written_ - started_ >= kBlock) {
    start_writing(file_, static_cast<off_t>(started_), written_ - started_);
    started_ = written_;
  }
}

void SnapshotWriter::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void SnapshotWriter::commit() {
  if (open_section_) throw std::logic_error("a section is still open");
  Header header;
  header.sections = static_cast<std::uint32_t>(sections_.size());
  header.table_offset = position_;
  const auto table = std::as_bytes(std::span(sections_));
  header.table_crc = crc32c(table);
  header.file_length = position_ + table.size();
  header.header_crc = header_crc(header);
  write(table);
  flush();
  if (lseek(file_, 0, SEEK_SET) < 0) fail();
  write_through(std::as_bytes(std::span(&header, 1)));
  if (sync_to_disk(file_) < 0) fail();
  if (rename(temporary_.c_str(), path_.c_str()) < 0) fail();
  const File written{std::exchange(file_, -1)};      // nothing to remove any more
  if (sync_folder(path_.parent_path()) < 0) fail();  // the name is on the disk when the folder is
}

SnapshotReader::SnapshotReader(const std::filesystem::path& path, Access access) : path_(path) {
  const File file{retry([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); })};
  struct stat status{};
  if (file.descriptor < 0 || fstat(file.descriptor, &status) < 0) fail_io("load", path);
  if (S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    fail_io("load", path);
  }
  if (!S_ISREG(status.st_mode)) fail("not a regular file");
  identity_ = FileIdentity(status);

  // The header first: a foreign file, however large, is refused before it is read.
  Header header{};
  const std::size_t got = read_fully(file.descriptor, std::as_writable_bytes(std::span(&header, 1)), path);
  if (got < sizeof(kMagic) || header.magic != kMagic) fail("not a recengine file");
  if (got < sizeof(Header)) fail("cut inside the header");
  if (header.version < kOldestVersion || header.version > kFormatVersion) {
    fail("format version " + std::to_string(header.version) + ", or a damaged header; this build reads versions " +
         std::to_string(kOldestVersion) + " to " + std::to_string(kFormatVersion));
  }
  if (header.header_crc != header_crc(header)) fail("damaged header (checksum)");
  version_ = header.version;
  const auto length = static_cast<std::uint64_t>(status.st_size);
  if (length != header.file_length) {
    fail("its length is " + std::to_string(length) + " bytes, not " + std::to_string(header.file_length));
  }
  if (header.table_offset < sizeof(Header) || header.table_offset > length || header.table_offset % kAlignment != 0 ||
      length - header.table_offset != header.sections * sizeof(Section)) {
    fail("section table out of bounds");
  }
  if (access == Access::kMapped) {
    mapping_ = FileMapping(file.descriptor, length);
    if (!mapping_) fail_io("map", path);
    bytes_ = mapping_.bytes();
    if (std::memcmp(bytes_.data(), &header, sizeof(Header)) != 0) fail("changed while reading");
  } else {
    copy_ = Memory(length);
    const std::span<std::byte> all(copy_.data(), length);
    std::memcpy(all.data(), &header, sizeof(Header));
    if (read_fully(file.descriptor, all.subspan(sizeof(Header)), path) != length - sizeof(Header))
      fail("cut while reading");
    bytes_ = all;
  }

  const auto table = bytes_.subspan(header.table_offset);
  if (header.table_crc != crc32c(table)) fail("damaged section table (checksum)");
  sections_.resize(header.sections);
  if (!table.empty()) std::memcpy(sections_.data(), table.data(), table.size());

  // Sections follow each other, each from the next multiple of 64, with zeros between: nothing overlaps, nothing hides.
  std::uint64_t position = sizeof(Header);
  for (const Section& section : sections_) {
    const std::string name(name_of(section));
    if (!is_name(name)) fail("a section without a proper name");
    if (section.offset != position || section.length > header.table_offset - position) {
      fail("section '" + name + "' out of bounds");
    }
    if (access == Access::kCopied || section.length <= kSmall) check_section(section, nullptr);
    position = aligned(position + section.length);  // not beyond the table, which begins at a multiple of 64 too
  }
  if (position != header.table_offset) fail("bytes that belong to no section");
}

bool SnapshotReader::check_section(const Section& section, const std::atomic<bool>* stop) const {
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < section.length;) {
    const std::uint64_t piece = std::min(section.length - done, kPiece);
    crc = crc32c(bytes_.subspan(section.offset + done, piece), crc);
    done += piece;
    if (stop == nullptr) continue;
    if (stop->load(std::memory_order_relaxed)) return false;  // relaxed: it orders nothing
    check_interrupt();
  }
  if (section.crc != crc) fail("damaged section '" + std::string(name_of(section)) + "' (checksum)");
  const std::uint64_t end = section.offset + section.length;
  const auto padding = bytes_.subspan(end, aligned(end) - end);
  if (std::any_of(padding.begin(), padding.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
    fail("damaged padding after section '" + std::string(name_of(section)) + "'");
  }
  return true;
}

bool SnapshotReader::verify(const std::atomic<bool>& stop) const {
  return std::all_of(sections_.begin(), sections_.end(),
                     [&](const Section& section) { return check_section(section, &stop); });
}

const Section* SnapshotReader::find(std::string_view name) const {
  const auto at = std::find_if(sections_.begin(), sections_.end(),
                               [name](const Section& section) { return name_of(section) == name; });
  return at == sections_.end() ? nullptr : &*at;
}

std::span<const std::byte> SnapshotReader::section(std::string_view name) const {
  const Section* section = find(name);
  if (section == nullptr) fail("no section '" + std::string(name) + "'");
  return bytes_.subspan(section->offset, section->length);
}

std::span<const std::byte> SnapshotReader::typed_section(std::string_view name, ElementType type,
                                                         std::size_t size) const {
  const std::span<const std::byte> bytes = section(name);
  if (find(name)->type != type || bytes.size() % size != 0) {
    fail("section '" + std::string(name) + "' is of another type");
  }
  return bytes;
}

void SnapshotReader::fail(std::string_view reason) const {
  throw FormatError("cannot load " + path_.string() + ": " + std::string(reason));
}

}  // namespace recengine
