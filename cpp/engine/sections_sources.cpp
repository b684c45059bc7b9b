// Sources of events and how far each has come, in an engine's file.
#include <algorithm>
#include <stdexcept>

#include "engine/sections.hpp"

namespace recengine {

void save_sources(SnapshotWriter& file, const EventSources& sources) {
  std::string text;
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::int64_t> last;
  for (const auto& [name, offset] : sources.all()) {
    text += name;
    offsets.push_back(text.size());
    last.push_back(offset);
  }
  if (last.empty()) return;
  file.add<char>("sources.text", std::span<const char>(text));
  add(file, "sources.offsets", offsets);
  add(file, "sources.last", last);
}

// A file without any of the sections has no sources.
void load_sources(const SnapshotReader& file, EventSources& sources) {
  const auto sections = {"sources.text", "sources.offsets", "sources.last"};
  if (std::none_of(sections.begin(), sections.end(), [&file](const char* name) { return file.has(name); })) return;
  const auto text = file.array<char>("sources.text");
  const auto last = file.array<std::int64_t>("sources.last");
  const auto offsets = read<std::uint64_t>(file, "sources.offsets", last.size() + 1);
  require(offsets.front() == 0 && offsets.back() == text.size() && std::is_sorted(offsets.begin(), offsets.end()),
          "sources.offsets are out of order");
  std::string before;
  for (std::size_t s = 0; s < last.size(); ++s) {
    const std::string name(text.begin() + static_cast<std::ptrdiff_t>(offsets[s]),
                           text.begin() + static_cast<std::ptrdiff_t>(offsets[s + 1]));
    try {
      validate_id(name);
    } catch (const std::invalid_argument& error) {
      require(false, error.what());
    }
    require(s == 0 || before < name, "sources are out of order");
    sources.take(name, last[s]);
    before = name;
  }
}

}  // namespace recengine
