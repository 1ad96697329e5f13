#include "core/codec/batch.h"

#include <cstring>
#include <string>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {

namespace {

constexpr uint8_t kMagic[8] = {'S', 'P', 'B', 'A', 'T', 'C', 'H', '1'};

[[noreturn]] void refuse(const char* code, const std::string& reason) {
  throw NativeError(code, "batch: " + reason);
}

[[noreturn]] void refuse_entry(const char* code, size_t ordinal, const std::string& reason) {
  refuse(code, "entry " + std::to_string(ordinal) + " " + reason);
}

BatchEntry load_entry(const uint8_t* at) {
  BatchEntry entry{load_le<uint64_t>(at),
                   load_le<uint32_t>(at + 8),
                   static_cast<EntryKind>(at[12]),
                   {},
                   load_le<uint32_t>(at + 48)};
  std::memcpy(entry.digest.data(), at + 16, kDigestBytes);
  return entry;
}

void store_entry(uint8_t* at, const BatchEntry& entry) {
  store_le(at, entry.block_index);
  store_le(at + 8, entry.block_count);
  at[12] = static_cast<uint8_t>(entry.kind);
  std::memcpy(at + 16, entry.digest.data(), kDigestBytes);
  store_le(at + 48, entry.record_ordinal);
}

// Order, bounds, kind and fields of the entry itself.
void check_entry(const BatchEntry& entry, const uint8_t* at, size_t ordinal, uint64_t free_from,
                 uint64_t block_count, bool may_patch) {
  if (entry.kind > (may_patch ? EntryKind::patch : EntryKind::held))
    refuse_entry("bad-kind", ordinal, "has an unknown kind");
  if ((at[13] | at[14] | at[15]) != 0 || load_le<uint32_t>(at + 52) != 0) {
    refuse_entry("bad-version", ordinal, "has reserved bytes set");
  }
  if (entry.block_index < free_from)
    refuse_entry("bad-order", ordinal, "does not lie after the one before it");
  if (entry.block_count == 0) refuse_entry("bad-length", ordinal, "covers no block");
  if (entry.block_index >= block_count || entry.block_count > block_count - entry.block_index) {
    refuse_entry("bad-index", ordinal, "lies beyond the device");
  }
  const bool zero = entry.kind == EntryKind::zero;
  if (!zero && entry.block_count != 1)
    refuse_entry("bad-length", ordinal, "covers several blocks but is no zero run");
  if (zero != is_null(entry.digest))
    refuse_entry("bad-digest", ordinal, "has a digest that its kind can't have");
  if (entry.kind != EntryKind::payload && entry.record_ordinal != 0) {
    refuse_entry("bad-index", ordinal, "names a record but has none");
  }
}

void check_magic(Bytes head) {
  if (head.size() < kBatchHeaderBytes) refuse("truncated", "shorter than its header");
  if (std::memcmp(head.data(), kMagic, sizeof kMagic) == 0) return;
  const bool other_version = std::memcmp(head.data(), kMagic, sizeof kMagic - 1) == 0;
  refuse(other_version ? "bad-version" : "bad-magic", "does not begin with the magic number of version 1");
}

size_t checked_entry_count(Bytes head) {
  const size_t entry_count = load_le<uint32_t>(head.data() + 32);
  if (entry_count > kBatchEntriesMax) refuse("bad-length", "more entries than a batch may have");
  if (head.size() < kBatchHeaderBytes + entry_count * kBatchEntryBytes)
    refuse("truncated", "not all entries there");
  return entry_count;
}

// All that can be said of entries without their records.
std::vector<BatchEntry> parse_entries(Bytes head, uint64_t block_count, bool may_patch = false) {
  std::vector<BatchEntry> entries(checked_entry_count(head));
  uint64_t free_from = 0;
  uint64_t zero_blocks = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const uint8_t* const at = head.data() + kBatchHeaderBytes + i * kBatchEntryBytes;
    entries[i] = load_entry(at);
    check_entry(entries[i], at, i, free_from, block_count, may_patch);
    free_from = entries[i].block_index + entries[i].block_count;
    if (entries[i].kind == EntryKind::zero) zero_blocks += entries[i].block_count;
  }
  if (zero_blocks > kBatchZeroBlocksMax) refuse("bad-length", "its zero runs are too long");
  return entries;
}

