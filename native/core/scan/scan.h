// The scan pipeline: read -> zero check -> BLAKE3 -> compare with the known leaf (known_leaves.h), on reader
// threads of its own; pulled as chunks of changed blocks in device order.
//
//   cursor --claim--> readers (one segment each, own buffer) --deliver--> reorder --> open chunk
//   open chunk --full--> ready chunks --next()-->
//
// state      claim()             next()                                   goes on to
// --------   -----------------   --------------------------------------   ----------------------------------
// running    waits for memory,   a ready chunk, or waits                  ended, when all segments are
//            then a segment                                               delivered; failed, on an error or
//                                                                         cancel()
// ended      none                the remaining chunks, then null          failed, on cancel()
// failed     none                rejects with the error or `cancelled`    -
//
// Bounded: changed bytes by memory_bytes (a reader reserves its whole segment before it claims it, so claimed
// segments always finish and the oldest is never starved), ready chunks and the distance between oldest and
// newest segment by constants.
//
// Locking: ScanBudget::mutex guards everything but the progress counters. Callbacks, and destructors of held
// bytes, run without it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/device/block_source.h"
#include "core/scan/chunk.h"
#include "core/scan/cursor.h"
#include "core/scan/known_leaves.h"
#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"

namespace stillpoint {

struct ScanOptions {
  std::shared_ptr<BlockSource> device;
  std::shared_ptr<const TreeFile> base;  // geometry of the device
  std::shared_ptr<LeafOverlay> overlay;  // null, or what earlier scans found; gets the leaf of every block
                                         // that differs from what is known of it
  std::vector<BlockRange> ranges;        // ascending, apart; empty: nothing
  bool digest_only = false;              // bytes are not kept: chunks have bad blocks alone
  unsigned readers = 4;
  uint64_t memory_bytes = uint64_t{32} << 20;
  uint64_t chunk_bytes = uint64_t{4} << 20;
  unsigned read_retries = 2;
};

struct ScanProgress {
  uint64_t scanned_bytes;  // holes included
  uint64_t read_bytes;
  uint64_t changed_blocks;
  uint64_t again_bytes;  // of changed blocks that the overlay had already, unless they are zero now
  uint64_t zero_blocks;
  uint64_t bad_bytes;
};

class Scan {
 public:
  static constexpr unsigned kReadersMax = 64;
  // With blocks of up to 4 MiB, a batch stays below its limit of 16 MiB.
  static constexpr uint64_t kChunkBytesMax = uint64_t{8} << 20;

  using NextCallback = std::function<void(std::shared_ptr<ScanChunk>, const std::exception_ptr&)>;

  // Starts reading. `on_stopped` is called once, from the last reader thread, when no thread uses device,
  // base or overlay any more; their references are dropped by then. `geometry-mismatch`, `argument`.
  explicit Scan(ScanOptions options, std::function<void()> on_stopped = {});
  // Cancels and waits for the readers.
  ~Scan();
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  // Calls back once, from any thread, maybe at once: with a chunk, with null at the end, or with the failure.
  void next(NextCallback callback);
  // The same, waiting.
  std::shared_ptr<ScanChunk> next();

  ScanProgress progress() const;
  // Returns at once; readers end after the read that they are in.
  void cancel();

 private:
  struct Delivery {
    NextCallback callback;
    std::shared_ptr<ScanChunk> chunk;
    std::exception_ptr failure;
  };

  void run_reader();
  std::optional<Segment> claim();
  ScannedSegment process(const Segment& segment, AlignedBuffer& buffer, bool& expects_no_change);
  bool is_unchanged_in_place(const Segment& segment, const std::vector<Digest>& known);
  ScannedSegment process_hole(const Segment& segment);
  void hold_changed(ScannedSegment& result, AlignedBuffer& buffer);
  void put_overlay(const std::vector<ScanEntry>& entries);
  void deliver(const Segment& segment, ScannedSegment result);
  void end_if_complete();
  std::vector<Delivery> match_waiters();
  void fail(const std::exception_ptr& failure);
  void reader_ended();

  ScanOptions options_;
  const TreeGeometry geometry_;
  const uint64_t segment_bytes_;
  const uint64_t memory_bytes_;
  const std::shared_ptr<ScanBudget> budget_ = std::make_shared<ScanBudget>();

  const KnownLeaves known_;
  ScanCursor cursor_;
  uint64_t next_claim_ = 0;    // sequence of the next segment that is claimed,
  uint64_t next_deliver_ = 0;  // and of the next that goes into the open chunk
  bool exhausted_ = false;     // the cursor is at its end
  bool ended_ = false;
  std::exception_ptr failure_;
  std::map<uint64_t, ScannedSegment> delivered_;  // out of order
  ChunkAssembler assembler_;
  std::deque<std::shared_ptr<ScanChunk>> ready_;
  std::deque<NextCallback> waiters_;
  std::function<void()> on_stopped_;

  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> scanned_bytes_{0};
  std::atomic<uint64_t> read_bytes_{0};
  std::atomic<uint64_t> changed_blocks_{0};
  std::atomic<uint64_t> again_bytes_{0};
  std::atomic<uint64_t> zero_blocks_{0};
  std::atomic<uint64_t> bad_bytes_{0};

  unsigned running_readers_ = 0;
  std::vector<std::thread> readers_;
};

}  // namespace stillpoint
