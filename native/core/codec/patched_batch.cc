#include "core/codec/patched_batch.h"

#include <cstring>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {
namespace {

// As CPU is dearer to a receiver of many agents than the disk.
constexpr int kStoredLevel = 1;

struct BaseBlock {
  uint64_t block_index;
  RecordView record;
};

std::vector<BaseBlock> parse_base(const BaseBlocks& base) {
  std::vector<BaseBlock> blocks;
  for (const Bytes body : base.bodies) {
    const BatchView batch = parse_batch(body, base.bounds);
    for (const BatchEntry& entry : batch.entries) {
      if (entry.kind != EntryKind::payload)
        throw NativeError("bad-kind", "base: its blocks come as payload only");
      blocks.push_back({entry.block_index, batch.records[entry.record_ordinal]});
    }
  }
  return blocks;
}

[[noreturn]] void refuse(uint64_t block_index, const char* reason) {
  throw NativeError("bad-patch", "patch of block " + std::to_string(block_index) + ": " + reason);
}

// One entry whose block is made here.
struct Patched {
  const BatchEntry* entry;
  const PatchView* patch;
  const RecordView* base;
};

ByteVector make_record(const Patched& item, const Digester& digester) {
  thread_local std::vector<uint8_t> block;
  if (block.size() < item.base->raw_length) block.resize(item.base->raw_length);
  const std::span<uint8_t> content(block.data(), item.base->raw_length);
  const Bytes raw = decode_content(*item.base, digester, content.data());
  if (raw.data() != content.data()) std::memcpy(content.data(), raw.data(), raw.size());
  apply_patch(*item.patch, content);
  if (digester.leaf_digest(content) != item.entry->digest)
    refuse(item.entry->block_index, "it gives another block");
  return encode_record(RecordKind::block, item.entry->digest, content, kStoredLevel);
}

}  // namespace

std::vector<uint8_t> piece_digests(const BaseBlocks& base, const Id& session_id, ThreadPool& pool) {
  const PieceHasher hasher(session_id);
  const std::vector<BaseBlock> blocks = parse_base(base);
  std::vector<size_t> offsets;
  size_t size = 0;
  for (const BaseBlock& block : blocks) {
    offsets.push_back(size);
    size += piece_count(block.record.raw_length) * kPieceDigestBytes;
  }
  std::vector<uint8_t> digests(size);
  pool.parallel_for(blocks.size(), [&](size_t i) {
    thread_local std::vector<uint8_t> scratch;
    const RecordView& record = blocks[i].record;
    if (scratch.size() < record.raw_length) scratch.resize(record.raw_length);
    hasher.digest(decode_content(record, base.bounds.digester, scratch.data()), digests.data() + offsets[i]);
  });
  return digests;
}

ByteVector resolve_patches(Bytes body, BatchBounds bounds, const BaseBlocks& base, ThreadPool& pool) {
  bounds.may_patch = true;
  const BatchView batch = parse_batch(body, bounds);
  const std::vector<BaseBlock> blocks = parse_base(base);
  std::unordered_map<uint64_t, const RecordView*> base_records;
  for (const BaseBlock& block : blocks) base_records.emplace(block.block_index, &block.record);

  std::vector<Patched> patched;
  for (const BatchEntry& entry : batch.entries) {
    if (entry.kind != EntryKind::patch) continue;
    const auto found = base_records.find(entry.block_index);
    if (found == base_records.end()) refuse(entry.block_index, "the base has no such block");
    if (found->second->raw_length != bounds.geometry.block_length(entry.block_index)) {
      refuse(entry.block_index, "the base's block has another length");
    }
    patched.push_back({&entry, &batch.patches[patched.size()], found->second});
  }
  std::vector<ByteVector> records(patched.size());
  pool.parallel_for(patched.size(), [&](size_t i) { records[i] = make_record(patched[i], bounds.digester); });

  BatchBuilder builder(bounds.session_id, bounds.sequence, load_le<uint64_t>(body.data() + 48));
  for (const RecordView& record : batch.records) builder.add_record(record.bytes);
  size_t next = 0;
  for (const BatchEntry& entry : batch.entries) {
    switch (entry.kind) {
      case EntryKind::zero:
        builder.add_zeros(entry.block_index, entry.block_count);
        break;
      case EntryKind::held:
        builder.add_held(entry.block_index, entry.digest);
        break;
      case EntryKind::payload:
        builder.add_payload(entry.block_index, entry.digest, entry.record_ordinal);
        break;
      case EntryKind::patch:
        builder.add_payload(entry.block_index, entry.digest, builder.add_record(records[next++]));
        break;
    }
  }
  return builder.finish();
}

}  // namespace stillpoint