bool is_expected(const TreeFile& tree, const BatchEntry& entry) {
  if (entry.kind != EntryKind::zero) return tree.leaf(entry.block_index) == entry.digest;
  return tree.next_non_null(entry.block_index) >= entry.block_index + entry.block_count;
}

}  // namespace

BatchBuilder::BatchBuilder(const Id& session_id, uint64_t sequence, uint64_t agent_time_ms)
    : session_id_(session_id), sequence_(sequence), agent_time_ms_(agent_time_ms) {}

void BatchBuilder::add_zeros(uint64_t block_index, uint32_t block_count) {
  if (!entries_.empty()) {
    BatchEntry& last = entries_.back();
    if (last.kind == EntryKind::zero && last.block_index + last.block_count == block_index &&
        last.block_count <= UINT32_MAX - block_count) {
      last.block_count += block_count;
      return;
    }
  }
  entries_.push_back({block_index, block_count, EntryKind::zero, kNullDigest, 0});
}

void BatchBuilder::add_held(uint64_t block_index, const Digest& digest) {
  entries_.push_back({block_index, 1, EntryKind::held, digest, 0});
}

void BatchBuilder::add_payload(uint64_t block_index, const Digest& digest, uint32_t record_ordinal) {
  entries_.push_back({block_index, 1, EntryKind::payload, digest, record_ordinal});
}

void BatchBuilder::add_patch(uint64_t block_index, const Digest& digest, Bytes patch) {
  entries_.push_back({block_index, 1, EntryKind::patch, digest, 0});
  patches_.push_back(patch);
}

uint32_t BatchBuilder::add_record(Bytes record) {
  records_.push_back(record);
  return static_cast<uint32_t>(records_.size() - 1);
}

ByteVector BatchBuilder::finish() const {
  if (entries_.size() > kBatchEntriesMax) refuse("bad-length", "too many entries");
  size_t record_bytes = 0;
  for (const Bytes record : records_) record_bytes += record.size();
  size_t patch_bytes = 0;
  for (const Bytes patch : patches_) patch_bytes += patch.size();
  const size_t records_offset = kBatchHeaderBytes + entries_.size() * kBatchEntryBytes;
  ByteVector body(records_offset + record_bytes + patch_bytes + kBatchTrailerBytes);
  uint8_t* at = body.data();
  std::memset(at, 0, records_offset);
  std::memcpy(at, kMagic, sizeof kMagic);
  std::memcpy(at + 8, session_id_.data(), session_id_.size());
  store_le<uint64_t>(at + 24, sequence_);
  store_le<uint32_t>(at + 32, static_cast<uint32_t>(entries_.size()));
  store_le<uint32_t>(at + 36, static_cast<uint32_t>(records_.size()));
  store_le<uint64_t>(at + 40, record_bytes);
  store_le<uint64_t>(at + 48, agent_time_ms_);
  at += kBatchHeaderBytes;
  for (const BatchEntry& entry : entries_) {
    store_entry(at, entry);
    at += kBatchEntryBytes;
  }
  for (const std::vector<Bytes>* parts : {&records_, &patches_}) {
    for (const Bytes part : *parts) {
      std::memcpy(at, part.data(), part.size());
      at += part.size();
    }
  }
  const Digest sum = checksum(Bytes(body.data(), body.size() - kBatchTrailerBytes));
  std::memcpy(at, sum.data(), kDigestBytes);
  return body;
}

