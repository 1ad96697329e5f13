#include "core/journal/replay/replay.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/journal/replay/last_writes.h"

namespace stillpoint {
namespace {

// Bytes of the window that a thread digests at a time.
constexpr uint64_t kShareBytes = 1 << 20;

[[noreturn]] void refuse(const char* code, const std::string& message) {
  throw NativeError(code, "journal replay: " + message);
}

uint64_t blocks_per_bit_of(const TreeGeometry& geometry, uint64_t bits_max) {
  if (!geometry.valid()) refuse("argument", "no such geometry");
  uint64_t blocks = 1;
  while (geometry.block_count() / blocks > bits_max) blocks *= 2;
  return blocks;
}

uint64_t divide_up(uint64_t number, uint64_t by) { return number / by + (number % by != 0); }

}  // namespace

JournalReplay::JournalReplay(const TreeGeometry& geometry, uint64_t map_bits_max)
    : geometry_(geometry),
      blocks_per_bit_(blocks_per_bit_of(geometry, map_bits_max)),
      touched_(divide_up(geometry.block_count(), blocks_per_bit_)) {}

std::unique_lock<std::mutex> JournalReplay::lock() const {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) refuse("EBUSY", "one call at a time");
  return lock;
}

// ---- what is touched ----

void JournalReplay::note(Bytes records, ThreadPool& pool) {
  const auto one_call = lock();
  LastWrites writes;
  const auto last = prove_all(records, noted_, pool, [&](std::span<const JournalRecordView> views) {
    writes.add(views, geometry_.size_bytes, records.data());
  });
  const uint64_t bit_bytes = blocks_per_bit_ * geometry_.block_size;
  for (const LastWrites::Piece& piece : writes.pieces())
    touched_.mark(piece.begin / bit_bytes, divide_up(piece.end, bit_bytes));
  noted_ = last;
}

std::vector<BlockRange> JournalReplay::touched(size_t ranges_max) const {
  const auto one_call = lock();
  std::vector<BlockRange> ranges;
  // Ranges of bits, then of blocks. What lies between is taken along where that is little enough.
  for (uint64_t gap_max = 0;; gap_max = gap_max * 2 + 1) {
    ranges.clear();
    for (uint64_t begin = touched_.next_set(0); begin < touched_.block_count();) {
      const uint64_t end = touched_.next_clear(begin);
      if (!ranges.empty() && begin - ranges.back().end <= gap_max) {
        ranges.back().end = end;
      } else {
        ranges.push_back({begin, end});
        if (ranges.size() > ranges_max) break;
      }
      begin = touched_.next_set(end);
    }
    if (ranges.size() <= ranges_max) break;
  }
  for (BlockRange& range : ranges) {
    range = {range.begin * blocks_per_bit_, std::min(range.end * blocks_per_bit_, geometry_.block_count())};
  }
  return ranges;
}

// ---- the window ----

void JournalReplay::open(std::vector<uint64_t> block_indexes) {
  const auto one_call = lock();
  if (block_indexes.size() > kWindowBytesMax / geometry_.block_size)
    refuse("argument", "a window has at most " + std::to_string(kWindowBytesMax) + " bytes");
  uint64_t free_from = 0;
  for (const uint64_t index : block_indexes) {
    if (index < free_from || index >= geometry_.block_count())
      refuse("argument", "the blocks of a window ascend, and are of the device");
    free_from = index + 1;
  }
  window_ = std::move(block_indexes);
  is_cleared_ = false;
  applied_.reset();
  pass_ = Pass::unloaded;
}

std::span<uint8_t> JournalReplay::block(size_t place) const {
  return {bytes_.data() + place * geometry_.block_size, geometry_.block_length(window_[place])};
}

// Of the first block of the window that is not before this one.
size_t JournalReplay::place_of(uint64_t block_index) const {
  return static_cast<size_t>(std::lower_bound(window_.begin(), window_.end(), block_index) - window_.begin());
}

