#include "core/journal/replay/last_writes.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"

namespace stillpoint {

void LastWrites::add(std::span<const JournalRecordView> records, uint64_t size_bytes, const uint8_t* start) {
  for (const JournalRecordView& view : records) {
    const JournalRecord& record = view.record;
    if (record.byte_length == 0) continue;
    // Their sum can't overflow: it was checked with the header.
    const uint64_t end = record.byte_offset + record.byte_length;
    if (end > size_bytes) {
      const int64_t at = view.bytes.data() - start;
      throw NativeError("bad-index",
                        "journal record: it ends at byte " + std::to_string(end) + " of a device of " +
                            std::to_string(size_bytes) + " bytes",
                        "", at);
    }
    put(record.byte_offset, end, record.kind == JournalKind::write ? view.payload().data() : nullptr);
  }
}

void LastWrites::put(uint64_t begin, uint64_t end, const uint8_t* bytes) {
  const auto cut = [](const uint8_t* from, uint64_t by) { return from == nullptr ? nullptr : from + by; };
  auto at = pieces_.upper_bound(begin);
  if (at != pieces_.begin()) {
    const auto before = std::prev(at);
    const Rest rest = before->second;
    if (rest.end > begin) {
      if (rest.end > end)
        at = pieces_.emplace_hint(at, end, Rest{rest.end, cut(rest.bytes, end - before->first)});
      before->second.end = begin;  // none of it may be left: then this replaces it below
    }
  }
  while (at != pieces_.end() && at->first < end) {
    const Rest rest = at->second;
    const uint64_t from = at->first;
    at = pieces_.erase(at);
    if (rest.end > end) at = pieces_.emplace_hint(at, end, Rest{rest.end, cut(rest.bytes, end - from)});
  }
  pieces_.insert_or_assign(at, begin, Rest{end, bytes});
}

std::vector<LastWrites::Piece> LastWrites::pieces(std::span<const BlockRange> except) const {
  std::vector<Piece> result;
  auto next = except.begin();
  for (const auto& [begin, rest] : pieces_) {
    Piece piece{begin, rest.end, rest.bytes};
    while (next != except.end() && next->end <= piece.begin) next++;
    for (auto hole = next; hole != except.end() && hole->begin < piece.end; hole++) {
      if (hole->begin > piece.begin) result.push_back({piece.begin, hole->begin, piece.bytes});
      const uint64_t behind = std::min(std::max(hole->end, piece.begin), piece.end);
      piece = {behind, piece.end, piece.bytes_from(behind)};
    }
    if (piece.begin < piece.end) result.push_back(piece);
  }
  return result;
}

}  // namespace stillpoint
