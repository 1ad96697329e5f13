// Packs: files of records with an index at the end (docs/format.md section 3). Only bytes; pack_reader has
// the files.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/base/digest.h"
#include "core/base/id.h"
#include "core/codec/record.h"

namespace stillpoint {

inline constexpr size_t kPackHeaderBytes = 64;
inline constexpr size_t kPackIndexEntryBytes = 56;
inline constexpr size_t kPackFooterBytes = 96;

enum class PackKind : uint32_t { data = 1, tree = 2 };

struct PackHeader {
  Id pack_id;
  PackKind kind;
};

struct PackEntry {
  Digest digest;
  uint64_t offset;  // of the record header, from the start of the pack
  uint32_t stored_length;
  uint32_t raw_length;
  Codec codec;
  RecordKind kind;

  uint64_t end() const { return offset + kRecordHeaderBytes + stored_length; }
};

struct PackFooter {
  Id pack_id;
  uint64_t index_offset;
  uint64_t record_count;
};

inline RecordKind record_kind_of(PackKind kind) {
  return kind == PackKind::data ? RecordKind::block : RecordKind::node;
}

std::array<uint8_t, kPackHeaderBytes> encode_pack_header(const Id& pack_id, PackKind kind);
// `truncated`, `bad-magic`, `bad-version`, `bad-kind`, `bad-checksum`.
PackHeader parse_pack_header(Bytes bytes);

void append_pack_entry(std::vector<uint8_t>& index, const PackEntry& entry);
// Entry `ordinal` of an index, unchecked.
PackEntry load_pack_entry(Bytes index, size_t ordinal);
// Every entry within bounds, in the order of the records, which fill the pack from its header to
// `index_offset`. `bad-length`, `bad-codec`, `bad-kind`, `bad-index`, `bad-version`.
void check_pack_index(Bytes index, uint64_t index_offset, std::optional<PackKind> kind);

// Index and footer. Checks the index first: what it would not read, it does not write.
std::vector<uint8_t> encode_pack_tail(const Id& pack_id, uint64_t index_offset, Bytes index);
// The footer's own fields, from the last 96 bytes of a pack of `file_length` bytes; its checksum covers the
// index too. `truncated`, `bad-magic`, `bad-length`.
PackFooter parse_pack_footer(Bytes footer, uint64_t file_length);
// `bad-checksum`.
void check_pack_tail(Bytes index, Bytes footer);

}  // namespace stillpoint
