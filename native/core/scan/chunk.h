// What a scan hands out: a run of changed blocks in device order, small enough for one batch.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/base/digest.h"
#include "core/base/id.h"
#include "core/codec/batch.h"
#include "core/tree/geometry.h"

namespace stillpoint {

// Changed bytes that a scan and its chunks hold. Shared: chunks may outlive the scan.
struct ScanBudget {
  std::mutex mutex;  // guards the whole scan, see scan.h
  std::condition_variable changed;
  uint64_t used_bytes = 0;
};

// The memory in which changed blocks of one segment lie. Gives its bytes back to the budget in the end, so
// never drop one under the budget's mutex.
class HeldBytes {
 public:
  // `reserved_bytes` is what the budget counts for it already.
  HeldBytes(std::shared_ptr<ScanBudget> budget, AlignedBuffer buffer, size_t reserved_bytes);
  ~HeldBytes();
  HeldBytes(const HeldBytes&) = delete;
  HeldBytes& operator=(const HeldBytes&) = delete;

  uint8_t* data() { return buffer_.data(); }

 private:
  const std::shared_ptr<ScanBudget> budget_;
  const AlignedBuffer buffer_;
  const size_t reserved_bytes_;
};

// A changed block, or a run of blocks that became zero (bytes empty, digest NULL). `bytes` points into the
// chunk's HeldBytes.
struct ScanEntry {
  uint64_t block_index;
  uint32_t block_count;
  Digest digest;
  Bytes bytes;
};

struct ByteRange {
  uint64_t byte_offset;
  uint64_t byte_length;
};

// A block with unreadable sectors: what could be read, zeros elsewhere. It has no digest: it is not the
// device's content.
struct BadBlock {
  uint64_t block_index;
  Bytes bytes;                        // into the chunk's HeldBytes
  std::vector<ByteRange> bad_ranges;  // absolute, ascending, apart
};

struct EncodeOptions {
  Id session_id;
  uint64_t sequence;
  uint64_t agent_time_ms;
  std::vector<uint8_t> held;  // empty, or bit i (LSB first): payload entry i goes without payload
  int compression_level;
  // Empty, or for each payload entry: u16 count of pieces, 0 or all of its block, and the digests of those of
  // the base's block.
  std::vector<uint8_t> pieces{};
};

// What patches have spared the last batch.
struct PatchStatistics {
  uint64_t patched_blocks = 0;
  uint64_t unsent_bytes = 0;  // of pieces that had not changed
};

// Threads: the scan fills it before anybody else sees it; afterwards everything is constant until encode(),
// split() or release(), of which the first one takes the bytes and any later one throws `closed` or does
// nothing.
class ScanChunk {
 public:
  const std::vector<ScanEntry>& entries() const { return entries_; }
  const std::vector<BadBlock>& bad_blocks() const { return bad_blocks_; }
  uint64_t payload_count() const { return payload_count_; }
  // Of changed blocks that are not zero.
  uint64_t raw_bytes() const { return raw_bytes_; }

  // A batch body (docs/format.md section 4), compressed on the pool. Equal blocks share one record.
  // A block of which most pieces are known to be the base's goes as a patch. `argument` if `held` is too
  // short or `pieces` is not as it should be.
  ByteVector encode(const EncodeOptions& options);
  void release();
  // Of encode(), once that has returned.
  const PatchStatistics& patch_statistics() const { return patch_statistics_; }

  struct Parts;
  // Cuts it in two, for a link on which all of it at once were too much: the first entries, at least one, as
  // long as the bytes of those that are not held are at most `raw_bytes`; and the rest, null if there is
  // none. Both share the bytes, which go when both are gone. Bad blocks are in neither. `argument` if `held`
  // is too short.
  Parts split(uint64_t raw_bytes, const std::vector<uint8_t>& held);

 private:
  friend class ChunkAssembler;

  void free();
  void check_held(const std::vector<uint8_t>& held) const;
  void add(const ScanEntry& entry);

  std::vector<ScanEntry> entries_;
  std::vector<BadBlock> bad_blocks_;
  std::vector<std::shared_ptr<HeldBytes>> held_;
  uint64_t payload_count_ = 0;
  uint64_t zero_blocks_ = 0;
  uint64_t raw_bytes_ = 0;
  uint64_t bad_bytes_ = 0;
  PatchStatistics patch_statistics_;
  std::atomic<bool> taken_{false};
};

struct ScanChunk::Parts {
  std::shared_ptr<ScanChunk> first;
  std::shared_ptr<ScanChunk> rest;
};

// What a reader found in one segment.
struct ScannedSegment {
  std::vector<ScanEntry> entries;
  std::vector<BadBlock> bad_blocks;
  std::shared_ptr<HeldBytes> held;
};

// Joins segments, in device order, to chunks that a batch can carry. Not thread-safe.
class ChunkAssembler {
 public:
  using Ready = std::deque<std::shared_ptr<ScanChunk>>;

  explicit ChunkAssembler(uint64_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

  // Chunks that this fills go to `ready`.
  void append(ScannedSegment segment, Ready& ready);
  // The open chunk too, if there is anything in it.
  void close_chunk(Ready& ready);

 private:
  void begin_item(Ready& ready);
  void hold(const std::shared_ptr<HeldBytes>& held);
  void append_entry(const ScanEntry& entry, const std::shared_ptr<HeldBytes>& held, Ready& ready);

  uint64_t chunk_bytes_;
  std::shared_ptr<ScanChunk> open_ = std::make_shared<ScanChunk>();
};

}  // namespace stillpoint
