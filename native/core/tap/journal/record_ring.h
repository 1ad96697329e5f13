// Room in memory for records that are drawn and not yet stored: taken in order, given back in order, each in
// one piece.
//
// Locking: the places are guarded by the owner's lock; the bytes of a place belong to the one who took it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace stillpoint {

class RecordRing {
 public:
  struct Place {
    size_t at;
    uint64_t until;  // what give_back() takes
  };

  // Memory that is never used is never there.
  explicit RecordRing(size_t capacity) : capacity_(capacity), bytes_(new uint8_t[capacity]) {}

  // Nothing: there is no room now.
  std::optional<Place> take(size_t bytes) {
    // From the start again where that can be: what is still in the processor's cache is the cheapest.
    if (begin_ == end_) begin_ = end_ = 0;
    size_t at = end_ % capacity_;
    uint64_t until = end_ + bytes;
    if (at + bytes > capacity_) {
      until += capacity_ - at;
      at = 0;
    }
    if (until - begin_ > capacity_) return std::nullopt;
    end_ = until;
    return Place{at, until};
  }
  // The oldest places, up to and including the one of `until`.
  void give_back(uint64_t until) { begin_ = until; }

  size_t used() const { return end_ - begin_; }
  size_t capacity() const { return capacity_; }
  std::span<uint8_t> bytes(size_t at, size_t length) { return {bytes_.get() + at, length}; }

 private:
  const size_t capacity_;
  const std::unique_ptr<uint8_t[]> bytes_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

}  // namespace stillpoint
