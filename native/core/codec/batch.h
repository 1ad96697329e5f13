// Batches: the message body of a session and of a restore (docs/format.md section 4). No I/O, no trust.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/byte_vector.h"
#include "core/base/digest.h"
#include "core/base/id.h"
#include "core/base/thread_pool.h"
#include "core/codec/patch.h"
#include "core/codec/record.h"
#include "core/tree/geometry.h"
#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"

namespace stillpoint {

inline constexpr size_t kBatchHeaderBytes = 64;
inline constexpr size_t kBatchEntryBytes = 56;
inline constexpr size_t kBatchTrailerBytes = 32;
inline constexpr size_t kBatchEntriesMax = 65536;
// Blocks that the zero runs of one batch may cover: what a small body can make a receiver do stays bounded.
inline constexpr uint64_t kBatchZeroBlocksMax = uint64_t{1} << 24;

enum class EntryKind : uint8_t { zero = 0, payload = 1, held = 2, patch = 3 };

struct BatchEntry {
  uint64_t block_index;
  uint32_t block_count;  // 1 except in zero runs
  EntryKind kind;
  Digest digest;            // NULL in zero runs
  uint32_t record_ordinal;  // 0 without a record
};

// Assembles a batch body. Entries are added in ascending order by one thread; the records may come from
// several (encode_record) and are only referred to until finish() copies them into place.
class BatchBuilder {
 public:
  BatchBuilder(const Id& session_id, uint64_t sequence, uint64_t agent_time_ms);

  // Extends the last entry if that is a zero run that ends here.
  void add_zeros(uint64_t block_index, uint32_t block_count);
  void add_held(uint64_t block_index, const Digest& digest);
  // `record_ordinal` is what add_record answered.
  void add_payload(uint64_t block_index, const Digest& digest, uint32_t record_ordinal);
  // `record` must stay valid until finish().
  uint32_t add_record(Bytes record);
  // `patch` too.
  void add_patch(uint64_t block_index, const Digest& digest, Bytes patch);

  ByteVector finish() const;

 private:
  Id session_id_;
  uint64_t sequence_;
  uint64_t agent_time_ms_;
  std::vector<BatchEntry> entries_;
  std::vector<Bytes> records_;
  std::vector<Bytes> patches_;
};

struct BatchSource {
  uint64_t block_index;
  uint32_t record_ordinal;
};
// Where a record should lie: at the start of `bytes`, which may go on after it.
struct RecordSource {
  Bytes bytes;
  Digest digest;
};
// A batch of blocks from records as they lie in packs, without decoding them; their checksums are proven.
// `bad-order`, `bad-index`, `bad-kind`, `bad-digest` (another record lies there), `bad-checksum`, and what
// parse_record finds.
ByteVector encode_batch(BatchBuilder builder, std::span<const BatchSource> blocks,
                        std::span<const RecordSource> records);

struct BatchBounds {
  Id session_id;
  uint64_t sequence;
  TreeGeometry geometry;
  Digester digester;
  const TreeFile* expected = nullptr;  // if given, every leaf must equal this tree's
  bool may_patch = false;              // else a patch is a kind that nobody knows
};

// A batch whose structure, bounds and trailer are right; the records are not yet decoded. Refers to the body.
struct BatchView {
  std::vector<BatchEntry> entries;
  std::vector<RecordView> records;
  std::vector<PatchView> patches;  // of the entries that are patches, in their order
  size_t records_offset;
  size_t records_length;
};

// Everything but the contents of the records: header, session, sequence, order, kinds, lengths, names,
// trailer. `truncated`, `bad-magic`, `bad-session`, `bad-order`, `bad-index`, `bad-kind`, `bad-codec`,
// `bad-length`, `bad-digest`, `bad-checksum`.
BatchView parse_batch(Bytes body, const BatchBounds& bounds);

// Puts the entries of a batch into an overlay: zero runs as NULL, all others with their digests. Believes a
// batch that decode_batch accepted, and needs no more of it than header and entries, but checks them all the
// same before it puts any.
void put_batch_entries(LeafOverlay& overlay, Bytes head);

// Of the entries that are patches, in their order; none if `head` is no head of a batch, which is for
// parse_batch to say.
std::vector<uint64_t> patched_blocks(Bytes head, uint64_t block_count);

// parse_batch, and every record proven on the pool. Nothing of a batch that it rejects may be used.
BatchView decode_batch(Bytes body, const BatchBounds& bounds, ThreadPool& pool);

// Raw bytes that decode_blocks answers at most.
inline constexpr uint64_t kDecodedBytesMax = uint64_t{256} << 20;
// The blocks of a restore's batch in order, each proven. `bad-kind` if there is anything but payload,
// `bad-length` if it is too much for memory.
std::vector<ByteVector> decode_blocks(Bytes body, const BatchBounds& bounds, ThreadPool& pool);

}  // namespace stillpoint
