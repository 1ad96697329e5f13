#include "core/tap/write_gate.h"

#include <algorithm>

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
    while (is_closing()) {
      // Another limit may have come meanwhile, with another closing.
      if (Clock::now() >= limit_) {
        let_in();
      } else {
        changed_.wait_until(lock, limit_);
      }
    }
  }
}

void WriteGate::leave() {
  if (state_.fetch_sub(1) != (kClosing | 1)) return;
  // Taking the mutex orders this wake after the closer's look at the state.
  { std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

void WriteGate::let_in() {
  is_closed_ = false;
  state_.fetch_and(~kClosing);
  changed_.notify_all();
}

bool WriteGate::close(std::chrono::milliseconds patience, Clock::time_point limit) {
  const auto until = std::min(Clock::now() + patience, limit);
  std::unique_lock lock(mutex_);
  limit_ = limit;
  state_.fetch_or(kClosing);
  // A visitor may make the count rise for a moment, but nobody gets inside: what was empty once stays so.
  const bool ended =
      changed_.wait_until(lock, until, [this] { return state_.load() == kClosing || !is_closing(); });
  // A writer who waited may have opened it, at the limit.
  is_closed_ = ended && is_closing() && Clock::now() < limit;
  if (!is_closed_) let_in();
  return is_closed_;
}

bool WriteGate::run_closed(const std::function<void()>& instant) {
  std::lock_guard lock(mutex_);
  const bool in_time = is_closed_ && Clock::now() < limit_;
  if (in_time) instant();
  let_in();
  return in_time;
}

void WriteGate::open() {
  std::lock_guard lock(mutex_);
  let_in();
}

bool WriteGate::is_closed() {
  std::lock_guard lock(mutex_);
  return is_closed_;
}

}  // namespace stillpoint
