// The barrier of a snapshot: every write passes through the gate, and the instant is a moment with nobody
// inside.
//
// state     enter()          leave()                       with_nobody_inside()
// -------   --------------   ---------------------------   -------------------------------------------
// open      inside + 1       inside - 1                    -> closing
// closing   waits for open   inside - 1; the last one      at nobody inside runs the instant -> open;
//                            wakes who closes              at its deadline -> open, and no instant
//
// Locking: state_ is one atomic (bit 63: closing; below: how many are inside), so that an open gate costs two
// atomic operations. mutex_ is only for waiting; turn_ lets one close at a time.
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
  bool try_enter();
  void enter();
  void leave();

  // False if writes in flight did not end in time; `instant` has not run then. It must be short: users wait.
  bool with_nobody_inside(std::chrono::milliseconds patience, const std::function<void()>& instant);

 private:
  static constexpr uint64_t kClosing = uint64_t{1} << 63;

  std::atomic<uint64_t> state_{0};
  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace stillpoint
