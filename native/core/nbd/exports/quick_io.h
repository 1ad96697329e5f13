// I/O on a thread that also serves others. The kernel can't say whether such I/O would wait, so it is tried.
// After one that took long, as when the kernel holds writers back, it is not tried again for a multiple of
// that time, so others wait for at most a part of the time.
//
// Locking: none; one atomic.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "core/nbd/exports/export.h"

namespace stillpoint {

class QuickIo {
 public:
  static constexpr size_t kBytesMax = 64 << 10;

  // What `io` answers, or kWouldWait if now is not the time to try.
  template <class Io>
  int attempt(Io io) {
    const auto began = Clock::now();
    if (began.time_since_epoch().count() < not_before_.load(std::memory_order_relaxed)) return kWouldWait;
    const int result = io();
    const auto ended = Clock::now();
    if (const auto took = ended - began; took > kQuickTime)
      not_before_ = (ended + kTimesAsLong * took).time_since_epoch().count();
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kQuickTime = std::chrono::milliseconds(10);
  static constexpr int kTimesAsLong = 4;

  std::atomic<int64_t> not_before_{0};  // steady clock, nanoseconds
};

}  // namespace stillpoint
