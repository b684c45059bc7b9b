#include "engine/verification.hpp"

#include <chrono>
#include <exception>
#include <system_error>

#include "storage/interrupt.hpp"
#include "storage/snapshot.hpp"

namespace recengine {

Verification::~Verification() {
  stop_.store(true, std::memory_order_relaxed);  // it orders nothing
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
  {
    const std::lock_guard lock(mutex_);
    state_.store(found, std::memory_order_release);
  }
  ended_.notify_all();
}

void Verification::wait() const {
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, std::chrono::milliseconds(20), [this] { return state() != State::kRunning; })) {
    lock.unlock();  // a signal handler may do anything
    check_interrupt();
    lock.lock();
  }
  require_sound();
}

std::string Verification::damage() const { return state() == State::kDamaged ? damage_ : std::string(); }

void Verification::refuse() const { throw FormatError(damage_); }

}  // namespace recengine
