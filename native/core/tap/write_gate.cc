#include "core/tap/write_gate.h"

namespace stillpoint {

bool WriteGate::try_enter() {
  // A visitor to a closing gate counts as inside until it has left again: leave() wakes who waits for it.
  if ((state_.fetch_add(1) & kClosing) == 0) return true;
  leave();
  return false;
}

void WriteGate::enter() {
  while (!try_enter()) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return (state_.load() & kClosing) == 0; });
  }
}

void WriteGate::leave() {
  if (state_.fetch_sub(1) != (kClosing | 1)) return;
  // Taking the mutex orders this wake after the closer's look at the state.
  { std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

bool WriteGate::with_nobody_inside(std::chrono::milliseconds patience, const std::function<void()>& instant) {
  std::lock_guard turn(turn_);
  std::unique_lock lock(mutex_);
  state_.fetch_or(kClosing);
  // A visitor may make the count rise for a moment, but nobody gets inside: what was empty once stays so.
  const bool empty = changed_.wait_for(lock, patience, [this] { return state_.load() == kClosing; });
  if (empty) instant();
  state_.fetch_and(~kClosing);
  lock.unlock();
  changed_.notify_all();
  return empty;
}

}  // namespace stillpoint
