// Runs of a journal's records: proven in their order, whoever wrote the bytes. What appends, replays and
// applies them goes through here.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>

#include "core/base/thread_pool.h"
#include "core/journal/record.h"

namespace stillpoint {

struct JournalMark {
  uint64_t ordinal = 0;
  uint64_t stamp = 0;
};

struct RunBounds {
  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

  // The first record must follow this one; else it may be any.
  std::optional<JournalMark> after;
  // The run ends before the first record with a later stamp, and before one that would make it longer; but
  // it has one, however long that is.
  uint64_t through_stamp = kNone;
  uint64_t bytes_max = kNone;
};

struct JournalRun {
  uint64_t record_count = 0;
  uint64_t byte_length = 0;  // what follows is not of the run, or the start of a record that is cut
  JournalMark first;         // both 0 where there is no record
  JournalMark last;
};

// Proven records, a few MiB of them at a time, in their order.
using LookAtRecords = std::function<void(std::span<const JournalRecordView>)>;

// Proves the whole records at the start of `bytes`: structure, checksums, ordinals without gaps, stamps that
// ascend strictly. The errors of core/journal/record.h and `bad-order`, with the byte offset of the first
// record that is wrong; `look` has been given some or all of those before it.
JournalRun prove_run(Bytes bytes, const RunBounds& bounds, ThreadPool& pool, const LookAtRecords& look = {});

// The same, where nothing may follow the run: `truncated`. Answers its last record, or `after`.
std::optional<JournalMark> prove_all(Bytes bytes, const std::optional<JournalMark>& after, ThreadPool& pool,
                                     const LookAtRecords& look);

}  // namespace stillpoint
