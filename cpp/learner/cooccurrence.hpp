// Cooccurrence: which items users choose shortly after which, live. Item-to-item counts as of Linden et al. 2003, kept
// as bounded lists that follow the stream.
//
// When a user chooses i, each of the last items a counts: a's list notes that i came after it, i's list that a came
// before it, with a weight that falls with the distance, 0.8^p for the p-th last. A list has a fixed number of slots;
// a newcomer takes the slot that counts least and starts from its own weight alone (to inherit the count, as
// space-saving does, lets every passer-by look like a friend).
//
// Decay. A count at time t is sum_e w_e 2^(-(t - t_e) / half_life), but stored is its multiple by 2^(t / half_life),
// so that time passing writes nothing. Stored floats are relative to a window of 32 half-lives: a list is multiplied by
// an exact power of two when the first event of a later window comes to it. The sign bit of a stored count is the
// parity of its window, so that readers who meet a list on its way from one window to the next know each count's.
//
// Scores are normalised by how often the neighbour is chosen at all: neighbor_scores.hpp.
//
// Thread safety: `add` under a writer's pin and readers under any pin, from any number of threads: readers never wait,
// writers take turns at one list. `wipe`, `erase_if` and `restore` need writers paused. A neighbour may be a removed
// item until erase_if has run: readers ask the item table.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "learner/popularity.hpp"
#include "learner/settings.hpp"
#include "learner/stored_users.hpp"
#include "storage/chunked.hpp"
#include "storage/id_map.hpp"

namespace recengine {

struct Neighbor {
  Row row;
  float after;   // decayed weight of the times it came after the item
  float before;  // and before it
};

// Of a count as it is kept: whether its window is odd.
inline constexpr std::uint32_t kWindowParity = 0x80000000u;

class Cooccurrence {
 public:
  // `slots` 0: off, nothing is stored.
  Cooccurrence(std::uint32_t slots, double half_life);

  bool on() const { return slots_ > 0; }
  std::uint32_t slots() const { return slots_; }

  void reserve(std::size_t items);
  void wipe(Row item);

  // `item` was chosen, after last[0] (just before), last[1], ... of the same user. REQUIRES: on(), all rows live, at
  // most kMaxNeighborsWindow of them.
  void add(Row item, std::span<const Row> last, double timestamp);

  // Starts to load what `add` searches in the list of an item. REQUIRES: on().
  void prefetch(Row item) const;

  // The neighbours of an item with their counts at `now`, in no particular order. `out` has room for slots(); returns
  // how many there are. REQUIRES: on().
  std::uint32_t neighbors(Row item, double now, Neighbor* out) const;

  // The decayed number of events of an item.
  double count(Row item, double now) const { return events_.count(events_.level(item), now); }

  // Forgets the neighbours for which `gone(row)`, in the lists of the first `items` items.
  template <class Predicate>
  void erase_if(Row items, Predicate gone) {
    for (Row item = 0; on() && item < items; ++item) {
      for (std::uint32_t s = 0; s < slots_; ++s) {
        const Row entry = entry_at(item, s);
        if (entry != 0 && gone(entry - 1)) clear(item, s);
      }
    }
  }

  // A list as it is stored, for saving and loading: its slots in order, up to the last one in use; a neighbour for
  // which is_gone(row) leaves its slot free. REQUIRES, of the next four: writers paused (of `used`: or else it is a
  // guess).
  struct Entry {
    Row neighbor;         // + 1; 0: a free slot
    float after, before;  // multiples by 2^(32 w) of the counts at time 0, of a free slot 0
  };
  template <class Gone>
  std::uint32_t used(Row item, const Gone& is_gone) const {
    Header& list = header(item);
    if (list.window.load(std::memory_order_relaxed) == 0) return 0;
    const Word* const entry = entries(list);
    std::uint32_t slots = slots_;
    while (slots > 0 && is_free(load(entry + slots - 1), is_gone)) --slots;
    return slots;
  }
  template <class Gone, class Visit>
  void for_each_entry(Row item, const Gone& is_gone, Visit visit) const {
    const std::uint32_t slots = used(item, is_gone);
    Header& list = header(item);
    const Word *const entry = entries(list), *const after_counts = after(list), *const before_counts = before(list);
    for (std::uint32_t s = 0; s < slots; ++s) {
      const Row neighbor = load(entry + s);
      visit(is_free(neighbor, is_gone) ? Entry{0, 0, 0}
                                       : Entry{neighbor, count_of(after_counts + s), count_of(before_counts + s)});
    }
  }
  // 2 w + 1, or 0 if nothing was ever stored.
  std::int64_t stored_window(Row item) const { return header(item).window.load(std::memory_order_relaxed); }
  // log2 of the number of events, as Popularity keeps it.
  double level(Row item) const { return events_.level(item); }

