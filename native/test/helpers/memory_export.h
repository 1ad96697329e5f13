// A device in memory behind the tap, for tests: faults, and writes that wait until they are let go.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "core/nbd/exports/export.h"

namespace stillpoint::test {

class MemoryExport final : public NbdExport {
 public:
  explicit MemoryExport(uint64_t size_bytes) : bytes_(size_bytes) {
    size_now = least_size = properties_.size_bytes = size_bytes;
    properties_.contexts = {"base:allocation"};
  }

  const Properties& properties() const override { return properties_; }
  SourceState source_state() noexcept override {
    uint64_t least = least_size;
    while (size_now < least && !least_size.compare_exchange_weak(least, size_now)) {
    }
    return {size_now, least_size, foreign_writers};
  }
  // Reads and writes are as atomic as a disk's sectors: bytes of one call may mix with those of another,
  // never data races.
  int read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept override {
    if (not_cached && patience == Patience::immediate) return kWouldWait;
    if (const int error = read_error; error != 0) return error;
    for (size_t at = 0; at < into.size(); at += kStripe) {
      dawdle();
      std::lock_guard lock(mutex_of(byte_offset + at));
      std::memcpy(into.data() + at, bytes_.data() + byte_offset + at, std::min(kStripe, into.size() - at));
    }
    return 0;
  }
  int write(uint64_t byte_offset, Bytes bytes, bool, Patience patience) noexcept override {
    if (writes_would_wait && patience == Patience::immediate) return kWouldWait;
    if (const int error = write_error; error != 0) return error;
    {
      std::unique_lock lock(hold_mutex_);
      writes_waiting++;
      released_.wait(lock, [this] { return !hold_writes_; });
      writes_waiting--;
    }
    for (size_t at = 0; at < bytes.size(); at += kStripe) {
      dawdle();
      std::lock_guard lock(mutex_of(byte_offset + at));
      std::memcpy(bytes_.data() + byte_offset + at, bytes.data() + at, std::min(kStripe, bytes.size() - at));
    }
    return 0;
  }
  int flush() noexcept override {
    flushes++;
    return flush_error;
  }
  int trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept override {
    return zero(byte_offset, byte_length, {}, fua);
  }
  int zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions&, bool) noexcept override {
    if (const int error = zero_error; error != 0) return error;
    for (uint64_t at = 0; at < byte_length; at += kStripe) {
      std::lock_guard lock(mutex_of(byte_offset + at));
      std::memset(bytes_.data() + byte_offset + at, 0, std::min<uint64_t>(kStripe, byte_length - at));
    }
    return 0;
  }
  int cache(uint64_t, uint64_t) noexcept override { return 0; }
  int block_status(size_t, uint64_t, uint64_t byte_length, size_t,
                   std::vector<NbdExtent>& extents) noexcept override {
    extents.push_back({byte_length, hole_everywhere ? 3u : 0u});
    return 0;
  }

  void hold_writes(bool hold) {
    {
      std::lock_guard lock(hold_mutex_);
      hold_writes_ = hold;
    }
    released_.notify_all();
  }

  std::atomic<uint64_t> size_now{0};
  std::atomic<uint64_t> least_size{0};
  std::atomic<uint64_t> foreign_writers{0};
  std::atomic<int> read_error{0};
  std::atomic<int> write_error{0};
  std::atomic<int> zero_error{0};
  std::atomic<int> flush_error{0};
  std::atomic<int> flushes{0};
  std::atomic<bool> not_cached{false};
  std::atomic<bool> writes_would_wait{false};
  std::atomic<bool> hole_everywhere{false};
  std::atomic<int> writes_waiting{0};
  // One in so many sectors takes long: others come in between. 0: none.
  std::atomic<uint32_t> slow_one_in{0};

 private:
  static constexpr size_t kStripe = 512;
  void dawdle() {
    const uint32_t one_in = slow_one_in;
    if (one_in != 0 && transfers_++ % one_in == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  std::mutex& mutex_of(uint64_t byte_offset) { return mutexes_[byte_offset / kStripe % 64]; }

  Properties properties_;
  std::atomic<uint32_t> transfers_{0};
  std::vector<uint8_t> bytes_;
  std::mutex mutexes_[64];
  std::mutex hold_mutex_;
  std::condition_variable released_;
  bool hold_writes_ = false;
};

}  // namespace stillpoint::test
