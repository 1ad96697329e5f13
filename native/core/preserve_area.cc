#include "core/preserve_area.h"

#include <cerrno>
#include <utility>

namespace stillpoint {

PreserveArea::PreserveArea(std::unique_ptr<TapFile> file, uint32_t slot_bytes, uint64_t bytes_max)
    : file_(std::move(file)), slot_bytes_(slot_bytes), slot_count_max_(bytes_max / slot_bytes) {}

int PreserveArea::store(uint64_t block_index, Bytes original) {
  uint64_t slot = 0;
  {
    std::lock_guard lock(mutex_);
    if (abandoned_) return ECANCELED;
    if (!free_.empty()) {
      slot = free_.back();
      free_.pop_back();
    } else if (fresh_ < slot_count_max_) {
      slot = fresh_++;
    } else {
      return kFull;
    }
  }
  const int error = file_->write(slot * slot_bytes_, original);
  std::lock_guard lock(mutex_);
  if (error == 0) {
    slots_[block_index] = slot;
  } else {
    free_.push_back(slot);
  }
  return error;
}

int PreserveArea::load(uint64_t block_index, uint32_t byte_offset, std::span<uint8_t> into) {
  uint64_t slot = 0;
  {
    std::lock_guard lock(mutex_);
    const auto found = slots_.find(block_index);
    if (abandoned_ || found == slots_.end()) return ESHUTDOWN;
    slot = found->second;
  }
  const int error = file_->read(slot * slot_bytes_ + byte_offset, into);
  std::lock_guard lock(mutex_);
  // Abandoned meanwhile, the file may have read as zeros.
  return abandoned_ ? ESHUTDOWN : error;
}

void PreserveArea::release(uint64_t block_index) {
  std::lock_guard lock(mutex_);
  const auto found = slots_.find(block_index);
  if (found == slots_.end()) return;
  free_.push_back(found->second);
  slots_.erase(found);
}

void PreserveArea::abandon() {
  std::lock_guard lock(mutex_);
  abandoned_ = true;
}

bool PreserveArea::has_room() const {
  std::lock_guard lock(mutex_);
  return !free_.empty() || fresh_ < slot_count_max_;
}

uint64_t PreserveArea::used_bytes() const {
  std::lock_guard lock(mutex_);
  return slots_.size() * slot_bytes_;
}

}  // namespace stillpoint
