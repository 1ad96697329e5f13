#include "core/journal/replay/apply.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/base/error.h"
#include "core/journal/replay/last_writes.h"
#include "core/journal/run.h"

namespace stillpoint {
namespace {

using Piece = LastWrites::Piece;

// What one thread writes at a time: a part of the device that begins at a multiple of this. A page is in one
// of them only. Where a write begins or ends inside of a page, the device reads the rest of the page and
// writes it back; a thread that writes to that rest at the same time, past the page cache, would be undone.
constexpr uint64_t kPartBytes = 1 << 20;

void check_except(std::span<const BlockRange> except) {
  uint64_t free_from = 0;
  for (const BlockRange& range : except) {
    if (range.begin < free_from || range.end < range.begin)
      throw NativeError("argument", "the ranges that are left alone ascend, and are apart");
    free_from = range.end;
  }
}

// Those of data, cut where parts begin.
std::vector<Piece> cut_to_parts(const std::vector<Piece>& pieces) {
  std::vector<Piece> cut;
  for (const Piece& piece : pieces) {
    if (piece.bytes == nullptr) continue;
    for (uint64_t at = piece.begin; at < piece.end;) {
      const uint64_t end = std::min(piece.end, (at / kPartBytes + 1) * kPartBytes);
      cut.push_back({at, end, piece.bytes_from(at)});
      at = end;
    }
  }
  return cut;
}

// Pieces of one part: those that touch are written together, from memory that is aligned as the device is.
void write_part(BlockSource& device, std::span<const Piece> pieces) {
  thread_local AlignedBuffer buffer(kPartBytes);
  const uint64_t part = pieces.front().begin / kPartBytes * kPartBytes;
  for (size_t i = 0; i < pieces.size();) {
    const uint64_t begin = pieces[i].begin;
    uint64_t end = begin;
    for (; i < pieces.size() && pieces[i].begin == end; i++) {
      std::memcpy(buffer.data() + (end - part), pieces[i].bytes, pieces[i].end - end);
      end = pieces[i].end;
    }
    device.write(begin, Bytes(buffer.data() + (begin - part), end - begin));
  }
}

void write_data(BlockSource& device, const std::vector<Piece>& pieces, ThreadPool& pool) {
  std::vector<size_t> parts;  // the first piece of each
  for (size_t i = 0; i < pieces.size(); i++) {
    if (i == 0 || pieces[i].begin / kPartBytes != pieces[i - 1].begin / kPartBytes) parts.push_back(i);
  }
  const auto write = [&](size_t i) {
    const size_t end = i + 1 < parts.size() ? parts[i + 1] : pieces.size();
    write_part(device, std::span(pieces).subspan(parts[i], end - parts[i]));
  };
  // The page cache takes one write to a file at a time anyway.
  if (device.direct()) return pool.parallel_for(parts.size(), write);
  for (size_t i = 0; i < parts.size(); i++) write(i);
}

}  // namespace

uint64_t apply_records(BlockSource& device, Bytes records, std::span<const BlockRange> except,
                       ThreadPool& pool) {
  check_except(except);
  LastWrites writes;
  prove_all(records, std::nullopt, pool, [&](std::span<const JournalRecordView> views) {
    writes.add(views, device.size_bytes(), records.data());
  });
  const std::vector<Piece> pieces = writes.pieces(except);
  uint64_t written = 0;
  for (const Piece& piece : pieces) {
    written += piece.end - piece.begin;
    if (piece.bytes == nullptr) device.zero(piece.begin, piece.end - piece.begin);
  }
  write_data(device, cut_to_parts(pieces), pool);
  return written;
}

}  // namespace stillpoint
