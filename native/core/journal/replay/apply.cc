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

// What one thread writes at a time: a part of the device that begins at a multiple of this, so a sector is in
// one of them only.
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

// A device that is written past the page cache, by several threads: nothing may go through the cache then,
// for a page that is read, changed and written back would undo what another thread has written beside it.
bool is_in_sectors(const BlockSource& device) {
  return device.type() == BlockSource::Type::block && device.direct();
}

// Pieces of one part that touch. `buffer` has the part.
void write_span(BlockSource& device, std::span<const Piece> pieces, uint8_t* buffer) {
  const uint64_t part = pieces.front().begin / kPartBytes * kPartBytes;
  const auto bytes = [&](uint64_t from, uint64_t to) { return std::span(buffer + (from - part), to - from); };
  uint64_t begin = pieces.front().begin, end = pieces.back().end;
  if (is_in_sectors(device)) {
    const uint64_t sector = device.logical_sector_size();
    const uint64_t first = begin / sector * sector, last = end / sector * sector;
    const uint64_t last_end = std::min(last + sector, device.size_bytes());
    if (first < begin) device.read(first, bytes(first, std::min(first + sector, device.size_bytes())));
    if (last < end) {
      device.read(last, bytes(last, last_end));
      end = last_end;
    }
    begin = first;
  }
  for (const Piece& piece : pieces)
    std::memcpy(bytes(piece.begin, piece.end).data(), piece.bytes, piece.end - piece.begin);
  device.write(begin, bytes(begin, end));
}

void write_part(BlockSource& device, std::span<const Piece> pieces) {
  thread_local AlignedBuffer buffer(kPartBytes);
  for (size_t first = 0, i = 1; first < pieces.size(); i++) {
    if (i < pieces.size() && pieces[i].begin == pieces[i - 1].end) continue;
    write_span(device, pieces.subspan(first, i - first), buffer.data());
    first = i;
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
  if (is_in_sectors(device)) return pool.parallel_for(parts.size(), write);
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