ByteVector encode_batch(BatchBuilder builder, std::span<const BatchSource> blocks,
                        std::span<const RecordSource> records) {
  for (const RecordSource& source : records) {
    const RecordView record = parse_record(source.bytes);
    if (record.kind != RecordKind::block) refuse("bad-kind", "a record that is no block");
    if (record.digest != source.digest) refuse("bad-digest", "another record than was asked for");
    check_checksum(record);
    builder.add_record(record.bytes);
  }
  uint64_t free_from = 0;
  for (const BatchSource& block : blocks) {
    if (block.block_index < free_from) refuse("bad-order", "block indexes must ascend");
    if (block.record_ordinal >= records.size()) refuse("bad-index", "no such record");
    builder.add_payload(block.block_index, records[block.record_ordinal].digest, block.record_ordinal);
    free_from = block.block_index + 1;
  }
  return builder.finish();
}

BatchView parse_batch(Bytes body, const BatchBounds& bounds) {
  if (bounds.expected != nullptr && bounds.expected->geometry() != bounds.geometry) {
    refuse("geometry-mismatch", "the expected tree is of another geometry");
  }
  check_magic(body);
  const size_t entry_count = checked_entry_count(body);
  const size_t record_count = load_le<uint32_t>(body.data() + 36);
  const uint64_t record_bytes = load_le<uint64_t>(body.data() + 40);
  if (record_count > entry_count) refuse("bad-length", "more records than entries");
  const uint64_t other_bytes = kBatchHeaderBytes + entry_count * kBatchEntryBytes + kBatchTrailerBytes;
  if (body.size() < other_bytes || record_bytes > body.size() - other_bytes)
    refuse("truncated", "not all there");
  const size_t patch_bytes = body.size() - other_bytes - record_bytes;
  if (patch_bytes > 0 && !bounds.may_patch) refuse("bad-length", "longer than its header says");
  const Digest sum = checksum(body.first(body.size() - kBatchTrailerBytes));
  if (std::memcmp(sum.data(), body.data() + body.size() - kBatchTrailerBytes, kDigestBytes) != 0) {
    refuse("bad-checksum", "its checksum is wrong");
  }
  if (std::memcmp(body.data() + 8, bounds.session_id.data(), bounds.session_id.size()) != 0) {
    refuse("bad-session", "of another session");
  }
  if (load_le<uint64_t>(body.data() + 24) != bounds.sequence) {
    refuse("bad-order", "number " + std::to_string(load_le<uint64_t>(body.data() + 24)) + " where " +
                            std::to_string(bounds.sequence) + " was expected");
  }
  if (load_le<uint64_t>(body.data() + 56) != 0) refuse("bad-version", "reserved bytes are set");

  BatchView batch;
  batch.records_offset = kBatchHeaderBytes + entry_count * kBatchEntryBytes;
  batch.records_length = record_bytes;
  batch.records.reserve(record_count);
  Bytes rest = body.subspan(batch.records_offset, record_bytes);
  for (size_t i = 0; i < record_count; ++i) {
    batch.records.push_back(parse_record(rest));
    if (batch.records.back().kind != RecordKind::block) refuse("bad-kind", "holds a record that is no block");
    rest = rest.subspan(batch.records.back().bytes.size());
  }
  if (!rest.empty()) refuse("bad-length", "has bytes after its last record");

  batch.entries = parse_entries(body, bounds.geometry.block_count(), bounds.may_patch);
  Bytes patches = body.subspan(batch.records_offset + record_bytes, patch_bytes);
  uint64_t patched_bytes = 0;
  std::vector<bool> named(record_count);
  size_t named_count = 0;
  for (size_t i = 0; i < entry_count; ++i) {
    const BatchEntry& entry = batch.entries[i];
    if (entry.kind == EntryKind::payload) {
      if (entry.record_ordinal >= record_count)
        refuse_entry("bad-index", i, "names a record that is not there");
      const RecordView& record = batch.records[entry.record_ordinal];
      if (record.digest != entry.digest) refuse_entry("bad-digest", i, "has another digest than its record");
      if (record.raw_length != bounds.geometry.block_length(entry.block_index)) {
        refuse_entry("bad-length", i, "names a record that is not of its block's length");
      }
      if (!named[entry.record_ordinal]) ++named_count;
      named[entry.record_ordinal] = true;
    }
    if (entry.kind == EntryKind::patch) {
      const uint64_t block_length = bounds.geometry.block_length(entry.block_index);
      patched_bytes += block_length;
      batch.patches.push_back(parse_patch(patches, block_length));
      patches = patches.subspan(batch.patches.back().bytes.size());
    }
    if (bounds.expected != nullptr && !is_expected(*bounds.expected, entry)) {
      refuse_entry("bad-digest", i,
                   "is not what the tree says of block " + std::to_string(entry.block_index));
    }
  }
  if (named_count != record_count) refuse("bad-index", "holds a record that no entry names");
  if (!patches.empty()) refuse("bad-length", "has bytes after its last patch");
  if (patched_bytes > kPatchedBytesMax) refuse("bad-length", "its patches make too much");
  return batch;
}

