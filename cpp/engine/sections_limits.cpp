// What an engine does not take, in its file.
#include "engine/sections.hpp"

namespace recengine {

void save_limits(SnapshotWriter& file, const LimitSettings& limits) {
  add<double>(file, "settings.limits", {limits.max_ahead});
}

// A file without it was written before there were limits, by an engine without any.
LimitSettings load_limits(const SnapshotReader& file) {
  LimitSettings limits;
  if (!file.has("settings.limits")) return limits;
  limits.max_ahead = read<double>(file, "settings.limits", 1)[0];
  return limits;
}

}  // namespace recengine
