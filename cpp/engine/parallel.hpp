// Runs work(0) .. work(threads - 1) at once, work(0) on the calling thread, and returns when all have ended. The first
// exception of the lowest number is rethrown then. Where the system has no more threads to give, the rest run one after
// another.
#pragma once

#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace recengine {

template <class Work>
void run_parallel(std::size_t threads, Work work) {
  std::vector<std::exception_ptr> failures(threads);
  const auto guarded = [&](std::size_t number) {
    try {
      work(number);
    } catch (...) {
      failures[number] = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  std::size_t started = 1;
  try {
    for (; started < threads; ++started) helpers.emplace_back(guarded, started);
  } catch (const std::system_error&) {
    // Not started: run below.
  }
  guarded(0);
  for (std::size_t number = started; number < threads; ++number) guarded(number);
  for (auto& helper : helpers) helper.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace recengine
