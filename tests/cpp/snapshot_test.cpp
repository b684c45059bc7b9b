// The container file: what goes in comes out, and no damage goes unnoticed.
#include "storage/snapshot.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "check.hpp"
#include "storage/crc32c.hpp"

namespace recengine {
namespace {

namespace fs = std::filesystem;

// An empty folder that goes with the test.
struct Folder {
  Folder() : path(fs::temp_directory_path() / ("recengine-snapshot-test-" + std::to_string(getpid()))) {
    fs::remove_all(path);
    fs::create_directory(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::ptrdiff_t entries() const { return std::distance(fs::directory_iterator(path), fs::directory_iterator()); }
  fs::path path;
};

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, std::string_view bytes) {
  fs::remove(path);  // some file systems wait for the disk when a file is replaced in place
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

template <class T>
std::span<const T> view(const std::vector<T>& values) {
  return values;
}

void checksums_match_the_standard() {
  std::string ascending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  const std::string descending(ascending.rbegin(), ascending.rend());
  const std::vector<std::pair<std::string, std::uint32_t>> vectors = {{"", 0},  // the rest: RFC 3720, B.4
                                                                      {"123456789", 0xE3069283},
                                                                      {std::string(32, '\0'), 0x8A9136AA},
                                                                      {std::string(32, '\xFF'), 0x62A8AB43},
                                                                      {ascending, 0x46DD794E},
                                                                      {descending, 0x113FDB5C}};
  for (const auto& [text, crc] : vectors) {
    CHECK(crc32c(bytes_of(text)) == crc);
    CHECK(crc32c_portable(bytes_of(text)) == crc);
  }
  std::mt19937 random(3);
  std::string noise(1000, '\0');
  std::generate(noise.begin(), noise.end(), [&] { return static_cast<char>(random()); });
  for (int round = 0; round < 500; ++round) {
    const std::string_view piece = std::string_view(noise).substr(random() % 100, random() % 900);
    const std::size_t cut = random() % (piece.size() + 1);
    const std::uint32_t whole = crc32c_portable(bytes_of(piece));
    CHECK(crc32c_portable(bytes_of(piece.substr(cut)), crc32c_portable(bytes_of(piece.substr(0, cut)))) == whole);
    CHECK(crc32c(bytes_of(piece.substr(cut)), crc32c(bytes_of(piece.substr(0, cut)))) == whole);
    const std::uint32_t parts[] = {crc32c(bytes_of(piece.substr(0, cut))), crc32c(bytes_of(piece.substr(cut)))};
    CHECK((crc32c_moved(parts[0], piece.size() - cut) ^ parts[1]) == whole);
    if (has_hardware_crc32c()) CHECK(crc32c_hardware(bytes_of(piece)) == whole);
  }
}

void what_goes_in_comes_out() {
  const Folder folder;
  const fs::path path = folder.path / "engine.rec";
  std::mt19937 random(4);
  std::vector<float> large(300000);  // more than the writer's buffer
  for (float& value : large) value = static_cast<float>(random());
  const std::vector<std::int64_t> ids = {1, -2, 3};
  const std::vector<double> nothing;
  {
    SnapshotWriter writer(path);
    writer.add("ids", view(ids));
    writer.add("nothing", view(nothing));
    writer.add("sixteen.letters.", std::span<const char>("text", 4));
    writer.begin<float>("large");
    std::size_t at = 0;
    for (std::size_t piece = 1; at < large.size(); piece = piece * 3 + 1) {  // from a few bytes to more than the buffer
      const std::size_t count = std::min(piece, large.size() - at);
      writer.append(view(large).subspan(at, count));
      at += count;
    }
    writer.end();
    CHECK(!fs::exists(path));
    writer.commit();
    CHECK_THROWS(std::logic_error, writer.commit());
  }
  CHECK(folder.entries() == 1);

  const SnapshotReader reader(path);
  CHECK(std::ranges::equal(reader.array<std::int64_t>("ids"), ids));
  CHECK(reader.array<double>("nothing").empty() && reader.has("nothing"));
  CHECK(std::ranges::equal(reader.array<char>("sixteen.letters."), std::string_view("text")));
  CHECK(std::ranges::equal(reader.array<float>("large"), large));
  CHECK(reader.sections().size() == 4);
  for (const Section& section : reader.sections()) {
    const auto bytes = reader.section(std::string(section.name.data(), strnlen(section.name.data(), 16)));
    CHECK(bytes.size() == section.length && reinterpret_cast<std::uintptr_t>(bytes.data()) % 64 == 0);
  }
  CHECK(!reader.has("other"));
  CHECK_THROWS(FormatError, reader.section("other"));
  CHECK_THROWS(FormatError, reader.array<float>("ids"));

  SnapshotWriter(path).commit();  // replaces the file, by one without sections
  CHECK(SnapshotReader(path).sections().empty());
}

std::string small_file(const fs::path& path) {
  SnapshotWriter writer(path);
  writer.add("a", std::span<const char>("hello", 5));
  const std::vector<std::uint32_t> numbers(16, 7);
  writer.add("b", view(numbers));
  writer.add("c", std::span<const char>());
  writer.add("d", std::span<const char>("!", 1));
  writer.commit();
  return read_file(path);
}

void every_cut_and_every_flip_is_noticed() {
  const Folder folder;
  const std::string good = small_file(folder.path / "good.rec");
  const fs::path path = folder.path / "bad.rec";
  for (std::size_t length = 0; length < good.size(); ++length) {
    write_file(path, std::string_view(good).substr(0, length));
    CHECK_THROWS(FormatError, SnapshotReader(path));
  }
  write_file(path, good + '\0');
  CHECK_THROWS(FormatError, SnapshotReader(path));
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      write_file(path, bad);
      CHECK_THROWS(FormatError, SnapshotReader(path));
    }
  }
  write_file(path, good);
  CHECK(SnapshotReader(path).has("d"));
  write_file(path, "user_id,item_id,timestamp\n" + std::string(200, 'x'));
  CHECK_THROWS(FormatError, SnapshotReader(path));
}

// The file with its checksums put right.
std::string sealed(std::string file) {
  std::uint64_t begin = 0;
  std::memcpy(&begin, &file[16], 8);
  const std::uint32_t table = crc32c(bytes_of(begin < file.size() ? std::string_view(file).substr(begin) : ""));
  std::memcpy(&file[32], &table, 4);
  const std::uint32_t header = crc32c(bytes_of(std::string_view(file).substr(0, 60)));
  std::memcpy(&file[60], &header, 4);
  return file;
}

// Files whose checksums are right and whose tables lie.
void forged_tables_are_refused() {
  const Folder folder;
  const fs::path path = folder.path / "forged.rec";
  const std::string good = small_file(path);
  std::uint64_t table_offset = 0;
  std::memcpy(&table_offset, &good[16], 8);
  const auto forge = [&](std::size_t at, auto value) {
    std::string bad = good;
    std::memcpy(&bad[at], &value, sizeof(value));
    write_file(path, sealed(bad));
  };
  forge(40, std::uint64_t{0});  // changes nothing: the forger is able
  CHECK(SnapshotReader(path).has("a"));
  const std::uint64_t all_ones = ~std::uint64_t{0};
  const std::size_t entry_b = table_offset + sizeof(Section);
  const auto refused = [&](std::size_t at, auto value) {
    forge(at, value);
    CHECK_THROWS(FormatError, SnapshotReader(path));
  };
  for (const std::uint64_t value :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{64}, std::uint64_t{1} << 63, all_ones}) {
    refused(16, value);  // where the table begins
    refused(24, value);  // the length of the file
    if (value != 64) refused(table_offset + offsetof(Section, offset), value);
    refused(entry_b + offsetof(Section, offset), value);  // onto section a, onto the header, outside
    if (value != 64) refused(entry_b + offsetof(Section, length), value);
    refused(table_offset + offsetof(Section, length), value);
  }
  for (const std::uint32_t count : {0u, 3u, 5u, 0xFFFFFFFFu}) refused(12, count);
  refused(8, kFormatVersion + 1);
  refused(table_offset, '\0');
  refused(table_offset, '\n');