  struct Stored {
    std::vector<Row> entries;  // as above
    std::vector<float> after, before;
    std::int64_t window;
    double level;
  };
  // Whether a list of so many slots may have this window, given how far from 0 timestamps may be.
  bool can_restore(std::int64_t window, std::size_t slots) const;
  // REQUIRES: on(), can_restore, counts finite and at least 0.
  void restore(Row item, const Stored& list);

  // All lists are what lies elsewhere from now on, and only read: entries, as Stored, of all items, and the same of the
  // counts; a window and a level of each item, no level NaN or +infinity. Nothing else is trusted: what is out of range
  // is passed over. REQUIRES: on(), a new object, not yet shared.
  struct StoredAll {
    StoredLists entries;
    std::span<const float> after, before;
    std::span<const std::int64_t> windows;
    std::span<const double> levels;
    Row items;
  };
  void adopt(const StoredAll& stored);

  std::size_t memory_bytes() const { return lists_.memory_bytes() + events_.memory_bytes(); }

 private:
  // One item's list: this, then three arrays of `padded_` words: entries (row + 1, 0 where free), and the counts of
  // after and before as the bits of floats.
  struct Header {
    std::atomic<std::uint32_t> writing;
    std::atomic<std::int64_t> window;  // 2 * window + 1; 0: nothing was ever stored
  };
  using Word = std::uint32_t;  // shared without a lock: accessed through __atomic builtins, but for the turn's holder
  struct Moment {
    std::int64_t window;
    double factor;  // 2^(t / half_life - 32 window), in [1, 2^32]
  };

  Header& header(Row item) const {
    const ChunkPosition at = locate(item);
    return *reinterpret_cast<Header*>(lists_.start(at.chunk) + at.offset * bytes_);
  }
  Word* entries(Header& list) const {
    return reinterpret_cast<Word*>(reinterpret_cast<std::byte*>(&list) + kCacheLine);
  }
  Word* after(Header& list) const { return entries(list) + padded_; }
  Word* before(Header& list) const { return after(list) + padded_; }
  Row entry_at(Row item, std::uint32_t slot) const;
  static Word load(const Word* word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
  static float count_of(const Word* word) { return std::bit_cast<float>(load(word) & ~kWindowParity); }
  template <class Gone>
  static bool is_free(Row entry, const Gone& is_gone) {
    return entry == 0 || is_gone(entry - 1);
  }
  void clear(Row item, std::uint32_t slot);
  void clear(Header& list, std::uint32_t slot);

  Moment moment(double timestamp) const;
  std::uint32_t stored_neighbors(Row item, double now, Neighbor* out) const;
  float enter(Header& list, const Moment& now);
  void shift(Header& list, std::int64_t window);
  void put(Header& list, Row neighbor, float weight, bool came_after);
  std::uint32_t find(const Word* entries, Word entry) const;
  std::uint32_t least(Header& list) const;

  const std::uint32_t slots_;
  const std::uint32_t padded_;  // to whole cache lines
  const std::size_t bytes_;     // of a list
  const double half_life_;
  std::array<float, kMaxNeighborsWindow> distance_weight_;
  ChunkDirectory lists_;
  Popularity events_;
  std::optional<StoredAll> stored_;  // in place of the lists
};

}  // namespace recengine
