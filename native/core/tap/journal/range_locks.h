// Byte ranges that threads hold: overlapping ones one after the other, in the order in which they came;
// others at once. So nobody starves: a wide range that waits lets nobody pass who came after it and overlaps
// it.
//
// state of a range   lock()                          the last before it that overlaps is unlocked
// ----------------   -----------------------------   --------------------------------------------
// (new)              -> held if nothing before it    -
//                    overlaps, otherwise -> waiting
// waiting            -                               -> held
//
// Locking: mutex_ guards the list and the counts. The few ranges that are in flight at a time are in one
// list, in the order in which they came: that is quicker than anything ordered by offset.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace stillpoint {

class RangeLocks {
 public:
  // A range of one thread, on its stack. Unlocked at its end, if it was locked.
  class Range {
   public:
    Range(RangeLocks& locks, uint64_t byte_offset, uint64_t byte_length)
        : locks_(locks), begin_(byte_offset), end_(byte_offset + byte_length) {}
    ~Range() {
      if (locked_) locks_.unlock(*this);
    }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;

    void lock() { locks_.lock(*this); }
    // False if it would have to wait.
    bool try_lock() { return locks_.try_lock(*this); }

   private:
    friend class RangeLocks;
    bool overlaps(const Range& other) const { return begin_ < other.end_ && other.begin_ < end_; }

    RangeLocks& locks_;
    const uint64_t begin_;
    const uint64_t end_;
    bool locked_ = false;
    unsigned waits_for_ = 0;  // ranges that came before and overlap
    std::condition_variable free_;
    Range* before_ = nullptr;
    Range* after_ = nullptr;
  };

 private:
  void lock(Range& range);
  bool try_lock(Range& range);
  void unlock(Range& range);
  unsigned count_overlapping(const Range& range) const;
  void append(Range& range);

  std::mutex mutex_;
  Range* first_ = nullptr;
  Range* last_ = nullptr;
};

}  // namespace stillpoint
