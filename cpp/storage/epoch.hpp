// EpochDomain: who is inside the engine right now, so that memory and slots can be reused safely.
//
// Every operation pins the domain while it runs. What a pinned thread could have seen (a replaced hash table, a removed
// slot) is reused only after every thread pinned at that moment has left (epoch-based reclamation, Fraser 2004).
// Writers (learning calls) can also be paused, which gives structural changes (removal, saving, loading) a quiet table
// while readers go on.
//
// How it works. A pin is one slot of a fixed array, holding the epoch it began in. A ticket is taken after unlinking
// and moves the epoch on; it has passed when no slot holds an older epoch. Two races decide whether that is right, and
// both are closed by Dekker's pattern in the single order of the seq_cst operations:
//   pin:  mark the slot;        then read the epoch      | ticket: move the epoch; then read the slots
//   write: mark the slot;       then read the pause flag | pause:  raise the flag; then read the slots
// so that the one side misses the other's mark only if the other is bound to see its own: a pin that was overlooked has
// read the new epoch, and with it (acquire) everything that was unlinked before.
//
// Thread safety: every method may be called from any thread. A pin or pause is a value of one thread and is never moved
// to another.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

#include "storage/memory.hpp"
#include "storage/process.hpp"

namespace recengine {

// Rows or events that a writer's pin is held for: who wants to pause writers waits for no more.
inline constexpr std::size_t kRowsPerPin = 256;

class EpochDomain {
 public:
  EpochDomain() = default;
  ~EpochDomain();  // REQUIRES: nobody is pinned. Runs what is still retired.
  EpochDomain(const EpochDomain&) = delete;
  EpochDomain& operator=(const EpochDomain&) = delete;

  class Pin {
   public:
    // Release: what the pinned thread read and wrote comes before whatever is done once it is known to have left.
    ~Pin() {
      if (slot_ != nullptr) slot_->store(0, std::memory_order_release);
    }
    Pin(Pin&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    Pin& operator=(Pin&&) = delete;

   private:
    friend class EpochDomain;
    explicit Pin(std::atomic<std::uint64_t>* slot) : slot_(slot) {}

    std::atomic<std::uint64_t>* slot_;
  };

  // Never blocks, unless all kSlots pins are taken; then it yields until one is free.
  Pin pin_reader() { return Pin(claim(kBusy)); }

  // Waits while writers are paused; throws std::runtime_error if this thread paused them (a signal handler that runs in
  // the middle of a pause). REQUIRES: this thread holds no other writer's pin, or it may wait for itself for ever.
  Pin pin_writer() {
    std::atomic<std::uint64_t>* slot = claim(kBusy | kWriter);
    // seq_cst: after the slot was marked, see above.
    if (paused_.load(std::memory_order_seq_cst) != 0) [[unlikely]]
      slot = claim_after_pause(slot);
    return Pin(slot);
  }

  // No writer is pinned while a Pause lives. One holder at a time; others wait. Writers that a pause made wait come
  // before the next pause, so that neither side starves.
  class Pause {
   public:
    ~Pause();
    Pause(Pause&& other) noexcept : domain_(std::exchange(other.domain_, nullptr)), lock_(std::move(other.lock_)) {}
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    Pause& operator=(Pause&&) = delete;

   private:
    friend class EpochDomain;
    explicit Pause(EpochDomain* domain);

    EpochDomain* domain_;
    std::unique_lock<std::mutex> lock_;
  };

  // REQUIRES: this thread holds no writer's pin. Throws std::runtime_error if it holds a pause.
  Pause pause_writers() {
    refuse_within_pause();
    return Pause(this);
  }

  // Runs `free` once nobody who is pinned now is pinned any more: in some later call of retire or collect, or in the
  // destructor, on whatever thread that is, whatever locks it holds. `free` must not throw and should only free. Where
  // there is no memory left to remember it, what it would free is lost rather than freed too early: the caller has
  // already unlinked it and could not go back.
  void retire(std::function<void()> free) noexcept;
  void collect() noexcept;  // runs what is due; one load if nothing is retired

  // For slots that are checked instead of freed by a callback: a ticket taken after unlinking has passed when nobody
  // who was pinned then is pinned any more.
  std::uint64_t ticket() { return epoch_.fetch_add(1, std::memory_order_seq_cst) + 1; }
  bool passed(std::uint64_t ticket);

  // Throws std::runtime_error if this thread holds a pause.
  void refuse_within_pause() const;

 private:
  static constexpr std::size_t kSlots = 256;
  static constexpr std::uint64_t kBusy = 1;
  static constexpr std::uint64_t kWriter = 2;
  static constexpr int kEpochShift = 2;

  struct alignas(kCacheLine) Slot {
    std::atomic<std::uint64_t> state{0};  // 0, or epoch << 2 | kWriter | kBusy
  };
  struct Retired {
    std::uint64_t ticket;
    std::function<void()> free;
  };

  // Where this thread starts to look for a slot: mostly its own, found free and in its cache.
  static std::size_t home_slot() {
    if (home_slot_ == kSlots) [[unlikely]]
      home_slot_ = next_home_.fetch_add(1, std::memory_order_relaxed) % kSlots;
    return home_slot_;
  }

  bool try_claim(std::atomic<std::uint64_t>& slot, std::uint64_t kind) {
    // Relaxed: an old epoch only delays what waits for this pin.
    const std::uint64_t state = epoch_.load(std::memory_order_relaxed) << kEpochShift | kind;
    std::uint64_t free = 0;
    // seq_cst: mark the slot, then read the epoch, see above. A failure decides nothing.
    if (!slot.compare_exchange_strong(free, state, std::memory_order_seq_cst, std::memory_order_relaxed)) return false;
    static_cast<void>(epoch_.load(std::memory_order_seq_cst));
    return true;
  }

  std::atomic<std::uint64_t>* claim(std::uint64_t kind) {
    std::atomic<std::uint64_t>& home = slots_[home_slot()].state;
    return try_claim(home, kind) ? &home : claim_elsewhere(kind);
  }

  std::atomic<std::uint64_t>* claim_elsewhere(std::uint64_t kind);
  std::atomic<std::uint64_t>* claim_after_pause(std::atomic<std::uint64_t>* slot);

  static inline constinit thread_local std::size_t home_slot_ = kSlots;
  static inline constinit std::atomic<std::size_t> next_home_{0};

  std::array<Slot, kSlots> slots_;
  alignas(kCacheLine) std::atomic<std::uint64_t> epoch_{1};
  std::atomic<std::uint32_t> paused_{0};
  alignas(kCacheLine) std::atomic<std::uint64_t> safe_{0};  // every ticket up to here has passed
  std::atomic<std::uint32_t> waiting_writers_{0};           // made to wait by a pause, not yet pinned
  std::atomic<std::size_t> retired_count_{0};
  std::mutex pause_mutex_;
  // Who holds the pause. Relaxed: only compared with the reading thread's own id, which only that thread stores.
  std::atomic<std::thread::id> pauser_{};
  ForkMutex retired_mutex_;
  // Guarded by retired_mutex_; tickets ascend. A list, so that moving out what is due allocates nothing.
  std::list<Retired> retired_;
};

}  // namespace recengine
