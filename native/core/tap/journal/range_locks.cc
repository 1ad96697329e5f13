#include "core/tap/journal/range_locks.h"

namespace stillpoint {

unsigned RangeLocks::count_overlapping(const Range& range) const {
  unsigned count = 0;
  for (const Range* other = first_; other != nullptr; other = other->after_) {
    if (other->overlaps(range)) count++;
  }
  return count;
}

void RangeLocks::append(Range& range) {
  range.before_ = last_;
  (last_ == nullptr ? first_ : last_->after_) = &range;
  last_ = &range;
  range.locked_ = true;
}

void RangeLocks::lock(Range& range) {
  std::unique_lock lock(mutex_);
  range.waits_for_ = count_overlapping(range);
  append(range);
  range.free_.wait(lock, [&] { return range.waits_for_ == 0; });
}

bool RangeLocks::try_lock(Range& range) {
  std::lock_guard lock(mutex_);
  if (count_overlapping(range) != 0) return false;
  append(range);
  return true;
}

void RangeLocks::unlock(Range& range) {
  std::lock_guard lock(mutex_);
  (range.before_ == nullptr ? first_ : range.before_->after_) = range.after_;
  (range.after_ == nullptr ? last_ : range.after_->before_) = range.before_;
  range.locked_ = false;
  // It held, so what is before it does not overlap it. Woken under the mutex: the range ends with its thread.
  for (Range* other = range.after_; other != nullptr; other = other->after_) {
    if (other->overlaps(range) && --other->waits_for_ == 0) other->free_.notify_one();
  }
}

}  // namespace stillpoint
