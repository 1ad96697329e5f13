// Units of a device in memory, each in a slot of its own. Memory is taken as slots are filled, and given back
// when they are dropped.
//
// Threads: one at a time, but for find() beside itself.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace stillpoint {

class Staging {
 public:
  // An errno, if so much can't be reserved.
  Staging(uint64_t unit_bytes, uint64_t bytes_max);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // The unit's slot, which it gets if it has none. Null: there is no slot left.
  uint8_t* slot(uint64_t unit);
  // Null if it has none.
  uint8_t* find(uint64_t unit) const;
  void drop(uint64_t unit);
  uint64_t used_bytes() const { return slots_.size() * unit_bytes_; }
  uint64_t free_bytes() const { return slot_count_ * unit_bytes_ - used_bytes(); }

 private:
  const uint64_t unit_bytes_;
  const uint64_t slot_count_;
  uint8_t* memory_ = nullptr;
  std::unordered_map<uint64_t, uint64_t> slots_;  // of units
  std::vector<uint64_t> free_;                    // that were used before
  uint64_t unused_from_ = 0;
};

}  // namespace stillpoint
