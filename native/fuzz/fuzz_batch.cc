// The batch decoder against bodies from anywhere. The first byte says whether checksums are made to fit, as a
// hostile sender would, and which geometry the body meets.
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/codec/batch.h"
#include "core/codec/patched_batch.h"
#include "fuzz/fuzz.h"
#include "test/helpers/digesters.h"

using namespace stillpoint;
using stillpoint::test::kPlain;
using namespace stillpoint::fuzz;

namespace {

constexpr size_t kBasesMax = 64;
constexpr TreeGeometry kGeometries[] = {{19 * 4096 + 100, 4096}, {uint64_t{16} << 40, 65536}};

void reseal(std::vector<uint8_t>& body) {
  if (body.size() < kBatchHeaderBytes + kBatchTrailerBytes) return;
  const uint64_t records =
      kBatchHeaderBytes + uint64_t{load_le<uint32_t>(body.data() + 32)} * kBatchEntryBytes;
  const uint64_t end = body.size() - kBatchTrailerBytes;
  if (records < end) reseal_records(std::span(body).subspan(records, end - records));
  const Digest sum = checksum(Bytes(body).first(end));
  std::copy(sum.begin(), sum.end(), body.end() - kBatchTrailerBytes);
}

// A batch that was accepted says nothing that its view doesn't.
void check_rebuilt(const BatchView& batch, Bytes body, const BatchBounds& bounds) {
  BatchBuilder builder(bounds.session_id, bounds.sequence, load_le<uint64_t>(body.data() + 48));
  for (const RecordView& record : batch.records) builder.add_record(record.bytes);
  uint64_t free_from = 0;
  size_t next_patch = 0;
  bool zero_before = false;
  for (const BatchEntry& entry : batch.entries) {
    if (entry.block_index < free_from) abort();
    if (entry.kind == EntryKind::zero && zero_before && entry.block_index == free_from)
      return;  // the builder joins them
    free_from = entry.block_index + entry.block_count;
    zero_before = entry.kind == EntryKind::zero;
    if (entry.kind == EntryKind::zero) builder.add_zeros(entry.block_index, entry.block_count);
    if (entry.kind == EntryKind::held) builder.add_held(entry.block_index, entry.digest);
    if (entry.kind == EntryKind::payload)
      builder.add_payload(entry.block_index, entry.digest, entry.record_ordinal);
    if (entry.kind == EntryKind::patch)
      builder.add_patch(entry.block_index, entry.digest, batch.patches[next_patch++].bytes);
  }
  if (next_patch != batch.patches.size()) abort();
  if (free_from > bounds.geometry.block_count()) abort();
  const ByteVector rebuilt = builder.finish();
  if (!std::equal(rebuilt.begin(), rebuilt.end(), body.begin(), body.end())) abort();
}

LeafOverlay& overlay_for(size_t geometry) {
  static std::unique_ptr<LeafOverlay> overlays[std::size(kGeometries)];
  if (!overlays[geometry]) {
    char name[] = "/tmp/stillpoint-fuzz-XXXXXX";
    if (mkdtemp(name) == nullptr) abort();
    overlays[geometry] =
        LeafOverlay::create(std::string(name) + "/overlay", kGeometries[geometry], kNullDigest);
    std::filesystem::remove_all(name);  // the mapping keeps what it needs
  }
  return *overlays[geometry];
}

// A base that has whatever the batch patches: blocks of rows, as make_corpus has them too.
ByteVector base_for(Bytes body, const TreeGeometry& geometry) {
  std::vector<ByteVector> records;
  BatchBuilder builder({}, 0, 0);
  for (const uint64_t index : patched_blocks(body, geometry.block_count())) {
    if (records.size() == kBasesMax) break;
    const auto raw = base_block(geometry.block_length(index));
    records.push_back(encode_record(RecordKind::block, kPlain.leaf_digest(raw), raw, 0));
    builder.add_payload(index, kPlain.leaf_digest(raw), static_cast<uint32_t>(records.size() - 1));
  }
  for (const ByteVector& record : records) builder.add_record(record);
  return builder.finish();
}

// A batch whose patches were put over a base is one that every receiver takes, with the same entries.
void check_resolved(Bytes body, const BatchBounds& bounds) {
  const ByteVector base_body = base_for(body, bounds.geometry);
  const BaseBlocks base{{base_body}, {{}, 0, bounds.geometry, kPlain}};
  const ByteVector whole = resolve_patches(body, bounds, base, ThreadPool::shared());
  BatchBounds may_patch = bounds;
  may_patch.may_patch = true;
  const BatchView before = parse_batch(body, may_patch);
  const BatchView after = parse_batch(whole, bounds);
  if (after.records.size() != before.records.size() + before.patches.size()) abort();
  for (size_t i = before.records.size(); i < after.records.size(); i++) {
    std::vector<uint8_t> scratch(after.records[i].raw_length);
    decode_record(after.records[i], kPlain,
                  scratch.data());  // a block that does not prove itself is a finding
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::vector<uint8_t> body(data + 1, data + size);
  if (data[0] & 1) reseal(body);
  const size_t geometry = data[0] >> 1 & 1;
  BatchBounds bounds{{}, 0, kGeometries[geometry], kPlain};
  if (body.size() >= kBatchHeaderBytes) {
    std::copy_n(body.begin() + 8, bounds.session_id.size(), bounds.session_id.begin());
    bounds.sequence = load_le<uint64_t>(body.data() + 24);
  }
  try {
    check_rebuilt(decode_batch(body, bounds, ThreadPool::shared()), body, bounds);
    put_batch_entries(overlay_for(geometry), body);
  } catch (const NativeError&) {
  }
  try {
    decode_blocks(body, bounds, ThreadPool::shared());
  } catch (const NativeError&) {
  }
  BatchBounds may_patch = bounds;
  may_patch.may_patch = true;
  try {
    check_rebuilt(parse_batch(body, may_patch), body, may_patch);
  } catch (const NativeError&) {
    return 0;
  }
  try {
    check_resolved(body, bounds);
  } catch (const NativeError& error) {
    if (error.code() != "bad-patch") abort();  // all else was seen by parse_batch
  }
  return 0;
}
