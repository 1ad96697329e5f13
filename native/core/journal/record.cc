#include "core/journal/record.h"

#include <cstring>
#include <limits>
#include <string>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {
namespace {

constexpr uint8_t kRecordMagic[4] = {'S', 'P', 'J', 'R'};
constexpr uint8_t kRecordVersion = 1;
constexpr size_t kRecordSumOffset = 48;
constexpr size_t kRecordSumBytes = 16;
static_assert(kRecordSumOffset + kRecordSumBytes == kJournalHeaderBytes);

bool may_be(const JournalRecord& record) {
  constexpr uint64_t kOffsetMax = std::numeric_limits<int64_t>::max();
  if (record.ordinal == 0 || record.ordinal > kJournalOrdinalMax || record.stamp == 0) return false;
  if (record.byte_offset > kOffsetMax || record.byte_length > kOffsetMax - record.byte_offset) return false;
  const bool range = record.byte_length > 0;
  switch (record.kind) {
    case JournalKind::write:
      return range && record.byte_length <= kJournalPayloadBytesMax &&
             record.payload_bytes == record.byte_length;
    case JournalKind::zero:
      return range && record.payload_bytes == 0;
    case JournalKind::stamp:
      return !range && record.byte_offset == 0 && record.payload_bytes == 0;
    case JournalKind::instant:
      return !range && record.byte_offset == 0 && record.payload_bytes == sizeof(Id);
  }
  return false;
}

// The payload comes first. In front of it, the header would move it off BLAKE3's chunks, and what is hashed
// in parallel then is half as fast for a payload of 4 KiB.
void put_sum(Bytes header, Bytes payload, uint8_t* into) {
  const Digest sum = checksum({payload, header.first(kRecordSumOffset)});
  std::memcpy(into, sum.data(), kRecordSumBytes);
}

}  // namespace

std::array<uint8_t, kJournalHeaderBytes> encode_journal_header(const JournalRecord& record, Bytes payload) {
  if (!may_be(record) || payload.size() != record.payload_bytes)
    throw NativeError("argument", "journal record: impossible lengths");
  std::array<uint8_t, kJournalHeaderBytes> header{};
  uint8_t* const at = header.data();
  std::memcpy(at, kRecordMagic, sizeof kRecordMagic);
  at[4] = kRecordVersion;
  at[5] = static_cast<uint8_t>(record.kind);
  store_le<uint32_t>(at + 8, record.payload_bytes);
  store_le<uint64_t>(at + 16, record.ordinal);
  store_le<uint64_t>(at + 24, record.stamp);
  store_le<uint64_t>(at + 32, record.byte_offset);
  store_le<uint64_t>(at + 40, record.byte_length);
  put_sum(header, payload, at + kRecordSumOffset);
  return header;
}

JournalRecord parse_journal_header(Bytes bytes) {
  if (bytes.size() < kJournalHeaderBytes)
    throw NativeError("truncated", "journal record: shorter than its header");
  const uint8_t* const at = bytes.data();
  if (std::memcmp(at, kRecordMagic, sizeof kRecordMagic) != 0)
    throw NativeError("bad-magic", "journal record: does not begin with its magic number");
  if (at[4] != kRecordVersion)
    throw NativeError("bad-version", "journal record: unknown version " + std::to_string(at[4]));
  if (load_le<uint16_t>(at + 6) != 0 || load_le<uint32_t>(at + 12) != 0)
    throw NativeError("bad-version", "journal record: reserved bytes are set");
  if (at[5] < 1 || at[5] > 4)
    throw NativeError("bad-kind", "journal record: unknown kind " + std::to_string(at[5]));
  const JournalRecord record{static_cast<JournalKind>(at[5]), load_le<uint64_t>(at + 16),
                             load_le<uint64_t>(at + 24),      load_le<uint64_t>(at + 32),
                             load_le<uint64_t>(at + 40),      load_le<uint32_t>(at + 8)};
  if (!may_be(record)) throw NativeError("bad-length", "journal record: impossible lengths or numbers");
  return record;
}

JournalRecordView parse_journal_record(Bytes bytes) {
  const JournalRecord record = parse_journal_header(bytes);
  if (bytes.size() < record.record_bytes())
    throw NativeError("truncated", "journal record: its payload is not all there");
  return {record, bytes.first(record.record_bytes())};
}

bool is_intact(const JournalRecordView& view) {
  uint8_t sum[kRecordSumBytes];
  put_sum(view.bytes.first(kJournalHeaderBytes), view.payload(), sum);
  return std::memcmp(sum, view.bytes.data() + kRecordSumOffset, kRecordSumBytes) == 0;
}

void check_journal_record(const JournalRecordView& view) {
  if (!is_intact(view)) throw NativeError("bad-checksum", "journal record: its checksum is wrong");
}

}  // namespace stillpoint
