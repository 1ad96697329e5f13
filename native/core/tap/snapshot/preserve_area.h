// Where originals go while a snapshot needs them: an unnamed sparse file with each byte at its offset on the
// device, and a bound on the bytes stored. The snapshot knows which bytes are there. They are worthless after
// it, so nothing is ever synced.
//
// Locking: counters are atomic. The snapshot sees to it that ranges stored and loaded at the same time are
// different.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "core/nbd/exports/quick_io.h"
#include "core/tap/files/tap_file.h"

namespace stillpoint {

class PreserveArea {
 public:
  PreserveArea(std::unique_ptr<TapFile> file, uint64_t bytes_max)
      : file_(std::move(file)), bytes_max_(bytes_max) {}

  // kFull if that is more than the bound, kWouldWait (NbdExport); errno values are the file's. Nothing counts
  // as stored then.
  static constexpr int kFull = -2;
  int store(uint64_t byte_offset, Bytes original, Patience patience);
  int load(uint64_t byte_offset, std::span<uint8_t> into);
  // The range is no longer needed; `stored_bytes` of it were stored.
  void release(uint64_t byte_offset, uint64_t byte_length, uint64_t stored_bytes);
  // Nothing is stored or loaded afterwards. Takes no time: a user's write may be waiting.
  void abandon() { abandoned_ = true; }
  // The space of an abandoned area.
  void give_back() { file_->remove(); }

  bool has_room(uint64_t bytes) const { return used_bytes_ + bytes <= bytes_max_; }
  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t bytes_max() const { return bytes_max_; }

 private:
  const std::unique_ptr<TapFile> file_;
  const uint64_t bytes_max_;
  QuickIo quick_writes_;
  std::atomic<uint64_t> used_bytes_{0};
  std::atomic<bool> abandoned_{false};
};

}  // namespace stillpoint
