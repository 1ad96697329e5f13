// The barrier of a snapshot: every write passes through the gate, and the instant is a moment with nobody
// inside. The closer names a limit, at which the gate opens by itself: no writer depends on the closer.
//
// state     enter()               leave()               close()             run_closed()      open()
// --------  --------------------  --------------------  ------------------  ----------------  -------
// open      inside + 1            inside - 1            -> closing          false             -
// closing   waits; at the limit   inside - 1; the last  at nobody inside    -                 -
//           -> open               one wakes the closer  -> closed; too
//                                                       late -> open
// closed    waits; at the limit   -                     -                   before the limit  -> open
//           -> open                                                         runs, -> open;
//                                                                           else -> open
//
// The limit needs no thread of its own: it matters only to threads that want to enter, and they enforce it.
//
// Locking: state_ is one atomic (bit 63: closing or closed; below: how many are inside), so that an open gate
// costs two atomic operations. mutex_ guards limit_ and is_closed_, and every change of bit 63. Only one
// thread at a time closes, runs and opens: the callers see to that.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

namespace stillpoint {

class WriteGate {
 public:
  using Clock = std::chrono::steady_clock;

  bool try_enter();
  void enter();
  void leave();

  // False if writes in flight did not end within `patience`, or by the limit: then it is open.
  bool close(std::chrono::milliseconds patience, Clock::time_point limit);
  // False if it is not closed any more: `instant` has not run then. It must be short: users wait.
  bool run_closed(const std::function<void()>& instant);
  // Harmless where it is open.
  void open();
  bool is_closed();

 private:
  static constexpr uint64_t kClosing = uint64_t{1} << 63;

  bool is_closing() const { return (state_.load() & kClosing) != 0; }
  // Under mutex_.
  void let_in();

  std::atomic<uint64_t> state_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point limit_;
  bool is_closed_ = false;
};

}  // namespace stillpoint
