#include "core/live/staging.h"

#include <sys/mman.h>

#include <cerrno>

#include "core/base/error.h"

namespace stillpoint {

Staging::Staging(uint64_t unit_bytes, uint64_t bytes_max)
    : unit_bytes_(unit_bytes), slot_count_(bytes_max / unit_bytes) {
  if (slot_count_ == 0) return;
  void* const mapped = mmap(nullptr, slot_count_ * unit_bytes_, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw_errno(errno, "mmap of memory for a copy");
  memory_ = static_cast<uint8_t*>(mapped);
  // Slots are used one after the other, so large pages save most faults. Where there are none, it does not
  // matter.
  madvise(mapped, slot_count_ * unit_bytes_, MADV_HUGEPAGE);
}

Staging::~Staging() {
  if (memory_ != nullptr) munmap(memory_, slot_count_ * unit_bytes_);
}

uint8_t* Staging::slot(uint64_t unit) {
  if (uint8_t* const found = find(unit); found != nullptr) return found;
  uint64_t slot = unused_from_;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (unused_from_ < slot_count_) {
    unused_from_++;
  } else {
    return nullptr;
  }
  slots_.emplace(unit, slot);
  return memory_ + slot * unit_bytes_;
}

uint8_t* Staging::find(uint64_t unit) const {
  const auto found = slots_.find(unit);
  return found == slots_.end() ? nullptr : memory_ + found->second * unit_bytes_;
}

void Staging::drop(uint64_t unit) {
  const auto found = slots_.find(unit);
  if (found == slots_.end()) return;
  madvise(memory_ + found->second * unit_bytes_, unit_bytes_, MADV_DONTNEED);
  free_.push_back(found->second);
  slots_.erase(found);
}

}  // namespace stillpoint
