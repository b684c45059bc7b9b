#include "storage/epoch.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>
#include <thread>

namespace recengine {
namespace {

constexpr std::size_t kCollectEvery = 64;  // retirements; looking at every slot costs about a microsecond

// Waits for another thread's next step: what it does usually takes microseconds, but it may have lost its core.
class Backoff {
 public:
  void wait() {
    if (rounds_++ < 64) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

 private:
  int rounds_ = 0;
};

}  // namespace

EpochDomain::~EpochDomain() {
  for (Retired& entry : retired_) entry.free();
}

std::atomic<std::uint64_t>* EpochDomain::claim_elsewhere(std::uint64_t kind) {
  for (Backoff backoff;; backoff.wait()) {
    for (std::size_t step = 0; step < kSlots; ++step) {
      std::atomic<std::uint64_t>& slot = slots_[(home_slot() + step) % kSlots].state;
      // Relaxed: a hint that spares the exchange on slots in use.
      if (slot.load(std::memory_order_relaxed) == 0 && try_claim(slot, kind)) return &slot;
    }
  }
}

std::atomic<std::uint64_t>* EpochDomain::claim_after_pause(std::atomic<std::uint64_t>* slot) {
  if (pauser_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
    slot->store(0, std::memory_order_release);
    refuse_within_pause();
  }
  // Relaxed: a count that the next pause waits to see at zero; it protects no data.
  waiting_writers_.fetch_add(1, std::memory_order_relaxed);
  do {
    slot->store(0, std::memory_order_release);  // nothing was done under it; the pause may go on
    // Acquire: what the pausing thread changed comes before the writer's work.
    while (paused_.load(std::memory_order_acquire) != 0) paused_.wait(1, std::memory_order_acquire);
    slot = claim(kBusy | kWriter);
  } while (paused_.load(std::memory_order_seq_cst) != 0);  // as in pin_writer
  waiting_writers_.fetch_sub(1, std::memory_order_relaxed);
  return slot;
}

void EpochDomain::refuse_within_pause() const {
  if (pauser_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
    throw std::runtime_error("the engine is being saved or changed by the very call that this code interrupts");
  }
}

EpochDomain::Pause::Pause(EpochDomain* domain) : domain_(domain), lock_(domain->pause_mutex_) {
  domain->pauser_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  for (Backoff backoff; domain->waiting_writers_.load(std::memory_order_relaxed) != 0;) backoff.wait();
  // seq_cst: raise the flag, then read the slots.
  domain->paused_.store(1, std::memory_order_seq_cst);
  for (Slot& slot : domain->slots_) {
    // seq_cst also acquires: what writers did comes before what the holder of the pause does.
    for (Backoff backoff; (slot.state.load(std::memory_order_seq_cst) & kWriter) != 0;) backoff.wait();
  }
}

EpochDomain::Pause::~Pause() {
  if (domain_ == nullptr) return;
  domain_->pauser_.store(std::thread::id{}, std::memory_order_relaxed);
  // Release: writers that see the flag down see what was done under the pause.
  domain_->paused_.store(0, std::memory_order_release);
  domain_->paused_.notify_all();
}

bool EpochDomain::passed(std::uint64_t ticket) {
  // Acquire: the thread that raised `safe_` saw every older pin leave, so their reads come before our reuse.
  if (ticket <= safe_.load(std::memory_order_acquire)) return true;
  // seq_cst: the epoch before the slots. A slot found free, or marked after we looked, belongs to a pin that reads at
  // least this epoch, and thus sees all that was unlinked before the tickets up to it.
  std::uint64_t oldest = epoch_.load(std::memory_order_seq_cst);
  for (const Slot& slot : slots_) {
    const std::uint64_t state = slot.state.load(std::memory_order_seq_cst);
    if (state != 0) oldest = std::min(oldest, state >> kEpochShift);
  }
  std::uint64_t known = safe_.load(std::memory_order_relaxed);
  // Release: pairs with the acquire above (and a failed exchange only means that others know more).
  while (known < oldest &&
         !safe_.compare_exchange_weak(known, oldest, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return ticket <= oldest;
}

void EpochDomain::retire(std::function<void()> free) noexcept {
  std::list<Retired> entry;
  try {
    entry.push_back({0, std::move(free)});
  } catch (const std::bad_alloc&) {
    return;
  }
  std::size_t count = 0;
  {
    const std::lock_guard lock(retired_mutex_);
    entry.front().ticket = ticket();  // under the mutex, so that tickets ascend
    retired_.splice(retired_.end(), entry);
    count = retired_.size();
    retired_count_.store(count, std::memory_order_relaxed);  // a hint for collect, orders nothing
  }
  if (count % kCollectEvery == 0) collect();
}

void EpochDomain::collect() noexcept {
  if (retired_count_.load(std::memory_order_relaxed) == 0) return;
  std::list<Retired> due;  // run outside the mutex: they may take long, or retire more
  {
    const std::lock_guard lock(retired_mutex_);
    auto end = retired_.begin();
    while (end != retired_.end() && passed(end->ticket)) ++end;
    due.splice(due.end(), retired_, retired_.begin(), end);
    retired_count_.store(retired_.size(), std::memory_order_relaxed);
  }
  for (Retired& entry : due) entry.free();
}

}  // namespace recengine
