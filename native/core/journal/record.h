// Records of a journal: one change of a device as it is stored and sent (docs/journal.md, "A record"): a
// header of 64 bytes, then the payload. No I/O, no trust.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/base/digest.h"
#include "core/base/id.h"

namespace stillpoint {

inline constexpr size_t kJournalHeaderBytes = 64;
// An NBD request has at most 32 MiB.
inline constexpr uint64_t kJournalPayloadBytesMax = 32u << 20;
// What JavaScript can count to.
inline constexpr uint64_t kJournalOrdinalMax = (uint64_t{1} << 53) - 1;

enum class JournalKind : uint8_t {
  write = 1,
  zero = 2,
  stamp = 3,    // nothing was written; no earlier stamp comes after it
  instant = 4,  // of a hold; its session's id is the payload
};

struct JournalRecord {
  JournalKind kind;
  uint64_t ordinal;
  uint64_t stamp;
  uint64_t byte_offset;
  uint64_t byte_length;  // of the range; of a write that of its payload
  uint32_t payload_bytes;

  uint64_t record_bytes() const { return kJournalHeaderBytes + payload_bytes; }
  friend bool operator==(const JournalRecord&, const JournalRecord&) = default;
};

struct JournalRecordView {
  JournalRecord record;
  Bytes bytes;  // header and payload

  Bytes payload() const { return bytes.subspan(kJournalHeaderBytes); }
};

// With its checksum, which covers the payload, too. `argument`: no record may be so.
std::array<uint8_t, kJournalHeaderBytes> encode_journal_header(const JournalRecord& record, Bytes payload);

// Reads the header at the start of `bytes`. Nothing is proven yet but its bounds. `truncated`, `bad-magic`,
// `bad-version`, `bad-kind`, `bad-length`.
JournalRecord parse_journal_header(Bytes bytes);
// The record at the start of `bytes`, which may go on after it. The same errors.
JournalRecordView parse_journal_record(Bytes bytes);
// Its checksum is right.
bool is_intact(const JournalRecordView& view);
// `bad-checksum`.
void check_journal_record(const JournalRecordView& view);

}  // namespace stillpoint