void put_batch_entries(LeafOverlay& overlay, Bytes head) {
  check_magic(head);
  const std::vector<BatchEntry> entries = parse_entries(head, overlay.block_count());
  std::vector<Digest> run;  // of neighbours, put at once
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].kind == EntryKind::zero) {
      overlay.put_zeros(entries[i].block_index, entries[i].block_count);
      continue;
    }
    run.push_back(entries[i].digest);
    const uint64_t next = entries[i].block_index + 1;
    if (i + 1 < entries.size() && entries[i + 1].kind != EntryKind::zero &&
        entries[i + 1].block_index == next)
      continue;
    overlay.put(next - run.size(), run.data(), run.size());
    run.clear();
  }
}

std::vector<uint64_t> patched_blocks(Bytes head, uint64_t block_count) {
  std::vector<uint64_t> indexes;
  try {
    check_magic(head);
    for (const BatchEntry& entry : parse_entries(head, block_count, true)) {
      if (entry.kind == EntryKind::patch) indexes.push_back(entry.block_index);
    }
  } catch (const NativeError&) {
    indexes.clear();
  }
  return indexes;
}

BatchView decode_batch(Bytes body, const BatchBounds& bounds, ThreadPool& pool) {
  BatchView batch = parse_batch(body, bounds);
  pool.parallel_for(batch.records.size(), [&](size_t i) {
    thread_local std::vector<uint8_t> scratch;
    const RecordView& record = batch.records[i];
    if (record.codec == Codec::zstd && scratch.size() < record.raw_length) scratch.resize(record.raw_length);
    decode_record(record, bounds.digester, scratch.data());
  });
  return batch;
}

std::vector<ByteVector> decode_blocks(Bytes body, const BatchBounds& bounds, ThreadPool& pool) {
  const BatchView batch = parse_batch(body, bounds);
  uint64_t raw_bytes = 0;
  for (const BatchEntry& entry : batch.entries) {
    if (entry.kind != EntryKind::payload) refuse("bad-kind", "a restore's holds payload only");
    raw_bytes += bounds.geometry.block_length(entry.block_index);
  }
  if (raw_bytes > kDecodedBytesMax) refuse("bad-length", "its blocks are too many for memory");
  std::vector<ByteVector> blocks(batch.entries.size());
  pool.parallel_for(blocks.size(), [&](size_t i) {
    const RecordView& record = batch.records[batch.entries[i].record_ordinal];
    blocks[i].resize(record.raw_length);
    const Bytes raw = decode_content(record, bounds.digester, blocks[i].data());
    if (raw.data() != blocks[i].data()) std::memcpy(blocks[i].data(), raw.data(), raw.size());
  });
  return blocks;
}

}  // namespace stillpoint