void JournalReplay::clear_window() {
  if (pass_ == Pass::noting) refuse("argument", "no window is open");
  if (is_cleared_) return;
  const size_t size = window_.size() * geometry_.block_size;
  if (bytes_.size() < size) {
    bytes_ = AlignedBuffer();
    bytes_ = AlignedBuffer(size);
  }
  if (size > 0) std::memset(bytes_.data(), 0, size);
  is_cleared_ = true;
}

void JournalReplay::load(std::span<const BatchSource> blocks, std::span<const RecordSource> records,
                         const Digester& digester, ThreadPool& pool) {
  const auto one_call = lock();
  clear_window();
  if (pass_ == Pass::applied) refuse("argument", "blocks are loaded before records are applied");
  // Each is there once: they are decoded into their places at the same time.
  uint64_t free_from = 0;
  for (const BatchSource& source : blocks) {
    if (source.block_index < free_from) refuse("bad-order", "block indexes must ascend");
    if (source.record_ordinal >= records.size()) refuse("bad-index", "no such record");
    const size_t place = place_of(source.block_index);
    if (place == window_.size() || window_[place] != source.block_index)
      refuse("bad-index", "block " + std::to_string(source.block_index) + " is not of the window");
    free_from = source.block_index + 1;
  }
  pool.parallel_for(blocks.size(),
                    [&](size_t i) { load_block(blocks[i], records[blocks[i].record_ordinal], digester); });
}

void JournalReplay::load_block(const BatchSource& source, const RecordSource& stored,
                               const Digester& digester) {
  const RecordView record = parse_record(stored.bytes);
  const std::span<uint8_t> into = block(place_of(source.block_index));
  const std::string name = "block " + std::to_string(source.block_index);
  if (record.kind != RecordKind::block) refuse("bad-kind", name + " is no block");
  if (record.digest != stored.digest) refuse("bad-digest", name + " is another than was asked for");
  if (record.raw_length != into.size()) refuse("bad-length", name + " has another length");
  const Bytes raw = decode_record(record, digester, into.data());
  if (raw.data() != into.data()) std::memcpy(into.data(), raw.data(), raw.size());
}

void JournalReplay::apply(Bytes records, ThreadPool& pool) {
  const auto one_call = lock();
  clear_window();
  LastWrites writes;
  const auto last = prove_all(records, applied_, pool, [&](std::span<const JournalRecordView> views) {
    writes.add(views, geometry_.size_bytes, records.data());
  });
  for (const LastWrites::Piece& piece : writes.pieces()) {
    for (size_t place = place_of(piece.begin / geometry_.block_size); place < window_.size(); place++) {
      const std::span<uint8_t> into = block(place);
      const uint64_t at = window_[place] * geometry_.block_size;
      if (at >= piece.end) break;
      const uint64_t from = std::max(at, piece.begin);
      const size_t length = std::min(at + into.size(), piece.end) - from;
      if (const uint8_t* const bytes = piece.bytes_from(from)) {
        std::memcpy(into.data() + (from - at), bytes, length);
      } else {
        std::memset(into.data() + (from - at), 0, length);
      }
    }
  }
  applied_ = last;
  pass_ = Pass::applied;
}

std::vector<uint8_t> JournalReplay::digests(const Digester& digester, ThreadPool& pool) {
  const auto one_call = lock();
  clear_window();
  std::vector<uint8_t> digests(window_.size() * kDigestBytes);
  const size_t share = std::max<uint64_t>(1, kShareBytes / geometry_.block_size);
  pool.parallel_for(divide_up(window_.size(), share), [&](size_t i) {
    for (size_t place = i * share; place < std::min(window_.size(), (i + 1) * share); place++) {
      const Digest digest = digester.leaf_digest(block(place));
      std::memcpy(&digests[place * kDigestBytes], digest.data(), kDigestBytes);
    }
  });
  return digests;
}

}  // namespace stillpoint