  // One section of one byte, which needs a table at byte 128: earlier it is not aligned, later it hides a line.
  SnapshotWriter writer(path);
  writer.add("a", std::span<const char>("!", 1));
  writer.commit();
  const std::string one = read_file(path);
  for (const std::uint64_t table : {65u, 72u, 128u, 192u}) {
    std::string moved = one.substr(0, std::min<std::size_t>(table, 128));
    moved.resize(table);
    moved += one.substr(128);
    const std::uint64_t length = moved.size();
    std::memcpy(&moved[16], &table, 8);
    std::memcpy(&moved[24], &length, 8);
    write_file(path, sealed(moved));
    if (table == 128) {
      CHECK(SnapshotReader(path).has("a"));
    } else {
      CHECK_THROWS(FormatError, SnapshotReader(path));
    }
  }
}

int error_of(auto&& action) {
  try {
    action();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

void errors_of_the_system_are_told() {
  const Folder folder;
  const fs::path missing = folder.path / "missing";
  CHECK(error_of([&] { SnapshotReader reader(missing); }) == ENOENT);
  CHECK(error_of([&] { SnapshotReader reader(folder.path); }) == EISDIR);
  CHECK(error_of([&] { SnapshotWriter writer(folder.path); }) == EISDIR);
  CHECK(error_of([&] { SnapshotWriter writer(missing / "engine.rec"); }) == ENOENT);
  try {
    SnapshotReader reader(missing);
  } catch (const std::system_error& error) {
    CHECK(std::string(error.what()).find(missing.string()) != std::string::npos);
  }
  CHECK(mkfifo((folder.path / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS(FormatError, SnapshotReader(folder.path / "pipe"));
}

void an_unfinished_file_leaves_the_old_one() {
  const Folder folder;
  const fs::path path = folder.path / std::string(250, 'n');  // nearly as long as names may be
  const std::string before = small_file(path);
  {
    SnapshotWriter writer(path);
    writer.add("a", std::span<const char>("new", 3));
    CHECK(folder.entries() == 2);
  }
  CHECK(folder.entries() == 1 && read_file(path) == before);

  // A full disk, as far as one can be had in a test: a limit on the size of files.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit low{1 << 16, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &low);
  {
    SnapshotWriter writer(path);
    const std::vector<double> large(1 << 20);
    CHECK(error_of([&] { writer.add("large", view(large)); }) == EFBIG);
    CHECK(folder.entries() == 1);
    CHECK_THROWS(std::logic_error, writer.end(), writer.commit());
  }
  setrlimit(RLIMIT_FSIZE, &limit);
  CHECK(folder.entries() == 1 && read_file(path) == before);
}

void sections_are_opened_closed_and_named_properly() {
  const Folder folder;
  SnapshotWriter writer(folder.path / "engine.rec");
  CHECK_THROWS(std::logic_error, writer.end());
  CHECK_THROWS(std::logic_error, writer.append(std::span<const float>()));
  writer.begin<float>("x");
  CHECK_THROWS(std::logic_error, writer.begin<float>("y"));
  CHECK_THROWS(std::logic_error, writer.append(std::span<const double>()));
  CHECK_THROWS(std::logic_error, writer.commit());
  writer.end();
  for (const std::string_view name : {"x", "", "seventeen.letters", "new\nline", "\xC3\xA4"}) {
    CHECK_THROWS(std::invalid_argument, writer.begin<float>(name));
  }
  writer.commit();
}

}  // namespace
}  // namespace recengine

int main() {
  recengine::checksums_match_the_standard();
  recengine::what_goes_in_comes_out();
  recengine::every_cut_and_every_flip_is_noticed();
  recengine::forged_tables_are_refused();
  recengine::errors_of_the_system_are_told();
  recengine::an_unfinished_file_leaves_the_old_one();
  recengine::sections_are_opened_closed_and_named_properly();
}
