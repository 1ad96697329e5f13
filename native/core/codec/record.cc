#include "core/codec/record.h"

#include <cstring>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/codec/compress.h"

namespace stillpoint {

namespace {

constexpr uint8_t kMagic[4] = {'S', 'P', 'R', '1'};
constexpr size_t kDigestOffset = 16;
constexpr size_t kChecksumOffset = 48;

Digest record_checksum(Bytes record) {
  return checksum({record.first(kChecksumOffset), record.subspan(kRecordHeaderBytes)});
}

}  // namespace

bool record_lengths_valid(RecordKind kind, Codec codec, uint32_t raw_length, uint32_t stored_length) {
  const bool raw_valid =
      kind == RecordKind::block
          ? raw_length >= 1 && raw_length <= kBlockRawBytesMax
          : raw_length >= kDigestBytes && raw_length <= kNodeBytesMax && raw_length % kDigestBytes == 0;
  return raw_valid && stored_length <= raw_length && (codec == Codec::zstd || stored_length == raw_length);
}

ByteVector encode_record(RecordKind kind, const Digest& digest, Bytes raw, int compression_level) {
  const auto raw_length = static_cast<uint32_t>(raw.size());
  if (raw.size() > kBlockRawBytesMax || !record_lengths_valid(kind, Codec::raw, raw_length, raw_length)) {
    throw NativeError("bad-length", "record: no such raw length: " + std::to_string(raw.size()));
  }
  ByteVector record(kRecordHeaderBytes + raw.size());
  uint8_t* const stored = record.data() + kRecordHeaderBytes;
  size_t stored_length =
      compression_level == 0 ? 0 : compress(raw, compression_level, {stored, raw.size() - 1});
  const Codec codec = stored_length == 0 ? Codec::raw : Codec::zstd;
  if (codec == Codec::raw) {
    stored_length = raw.size();
    std::memcpy(stored, raw.data(), raw.size());
  }
  record.resize(kRecordHeaderBytes + stored_length);
  std::memcpy(record.data(), kMagic, sizeof kMagic);
  record[4] = static_cast<uint8_t>(kind);
  record[5] = static_cast<uint8_t>(codec);
  store_le<uint16_t>(record.data() + 6, 0);
  store_le<uint32_t>(record.data() + 8, raw_length);
  store_le<uint32_t>(record.data() + 12, static_cast<uint32_t>(stored_length));
  std::memcpy(record.data() + kDigestOffset, digest.data(), kDigestBytes);
  const Digest sum = record_checksum(record);
  std::memcpy(record.data() + kChecksumOffset, sum.data(), kDigestBytes);
  return record;
}

RecordView parse_record_header(Bytes bytes) {
  if (bytes.size() < kRecordHeaderBytes) throw NativeError("truncated", "record: shorter than its header");
  if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    throw NativeError("bad-magic", "record: does not begin with its magic number");
  }
  const uint8_t kind = bytes[4];
  const uint8_t codec = bytes[5];
  if (kind != 1 && kind != 2) throw NativeError("bad-kind", "record: unknown kind " + std::to_string(kind));
  if (codec > 1) throw NativeError("bad-codec", "record: unknown codec " + std::to_string(codec));
  if (load_le<uint16_t>(bytes.data() + 6) != 0)
    throw NativeError("bad-version", "record: reserved bytes are set");
  RecordView record{static_cast<RecordKind>(kind),
                    static_cast<Codec>(codec),
                    load_le<uint32_t>(bytes.data() + 8),
                    load_le<uint32_t>(bytes.data() + 12),
                    {},
                    {}};
  if (!record_lengths_valid(record.kind, record.codec, record.raw_length, record.stored_length)) {
    throw NativeError("bad-length", "record: impossible lengths");
  }
  std::memcpy(record.digest.data(), bytes.data() + kDigestOffset, kDigestBytes);
  return record;
}

RecordView parse_record(Bytes bytes) {
  RecordView record = parse_record_header(bytes);
  if (bytes.size() - kRecordHeaderBytes < record.stored_length) {
    throw NativeError("truncated", "record: its stored bytes are not all there");
  }
  record.bytes = bytes.first(kRecordHeaderBytes + record.stored_length);
  return record;
}

void check_checksum(const RecordView& record) {
  const Digest sum = record_checksum(record.bytes);
  if (std::memcmp(sum.data(), record.bytes.data() + kChecksumOffset, kDigestBytes) != 0) {
    throw NativeError("bad-checksum", "record: its checksum is wrong");
  }
}

Bytes decode_record(const RecordView& record, const Digester& digester, uint8_t* scratch) {
  check_checksum(record);
  return decode_content(record, digester, scratch);
}

Bytes decode_content(const RecordView& record, const Digester& digester, uint8_t* scratch) {
  Bytes raw = record.stored();
  if (record.codec == Codec::zstd) {
    if (!decompress(record.stored(), {scratch, record.raw_length})) {
      throw NativeError("bad-length", "record: does not decompress to its raw length");
    }
    raw = {scratch, record.raw_length};
  }
  // A node with NULLs at its end, like a block of zeros, has a digest that isn't the hash of its bytes:
  // neither is ever stored, and so each digest has one content.
  const bool trimmed = record.kind == RecordKind::block || trim_node_content(raw).size() == raw.size();
  const Digest digest =
      record.kind == RecordKind::block ? digester.leaf_digest(raw) : digester.node_digest(raw);
  if (!trimmed || is_null(digest) || digest != record.digest) {
    throw NativeError("bad-digest", "record: its content does not give its digest");
  }
  return raw;
}

}  // namespace stillpoint
