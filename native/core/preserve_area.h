// Where originals of blocks go while a snapshot needs them: slots of one block in an unnamed file, up to a
// bound. What it holds is worth nothing after the snapshot, so nothing is ever synced.
//
// State of a block   store()            release()        load()
// ----------------   ----------------   --------------   ------------------------------
// absent             written -> held    -                false
// held               (never asked)      -> absent        its bytes
//
// Locking: mutex_ guards the table and the free slots; bytes are moved outside of it. Nobody loads and
// releases the same block at once: both are the session's doing.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/tap_file.h"

namespace stillpoint {

class PreserveArea {
 public:
  PreserveArea(std::unique_ptr<TapFile> file, uint32_t slot_bytes, uint64_t bytes_max);

  // kFull if no slot is free; errno values are the file's.
  static constexpr int kFull = -1;
  int store(uint64_t block_index, Bytes original);
  // Bytes [offset, offset + into.size()) of a held block.
  int load(uint64_t block_index, uint32_t byte_offset, std::span<uint8_t> into);
  void release(uint64_t block_index);
  // Nothing is stored or loaded afterwards. Takes no time: a user's write may be waiting.
  void abandon();
  // The space of an abandoned area.
  void give_back() { file_->remove(); }

  bool has_room() const;
  uint64_t used_bytes() const;
  uint64_t bytes_max() const { return slot_count_max_ * slot_bytes_; }

 private:
  const std::unique_ptr<TapFile> file_;
  const uint64_t slot_bytes_;
  const uint64_t slot_count_max_;

  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, uint64_t> slots_;  // by block
  std::vector<uint64_t> free_;
  uint64_t fresh_ = 0;  // slots from here on were never used
  bool abandoned_ = false;
};

}  // namespace stillpoint
