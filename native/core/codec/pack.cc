#include "core/codec/pack.h"

#include <cstring>
#include <string>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {

namespace {

constexpr uint8_t kHeaderMagic[8] = {'S', 'P', 'P', 'A', 'C', 'K', '1', 0};
constexpr uint8_t kFooterMagic[8] = {'S', 'P', 'P', 'E', 'N', 'D', '1', 0};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderChecksumOffset = 32;
constexpr size_t kFooterChecksumOffset = 64;

[[noreturn]] void refuse(const char* code, const std::string& reason) {
  throw NativeError(code, "pack: " + reason);
}

}  // namespace

std::array<uint8_t, kPackHeaderBytes> encode_pack_header(const Id& pack_id, PackKind kind) {
  std::array<uint8_t, kPackHeaderBytes> header{};
  std::memcpy(header.data(), kHeaderMagic, sizeof kHeaderMagic);
  store_le<uint32_t>(header.data() + 8, kVersion);
  store_le<uint32_t>(header.data() + 12, static_cast<uint32_t>(kind));
  std::memcpy(header.data() + 16, pack_id.data(), pack_id.size());
  const Digest sum = checksum(Bytes(header).first(kHeaderChecksumOffset));
  std::memcpy(header.data() + kHeaderChecksumOffset, sum.data(), kDigestBytes);
  return header;
}

PackHeader parse_pack_header(Bytes bytes) {
  if (bytes.size() < kPackHeaderBytes) refuse("truncated", "shorter than its header");
  if (std::memcmp(bytes.data(), kHeaderMagic, sizeof kHeaderMagic) != 0) {
    refuse("bad-magic", "does not begin with its magic number");
  }
  if (load_le<uint32_t>(bytes.data() + 8) != kVersion) refuse("bad-version", "of an unknown version");
  const Digest sum = checksum(bytes.first(kHeaderChecksumOffset));
  if (std::memcmp(sum.data(), bytes.data() + kHeaderChecksumOffset, kDigestBytes) != 0) {
    refuse("bad-checksum", "the checksum of its header is wrong");
  }
  PackHeader header{{}, static_cast<PackKind>(load_le<uint32_t>(bytes.data() + 12))};
  if (header.kind != PackKind::data && header.kind != PackKind::tree)
    refuse("bad-kind", "of an unknown kind");
  std::memcpy(header.pack_id.data(), bytes.data() + 16, header.pack_id.size());
  return header;
}

void append_pack_entry(std::vector<uint8_t>& index, const PackEntry& entry) {
  index.resize(index.size() + kPackIndexEntryBytes);
  uint8_t* const at = index.data() + index.size() - kPackIndexEntryBytes;
  std::memcpy(at, entry.digest.data(), kDigestBytes);
  store_le(at + 32, entry.offset);
  store_le(at + 40, entry.stored_length);
  store_le(at + 44, entry.raw_length);
  at[48] = static_cast<uint8_t>(entry.codec);
  at[49] = static_cast<uint8_t>(entry.kind);
}

PackEntry load_pack_entry(Bytes index, size_t ordinal) {
  const uint8_t* const at = index.data() + ordinal * kPackIndexEntryBytes;
  PackEntry entry{{},
                  load_le<uint64_t>(at + 32),
                  load_le<uint32_t>(at + 40),
                  load_le<uint32_t>(at + 44),
                  static_cast<Codec>(at[48]),
                  static_cast<RecordKind>(at[49])};
  std::memcpy(entry.digest.data(), at, kDigestBytes);
  return entry;
}

void check_pack_index(Bytes index, uint64_t index_offset, std::optional<PackKind> kind) {
  if (index.size() % kPackIndexEntryBytes != 0)
    refuse("bad-length", "its index is no whole number of entries");
  uint64_t free_from = kPackHeaderBytes;
  for (size_t i = 0; i < index.size() / kPackIndexEntryBytes; ++i) {
    const PackEntry entry = load_pack_entry(index, i);
    const std::string which = "index entry " + std::to_string(i) + " ";
    if (entry.codec != Codec::raw && entry.codec != Codec::zstd)
      refuse("bad-codec", which + "has an unknown codec");
    if ((entry.kind != RecordKind::block && entry.kind != RecordKind::node) ||
        (kind && entry.kind != record_kind_of(*kind))) {
      refuse("bad-kind", which + "is of a kind that does not belong there");
    }
    const uint8_t* const reserved = index.data() + i * kPackIndexEntryBytes + 50;
    if (load_le<uint32_t>(reserved) != 0 || load_le<uint16_t>(reserved + 4) != 0) {
      refuse("bad-version", which + "has reserved bytes set");
    }
    if (!record_lengths_valid(entry.kind, entry.codec, entry.raw_length, entry.stored_length)) {
      refuse("bad-length", which + "has impossible lengths");
    }
    if (entry.offset != free_from || entry.end() > index_offset) {
      refuse("bad-index", which + "does not lie where the record before it ends");
    }
    free_from = entry.end();
  }
  if (free_from != index_offset) refuse("bad-index", "its records do not reach to its index");
}

std::vector<uint8_t> encode_pack_tail(const Id& pack_id, uint64_t index_offset, Bytes index) {
  check_pack_index(index, index_offset, std::nullopt);
  std::vector<uint8_t> tail(index.begin(), index.end());
  tail.resize(index.size() + kPackFooterBytes);
  uint8_t* const footer = tail.data() + index.size();
  std::memcpy(footer, kFooterMagic, sizeof kFooterMagic);
  store_le<uint64_t>(footer + 8, index_offset);
  store_le<uint64_t>(footer + 16, index.size() / kPackIndexEntryBytes);
  std::memcpy(footer + 24, pack_id.data(), pack_id.size());
  const Digest sum = checksum(Bytes(tail.data(), index.size() + kFooterChecksumOffset));
  std::memcpy(footer + kFooterChecksumOffset, sum.data(), kDigestBytes);
  return tail;
}

PackFooter parse_pack_footer(Bytes footer, uint64_t file_length) {
  if (footer.size() < kPackFooterBytes || file_length < kPackHeaderBytes + kPackFooterBytes) {
    refuse("truncated", "shorter than header and footer");
  }
  if (std::memcmp(footer.data(), kFooterMagic, sizeof kFooterMagic) != 0) {
    refuse("bad-magic", "does not end with its footer: it was never finished, or lost its end");
  }
  PackFooter result{{}, load_le<uint64_t>(footer.data() + 8), load_le<uint64_t>(footer.data() + 16)};
  std::memcpy(result.pack_id.data(), footer.data() + 24, result.pack_id.size());
  const uint64_t index_end = file_length - kPackFooterBytes;
  if (result.index_offset < kPackHeaderBytes || result.index_offset > index_end ||
      result.record_count > (index_end - result.index_offset) / kPackIndexEntryBytes ||
      result.record_count * kPackIndexEntryBytes != index_end - result.index_offset) {
    refuse("bad-length", "its footer does not fit the file");
  }
  return result;
}

void check_pack_tail(Bytes index, Bytes footer) {
  const Digest sum = checksum({index, footer.first(kFooterChecksumOffset)});
  if (std::memcmp(sum.data(), footer.data() + kFooterChecksumOffset, kDigestBytes) != 0) {
    refuse("bad-checksum", "the checksum of its index is wrong");
  }
}

}  // namespace stillpoint
