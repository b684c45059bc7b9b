#include "engine/upkeep.hpp"

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <chrono>
#include <exception>

namespace recengine {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kRest = std::chrono::milliseconds(50);
constexpr int kIdleShare = 4;  // rests so many times as long as it worked

// Learners and queries come first where there are fewer processors than threads. Where it is refused, they share.
void lower_priority() {
#if defined(__linux__)
  constexpr int kNice = 10;
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice));
#endif
}

}  // namespace

Upkeep::~Upkeep() {
  {
    const std::lock_guard lock(mutex_);
    stop_.store(true);
  }
  stopping_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Upkeep::start() {
  const std::lock_guard lock(mutex_);
  if (thread_.joinable() || stop_.load()) return;
  try {
    thread_ = std::thread([this] { run(); });
    running_.store(true, std::memory_order_relaxed);
  } catch (const std::exception&) {  // no thread, or no memory for one
    // Without it all stays right, and grows slower: maintain() by hand serves as well.
  }
}

void Upkeep::run() {
  lower_priority();
  std::unique_lock lock(mutex_);
  auto rest = Clock::duration(kRest);
  while (!stopping_.wait_for(lock, rest, [this] { return stop_.load(); })) {
    lock.unlock();
    const auto start = Clock::now();
    try {
      step_(stop_);
    } catch (const std::exception&) {
      // Out of memory: what was being built is gone, what serves is as it was. Tried again later.
    }
    rest = std::max<Clock::duration>(kRest, kIdleShare * (Clock::now() - start));
    lock.lock();
  }
}

}  // namespace recengine
