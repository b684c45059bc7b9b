#include "storage/arena.hpp"

#include <pthread.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <new>

// Freed pieces are as good as freed memory to AddressSanitizer.
#if defined(__SANITIZE_ADDRESS__)
#define RECENGINE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RECENGINE_ASAN 1
#endif
#endif
#if defined(RECENGINE_ASAN)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) static_cast<void>(0)
#endif

namespace recengine {

namespace {

constexpr std::size_t kTopBits = 3;  // of a size: four an octave

struct SizeClass {
  std::size_t number, bytes;
};

// The smallest size that holds so many bytes: 1 to 8 times a power of two, in cache lines.
SizeClass size_class(std::size_t bytes) {
  const std::size_t lines = (std::max<std::size_t>(bytes, 1) + kCacheLine - 1) / kCacheLine;
  const auto width = static_cast<std::size_t>(std::bit_width(lines - 1));  // lines <= 2^width
  const std::size_t shift = width <= kTopBits ? 0 : width - kTopBits;
  const std::size_t top = (lines + (std::size_t{1} << shift) - 1) >> shift;  // beyond the smallest: 5 to 8
  return {4 * shift + top - 1, (top << shift) * kCacheLine};
}

}  // namespace

// The header of a slab, which lies at a multiple of its size.
struct alignas(kCacheLine) Arena::Slab {
  std::size_t used;  // pieces
};

Arena::Slab* Arena::slab_of(void* piece) {
  const auto address = reinterpret_cast<std::uintptr_t>(piece);
  return reinterpret_cast<Slab*>(address - address % kSlab);
}

void Arena::add_slab() {
  slabs_.reserve(slabs_.size() + 1);
  void* const memory = map_pages(kSlab, kSlab);
  // What is left of the one before is lost: an eighth at most.
  if (!slabs_.empty() && slabs_.back()->used == 0) ++empty_;
  slabs_.push_back(::new (memory) Slab{0});
  cut_ = sizeof(Slab);
}

void* Arena::allocate(std::size_t bytes) {
  if (bytes > kMaxPiece) return map_pages(bytes, kHugePage);
  const SizeClass size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  void* piece = free_[size.number];
  if (piece != nullptr) {
    ASAN_UNPOISON_MEMORY_REGION(piece, size.bytes);
    free_[size.number] = free_[size.number]->next;
  } else {
    if (kSlab - cut_ < size.bytes) add_slab();
    piece = reinterpret_cast<std::byte*>(slabs_.back()) + cut_;
    cut_ += size.bytes;
  }
  Slab* const slab = slab_of(piece);
  if (slab->used++ == 0 && slab != slabs_.back()) --empty_;
  return piece;
}

void Arena::deallocate(void* piece, std::size_t bytes) noexcept {
  if (bytes > kMaxPiece) return unmap_pages(piece, bytes);
  const SizeClass size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  free_[size.number] = ::new (piece) Free{free_[size.number]};
  ASAN_POISON_MEMORY_REGION(piece, size.bytes);
  Slab* const slab = slab_of(piece);
  if (--slab->used == 0 && slab != slabs_.back()) ++empty_;
  if (empty_ >= 4 && empty_ > slabs_.size() / 2) give_back_slabs();
}

// Takes their pieces out of the lists: worth its time only for many slabs at once.
void Arena::give_back_slabs() noexcept {
  for (std::size_t size = 0; size < kSizes; ++size) {
    Free* kept = nullptr;
    for (Free* piece = free_[size]; piece != nullptr;) {
      ASAN_UNPOISON_MEMORY_REGION(piece, sizeof(Free));
      Free* const next = piece->next;
      Slab* const slab = slab_of(piece);
      if (slab->used != 0 || slab == slabs_.back()) {
        piece->next = kept;
        kept = piece;
        ASAN_POISON_MEMORY_REGION(piece, sizeof(Free));
      }
      piece = next;
    }
    free_[size] = kept;
  }
  std::erase_if(slabs_, [last = slabs_.back()](Slab* slab) {
    if (slab->used != 0 || slab == last) return false;
    ASAN_UNPOISON_MEMORY_REGION(slab, kSlab);
    unmap_pages(slab, kSlab);
    return true;
  });
  empty_ = 0;
}

std::size_t Arena::slab_bytes() {
  const std::lock_guard lock(mutex_);
  return slabs_.size() * kSlab;
}

Arena::~Arena() {
  for (Slab* const slab : slabs_) {
    ASAN_UNPOISON_MEMORY_REGION(slab, kSlab);
    unmap_pages(slab, kSlab);
  }
}

Arena& Arena::shared() {
  static Arena& arena = *[] {
    auto* const made = new Arena;
    pthread_atfork([] { shared().mutex_.lock(); }, [] { shared().mutex_.unlock(); }, [] { shared().mutex_.unlock(); });
    return made;
  }();
  return arena;
}

// While there is one thread: a fork in the middle of its making would leave it to nobody.
[[maybe_unused]] const Arena& made_at_load = Arena::shared();

}  // namespace recengine
