#include "core/journal/run.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace stillpoint {
namespace {

// Of records that are proven together, on all threads, and then looked at while they are in the cache.
constexpr uint64_t kSlabBytes = 4 << 20;
// What a thread takes of them at a time.
constexpr uint64_t kShareBytes = 128 << 10;

[[noreturn]] void refuse(const std::string& code, const std::string& message, uint64_t byte_offset) {
  throw NativeError(code, message + ", at byte " + std::to_string(byte_offset), "",
                    static_cast<int64_t>(byte_offset));
}

class RunProver {
 public:
  RunProver(Bytes bytes, const RunBounds& bounds, ThreadPool& pool)
      : bytes_(bytes), bounds_(bounds), last_(bounds.after), pool_(pool) {}

  JournalRun prove(const LookAtRecords& look) {
    JournalRun run;
    for (bool goes_on = true; goes_on;) {
      slab_.clear();
      // A record before the one that can't be read may be damaged, and be why.
      std::optional<NativeError> failure;
      try {
        goes_on = take_slab(run);
      } catch (const NativeError& error) {
        failure = error;
      }
      check_slab(run.byte_length);
      if (failure) throw *failure;
      // Only a record that is proven ends a run by its stamp.
      if (!slab_.empty() && slab_.back().record.stamp > bounds_.through_stamp) slab_.pop_back();
      if (slab_.empty()) break;
      if (look) look(slab_);
      count_slab(run);
    }
    return run;
  }

 private:
  // Whole records that follow each other. False: there are no more.
  bool take_slab(const JournalRun& run) {
    uint64_t at = run.byte_length;
    while (at - run.byte_length < kSlabBytes) {
      const Bytes left = bytes_.subspan(at);
      if (left.size() < kJournalHeaderBytes) return false;
      const JournalRecord record = parse(left, at);
      const uint64_t length = record.record_bytes();
      if (length > left.size()) return false;
      if (at > 0 && (at > bounds_.bytes_max || length > bounds_.bytes_max - at)) return false;
      // One that is damaged is not called out of order.
      slab_.push_back({record, left.first(length)});
      check_order(record, at);
      if (record.stamp > bounds_.through_stamp) return false;
      at += length;
    }
    return true;
  }

  static JournalRecord parse(Bytes left, uint64_t at) {
    try {
      return parse_journal_header(left);
    } catch (const NativeError& error) {
      refuse(error.code(), error.what(), at);
    }
  }

  void check_order(const JournalRecord& record, uint64_t at) {
    if (last_ && record.ordinal != last_->ordinal + 1) {
      refuse("bad-order",
             "journal record: number " + std::to_string(record.ordinal) + " where " +
                 std::to_string(last_->ordinal + 1) + " was expected",
             at);
    }
    if (last_ && record.stamp <= last_->stamp)
      refuse("bad-order", "journal record: its stamp is not after that of the one before", at);
    last_ = {record.ordinal, record.stamp};
  }

  // `at`: where the slab begins.
  void check_slab(uint64_t at) {
    std::vector<size_t> shares;  // the first record of each
    uint64_t bytes = kShareBytes;
    for (size_t i = 0; i < slab_.size(); i++) {
      if (bytes >= kShareBytes) {
        shares.push_back(i);
        bytes = 0;
      }
      bytes += slab_[i].bytes.size();
    }
    std::atomic<size_t> first_bad = slab_.size();
    pool_.parallel_for(shares.size(), [&](size_t share) {
      const size_t end = share + 1 < shares.size() ? shares[share + 1] : slab_.size();
      for (size_t i = shares[share]; i < end && i < first_bad; i++) {
        if (is_intact(slab_[i])) continue;
        size_t known = first_bad;
        while (i < known && !first_bad.compare_exchange_weak(known, i)) {
        }
      }
    });
    if (first_bad == slab_.size()) return;
    for (size_t i = 0; i < first_bad; i++) at += slab_[i].bytes.size();
    refuse("bad-checksum", "journal record: its checksum is wrong", at);
  }

  void count_slab(JournalRun& run) const {
    const JournalRecord& first = slab_.front().record;
    const JournalRecord& last = slab_.back().record;
    if (run.record_count == 0) run.first = {first.ordinal, first.stamp};
    run.last = {last.ordinal, last.stamp};
    run.record_count += slab_.size();
    for (const JournalRecordView& view : slab_) run.byte_length += view.bytes.size();
  }

  const Bytes bytes_;
  const RunBounds& bounds_;
  std::optional<JournalMark> last_;
  ThreadPool& pool_;
  std::vector<JournalRecordView> slab_;
};

}  // namespace

JournalRun prove_run(Bytes bytes, const RunBounds& bounds, ThreadPool& pool, const LookAtRecords& look) {
  return RunProver(bytes, bounds, pool).prove(look);
}

std::optional<JournalMark> prove_all(Bytes bytes, const std::optional<JournalMark>& after, ThreadPool& pool,
                                     const LookAtRecords& look) {
  RunBounds bounds;
  bounds.after = after;
  const JournalRun run = prove_run(bytes, bounds, pool, look);
  if (run.byte_length < bytes.size())
    refuse("truncated", "journal record: it is not all there", run.byte_length);
  return run.record_count > 0 ? run.last : after;
}

}  // namespace stillpoint
