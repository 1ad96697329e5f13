#include "core/scan/chunk.h"

#include <cstring>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/base/thread_pool.h"
#include "core/codec/patch.h"
#include "core/codec/record.h"

namespace stillpoint {
namespace {

struct DigestHash {
  size_t operator()(const Digest& digest) const {
    size_t prefix = 0;  // as good a hash as any
    std::memcpy(&prefix, digest.data(), sizeof prefix);
    return prefix;
  }
};

bool has_bit(const std::vector<uint8_t>& bits, size_t i) {
  return !bits.empty() && (bits[i / 8] >> (i % 8) & 1) != 0;
}

// What goes for all blocks of one digest.
struct Content {
  const ScanEntry* entry;
  Bytes base_digests;  // empty: no patch
  ByteVector encoded;
  bool is_patch;
  uint32_t record_ordinal;
};

[[noreturn]] void refuse_pieces() {
  throw NativeError("argument",
                    "pieces: expected for each entry a count, 0 or that of its block, and digests");
}

// For each payload entry the digests of the base's pieces, if there are any; nothing at all if none were
// asked for.
std::vector<Bytes> parse_pieces(Bytes pieces, const std::vector<ScanEntry>& entries) {
  std::vector<Bytes> digests;
  if (pieces.empty()) return digests;
  for (const ScanEntry& entry : entries) {
    if (is_null(entry.digest)) continue;
    if (pieces.size() < 2) refuse_pieces();
    const size_t count = load_le<uint16_t>(pieces.data());
    const size_t length = count * kPieceDigestBytes;
    if ((count != 0 && count != piece_count(entry.bytes.size())) || pieces.size() - 2 < length)
      refuse_pieces();
    digests.push_back(pieces.subspan(2, length));
    pieces = pieces.subspan(2 + length);
  }
  if (!pieces.empty()) refuse_pieces();
  return digests;
}

// Whole blocks of a power of two: a chunk is never larger than the largest that may be asked for.

void encode_contents(std::vector<Content>& contents, const EncodeOptions& options) {
  const PieceHasher hasher(options.session_id);
  ThreadPool::shared().parallel_for(contents.size(), [&](size_t i) {
    Content& content = contents[i];
    const ScanEntry& entry = *content.entry;
    if (!content.base_digests.empty()) {
      content.encoded = encode_patch(entry.bytes, changed_pieces(hasher, entry.bytes, content.base_digests),
                                     options.compression_level);
      content.is_patch = !content.encoded.empty();
    }
    if (!content.is_patch) {
      content.encoded =
          encode_record(RecordKind::block, entry.digest, entry.bytes, options.compression_level);
    }
  });
}

}  // namespace

HeldBytes::HeldBytes(std::shared_ptr<ScanBudget> budget, AlignedBuffer buffer, size_t reserved_bytes)
    : budget_(std::move(budget)), buffer_(std::move(buffer)), reserved_bytes_(reserved_bytes) {}

HeldBytes::~HeldBytes() {
  {
    std::lock_guard lock(budget_->mutex);
    budget_->used_bytes -= reserved_bytes_;
  }
  budget_->changed.notify_all();
}

void ScanChunk::check_held(const std::vector<uint8_t>& held) const {
  if (held.empty() || held.size() >= (payload_count_ + 7) / 8) return;
  throw NativeError("argument",
                    "held: expected a bit for each of " + std::to_string(payload_count_) + " entries");
}

ByteVector ScanChunk::encode(const EncodeOptions& options) {
  check_held(options.held);
  const std::vector<Bytes> pieces = parse_pieces(options.pieces, entries_);
  if (taken_.exchange(true)) throw NativeError("closed", "the chunk was already encoded or released");

  std::unordered_map<Digest, size_t, DigestHash> positions;
  std::vector<Content> contents;
  std::vector<bool> is_held(entries_.size());
  size_t payload = 0;
  for (size_t i = 0; i < entries_.size(); i++) {
    const ScanEntry& entry = entries_[i];
    if (is_null(entry.digest)) continue;
    is_held[i] = has_bit(options.held, payload);
    const Bytes base_digests = pieces.empty() ? Bytes() : pieces[payload];
    payload++;
    if (is_held[i]) continue;
    const auto [at, is_new] = positions.emplace(entry.digest, contents.size());
    if (is_new) {
      contents.push_back({&entry, base_digests, {}, false, 0});
    } else {
      contents[at->second].base_digests = {};  // one record for all costs less than a patch for each
    }
  }
  encode_contents(contents, options);

  BatchBuilder builder(options.session_id, options.sequence, options.agent_time_ms);
  for (Content& content : contents) {
    if (!content.is_patch) content.record_ordinal = builder.add_record(content.encoded);
  }
  for (size_t i = 0; i < entries_.size(); i++) {
    const ScanEntry& entry = entries_[i];
    if (is_null(entry.digest)) {
      builder.add_zeros(entry.block_index, entry.block_count);
      continue;
    }
    if (is_held[i]) {
      builder.add_held(entry.block_index, entry.digest);
      continue;
    }
    const Content& content = contents[positions.at(entry.digest)];
    if (content.is_patch) {
      patch_statistics_.patched_blocks++;
      patch_statistics_.unsent_bytes +=
          entry.bytes.size() - parse_patch(content.encoded, entry.bytes.size()).raw_length;
      builder.add_patch(entry.block_index, entry.digest, content.encoded);
    } else {
      builder.add_payload(entry.block_index, entry.digest, content.record_ordinal);
    }
  }
  ByteVector body = builder.finish();
  free();
  return body;
}

void ScanChunk::release() {
  if (!taken_.exchange(true)) free();
}

ScanChunk::Parts ScanChunk::split(uint64_t raw_bytes, const std::vector<uint8_t>& held) {
  check_held(held);
  if (taken_.exchange(true)) throw NativeError("closed", "the chunk was already encoded or released");

  Parts parts{std::make_shared<ScanChunk>(), nullptr};
  uint64_t sent_bytes = 0;
  size_t payload = 0;
  for (const ScanEntry& entry : entries_) {
    const bool is_sent = !is_null(entry.digest) && !has_bit(held, payload);
    if (!is_null(entry.digest)) payload++;
    // Zeros and what is held weigh nothing, but after the cut they too belong to the rest: the order is the
    // device's.
    if (!parts.rest && is_sent && sent_bytes > 0 && sent_bytes + entry.bytes.size() > raw_bytes) {
      parts.rest = std::make_shared<ScanChunk>();
    }
    if (is_sent) sent_bytes += entry.bytes.size();
    (parts.rest ? parts.rest : parts.first)->add(entry);
  }
  parts.first->held_ = held_;
  if (parts.rest) parts.rest->held_ = held_;
  free();
  return parts;
}

void ScanChunk::add(const ScanEntry& entry) {
  entries_.push_back(entry);
  if (is_null(entry.digest)) {
    zero_blocks_ += entry.block_count;
  } else {
    payload_count_++;
    raw_bytes_ += entry.bytes.size();
  }
}

void ScanChunk::free() {
  for (ScanEntry& entry : entries_) entry.bytes = {};
  for (BadBlock& bad : bad_blocks_) bad.bytes = {};
  held_.clear();
}

// Entries and bad blocks are each ascending; they are merged, for a chunk may end between any two blocks.
void ChunkAssembler::append(ScannedSegment segment, Ready& ready) {
  auto entry = segment.entries.begin();
  for (BadBlock& bad : segment.bad_blocks) {
    for (; entry != segment.entries.end() && entry->block_index < bad.block_index; entry++) {
      append_entry(*entry, segment.held, ready);
    }
    begin_item(ready);
    hold(segment.held);
    open_->bad_bytes_ += bad.bytes.size();
    open_->bad_blocks_.push_back(std::move(bad));
  }
  for (; entry != segment.entries.end(); entry++) append_entry(*entry, segment.held, ready);
}

void ChunkAssembler::append_entry(const ScanEntry& entry, const std::shared_ptr<HeldBytes>& held,
                                  Ready& ready) {
  begin_item(ready);
  if (is_null(entry.digest)) {
    if (open_->zero_blocks_ + entry.block_count > kBatchZeroBlocksMax) close_chunk(ready);
    open_->zero_blocks_ += entry.block_count;
    ScanEntry* const last = open_->entries_.empty() ? nullptr : &open_->entries_.back();
    if (last != nullptr && is_null(last->digest) &&
        last->block_index + last->block_count == entry.block_index) {
      last->block_count += entry.block_count;
      return;
    }
  } else {
    hold(held);
    open_->payload_count_++;
    open_->raw_bytes_ += entry.bytes.size();
  }
  open_->entries_.push_back(entry);
}

void ChunkAssembler::begin_item(Ready& ready) {
  const bool full =
      open_->raw_bytes_ + open_->bad_bytes_ >= chunk_bytes_ || open_->entries_.size() >= kBatchEntriesMax;
  if (full) close_chunk(ready);
}

void ChunkAssembler::hold(const std::shared_ptr<HeldBytes>& held) {
  if (open_->held_.empty() || open_->held_.back() != held) open_->held_.push_back(held);
}

void ChunkAssembler::close_chunk(Ready& ready) {
  if (open_->entries_.empty() && open_->bad_blocks_.empty()) return;
  ready.push_back(std::move(open_));
  open_ = std::make_shared<ScanChunk>();
}

}  // namespace stillpoint
