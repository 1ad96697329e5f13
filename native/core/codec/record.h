// Records: the only form in which blocks and tree nodes are stored and sent (docs/format.md section 2). No
// I/O, no trust.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/byte_vector.h"
#include "core/base/digest.h"

namespace stillpoint {

inline constexpr size_t kRecordHeaderBytes = 80;
inline constexpr uint32_t kBlockRawBytesMax = 4u << 20;
inline constexpr uint32_t kNodeRawBytesMax = 2048;

enum class RecordKind : uint8_t { block = 1, node = 2 };
enum class Codec : uint8_t { raw = 0, zstd = 1 };

// A record whose header is within bounds and whose bytes are all there. Nothing else is proven yet.
struct RecordView {
  RecordKind kind;
  Codec codec;
  uint32_t raw_length;
  uint32_t stored_length;
  Digest digest;
  Bytes bytes;  // header and stored bytes

  Bytes stored() const { return bytes.subspan(kRecordHeaderBytes); }
};

// Header and stored bytes. Level 0 stores raw; so does a content that zstd does not shrink. Callable from any
// thread. `raw` must be what `digest` digests: it isn't checked.
ByteVector encode_record(RecordKind kind, const Digest& digest, Bytes raw, int compression_level);

// Reads the header at the start of `bytes`: a view without bytes yet. `truncated`, `bad-magic`,
// `bad-version`, `bad-kind`, `bad-codec`, `bad-length`.
RecordView parse_record_header(Bytes bytes);
// The record at the start of `bytes`, which may go on after it. The same errors.
RecordView parse_record(Bytes bytes);

// `bad-checksum`. Proves that the record is as it was made, not that its content has its digest.
void check_checksum(const RecordView& record);
// Proves the record (checksum, decompression to exactly the raw length, digest) and answers its raw bytes:
// those that it stores, or `scratch`, which has room for raw_length. `bad-checksum`, `bad-length`,
// `bad-digest`. Callable from any thread.
Bytes decode_record(const RecordView& record, const Digester& digester, uint8_t* scratch);
// The same but for the record's own checksum: for records that will not be kept, and came in a batch with a
// right trailer.
Bytes decode_content(const RecordView& record, const Digester& digester, uint8_t* scratch);

// Lengths that a record of this kind and codec may have.
bool record_lengths_valid(RecordKind kind, Codec codec, uint32_t raw_length, uint32_t stored_length);

}  // namespace stillpoint
