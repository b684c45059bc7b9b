// Arena: memory on huge pages for what is too small to have some of its own.
//
// An event looks at a dozen small things (what its user has seen, hash tables, the first rows of every table) that lie
// anywhere. On small pages each costs a walk through the page table beside its cache miss; packed onto huge pages most
// do not (learn_many: a tenth less time, docs/performance.md).
//
// Pieces are rounded up to one of four sizes an octave and cut from slabs, one after the other. A piece that was given
// back waits for a request of its size; slabs all of whose pieces were go back to the system when they are many.
//
// Thread safety: any thread; a mutex, which a fork leaves open in both processes for the shared arena.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <vector>

#include "storage/pages.hpp"

namespace recengine {

class Arena {
 public:
  Arena() = default;
  ~Arena();  // REQUIRES: all pieces were given back
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Of at least so many bytes, not filled, aligned to a cache line. Throws std::bad_alloc and changes nothing.
  void* allocate(std::size_t bytes);
  // REQUIRES: allocate(bytes) returned it.
  void deallocate(void* piece, std::size_t bytes) noexcept;

  std::size_t slab_bytes();  // held from the system, but for pieces of over kMaxPiece

  // The one of the process. It is never destroyed: tables of static duration may outlive anything.
  static Arena& shared();

  static constexpr std::size_t kMaxPiece = kHugePage / 2;  // larger ones have pages of their own
  static constexpr std::size_t kSlab = 4 * kHugePage;

 private:
  struct Slab;
  struct Free {  // a piece that was given back
    Free* next;
  };
  static constexpr std::size_t kSizes = 52;

  static Slab* slab_of(void* piece);
  void add_slab();
  void give_back_slabs() noexcept;

  std::mutex mutex_;
  // GUARDED_BY(mutex_), as what follows
  std::array<Free*, kSizes> free_{};
  std::vector<Slab*> slabs_;  // the last is being cut
  std::size_t cut_ = kSlab;   // bytes of it
  std::size_t empty_ = 0;     // slabs without a piece in use, the last aside
};

}  // namespace recengine
