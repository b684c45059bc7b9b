// Runs work(0) .. work(threads - 1) at once, work(0) on the calling thread, and returns when all have ended. `stop` is
// set, for the works to see, when one throws or when the calling thread's Interrupt asks for it while it waits; the
// exception of the lowest number is rethrown at the end. Where the system has no more threads to give, the rest run one
// after another.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/interrupt.hpp"

namespace recengine {

template <class Work>
void run_parallel(std::size_t threads, std::atomic<bool>& stop, Work work) {
  std::vector<std::exception_ptr> failures(threads);
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t running = 0;  // GUARDED_BY(mutex): helpers that have not ended
  const auto guarded = [&](std::size_t number) {
    try {
      work(number);
    } catch (...) {
      failures[number] = std::current_exception();
      stop.store(true, std::memory_order_relaxed);
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  std::size_t started = 1;
  std::unique_lock lock(mutex);  // held until all are counted
  try {
    for (; started < threads; ++started) {
      helpers.emplace_back([&, number = started] {
        guarded(number);
        const std::lock_guard counting(mutex);
        --running;
        ended.notify_one();
      });
    }
  } catch (const std::exception&) {
    // No more threads, or no memory for one: run below.
  }
  running = started - 1;
  lock.unlock();
  guarded(0);
  for (std::size_t number = started; number < threads; ++number) guarded(number);
  lock.lock();
  while (!ended.wait_for(lock, std::chrono::milliseconds(20), [&] { return running == 0; })) {
    lock.unlock();  // a signal handler may do anything
    if (interrupt_requested()) stop.store(true, std::memory_order_relaxed);
    lock.lock();
  }
  lock.unlock();
  for (auto& helper : helpers) helper.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace recengine
