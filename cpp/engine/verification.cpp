#include "engine/verification.hpp"

#include <chrono>
#include <exception>
#include <memory>
#include <system_error>

#include "storage/interrupt.hpp"
#include "storage/snapshot.hpp"

namespace recengine {

namespace {

constexpr auto kLook = std::chrono::milliseconds(2);

// The thread of a parent can be neither joined nor destroyed in its child.
void leave(std::thread& thread) {
  if (thread.joinable()) static_cast<void>(std::make_unique<std::thread>(std::move(thread)).release());
}

}  // namespace

Verification::~Verification() {
  stop_.store(true, std::memory_order_relaxed);  // it orders nothing
  if (process_.load(std::memory_order_relaxed) != fork_generation()) leave(thread_);
  if (thread_.joinable()) thread_.join();
}

void Verification::run() {
  check_(stop_);
  state_.store(State::kSound, std::memory_order_release);
}

void Verification::start() {
  try {
    thread_ = std::thread([this] { run_beside(); });
  } catch (const std::system_error&) {
    run();  // no more threads to be had
  }
}

void Verification::run_beside() {
  State found = State::kSound;
  try {
    if (!check_(stop_)) return;
  } catch (const std::exception& error) {  // also out of memory: what was not checked is not used
    damage_ = error.what();
    found = State::kDamaged;
  }
  state_.store(found, std::memory_order_release);
}

// One of the child's threads does it.
void Verification::begin_again() {
  std::uint64_t parent = process_.load(std::memory_order_relaxed);
  const std::uint64_t child = fork_generation();
  if (parent == child || !process_.compare_exchange_strong(parent, child, std::memory_order_relaxed)) return;
  leave(thread_);
  start();
}

void Verification::wait() {
  for (require_sound(); state() == State::kRunning; check_interrupt()) std::this_thread::sleep_for(kLook);
  require_sound();
}

std::string Verification::damage() const { return state() == State::kDamaged ? damage_ : std::string(); }

void Verification::refuse() const { throw FormatError(damage_); }

}  // namespace recengine
