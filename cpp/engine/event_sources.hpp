// EventSources: of each stream of events that has a name, the offset of the last event that was taken. What a source
// delivers again, as it may after a crash of either side, is recognised and skipped.
//
// Thread safety: any method from any thread. Of one source, one thread at a time delivers: an event that overtakes
// another makes that one look like a repetition.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "storage/message.hpp"
#include "storage/process.hpp"

namespace recengine {

// Where a batch comes from: offsets of its events, strictly ascending. No offsets: it comes from nowhere in particular.
struct SourceSpan {
  std::string_view name;
  std::span<const std::int64_t> offsets;
};

class EventSources {
 public:
  // A source is never forgotten: its place must outlast whatever it may deliver again.
  static constexpr std::size_t kMost = 65'536;
  // Throws std::invalid_argument for one too many. What a log or a file holds was let in when it came.
  void require_room(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    if (last_.size() < kMost || last_.contains(name)) return;
    throw std::invalid_argument(message("source '", name, "' would be the ", kMost + 1, "th: at most ", kMost,
                                        " are remembered; a source is a stream of events, not one of its deliveries"));
  }

  // How many of the first events were taken before.
  std::size_t count_old(const SourceSpan& source) const {
    if (source.offsets.empty()) return 0;
    const std::lock_guard lock(mutex_);
    const auto known = last_.find(source.name);
    if (known == last_.end()) return 0;
    const auto fresh = std::upper_bound(source.offsets.begin(), source.offsets.end(), known->second);
    return static_cast<std::size_t>(fresh - source.offsets.begin());
  }

  void take(std::string_view name, std::int64_t last) {
    const std::lock_guard lock(mutex_);
    const auto known = last_.find(name);
    if (known == last_.end()) {
      last_.emplace(name, last);
    } else {
      known->second = std::max(known->second, last);
    }
  }

  // A copy, by name.
  std::map<std::string, std::int64_t, std::less<>> all() const {
    const std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  mutable ForkMutex mutex_;
  std::map<std::string, std::int64_t, std::less<>> last_;  // GUARDED_BY(mutex_)
};

}  // namespace recengine
