// Users' reads and writes: the way of a write, as export.h has it.
#include <algorithm>
#include <cerrno>

#include "core/tap/export.h"

namespace stillpoint {
namespace {

// Long trims and zeroings pass the gate in pieces, so that an instant never waits for a whole one.
constexpr uint64_t kPieceBytes = 16u << 20;

// Calls work(offset, length) for each piece; ends at the first error.
template <class Work>
int in_pieces(uint64_t byte_offset, uint64_t byte_length, Work work) {
  const uint64_t end = byte_offset + byte_length;
  while (byte_offset < end) {
    const uint64_t piece_end = std::min(end, (byte_offset / kPieceBytes + 1) * kPieceBytes);
    if (const int error = work(byte_offset, piece_end - byte_offset); error != 0) return error;
    byte_offset = piece_end;
  }
  return 0;
}

}  // namespace

void TapExport::note_write_end() { last_write_end_ = Clock::now().time_since_epoch().count(); }

void TapExport::note_stall(Clock::duration stall) {
  const int64_t nanoseconds = std::chrono::nanoseconds(stall).count();
  int64_t longest = longest_stall_;
  while (nanoseconds > longest && !longest_stall_.compare_exchange_weak(longest, nanoseconds)) {
  }
}

int TapExport::read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept {
  return device_->read(byte_offset, into, patience);
}

template <class Work>
int TapExport::modify(uint64_t byte_offset, uint64_t byte_length, bool preserve, Work work) noexcept {
  const uint64_t begin = byte_offset / geometry_.block_size;
  const uint64_t end = (byte_offset + byte_length - 1) / geometry_.block_size + 1;
  const auto arrived = Clock::now();
  for (;;) {
    gate_.enter();
    map_->mark(begin, end);
    if (!map_->ready(begin, end)) {
      gate_.leave();
      map_->make_ready(begin, end);
      continue;
    }
    const std::shared_ptr<Snapshot> snapshot = current_snapshot();
    if (preserve && snapshot &&
        snapshot->preserve(byte_offset, byte_length, Patience::may_wait) == Snapshot::Preserved::no_room) {
      gate_.leave();
      snapshot->wait_for_room();
      continue;
    }
    note_stall(Clock::now() - arrived);
    const int error = work(snapshot.get());
    note_write_end();
    gate_.leave();
    return error;
  }
}

// ---- with a journal: docs/journal.md, "The way of a write" ----

// What the device did, into the journal; the range is locked. Drawn only now: what a device declines leaves
// no ordinal behind, and the head waits for no device.
void TapExport::record(Spool& spool, const Change& change, int error) noexcept {
  if (error == kWouldWait || (error == ENOTSUP && change.may_be_declined)) return;
  if (error != 0) {
    // What it has in the range now is unknown.
    spool.break_off("a write to the device failed: " + describe_failure(error));
    return;
  }
  TapJournal::record(spool, change.kind, change.byte_offset, change.byte_length, change.payload);
}

// `work` changes the device, inside the gate.
template <class Work>
int TapExport::change_device(const Change& change, Work work) noexcept {
  TapJournal* const journal = published_journal_;
  Spool* const spool = journal != nullptr ? journal->recording() : nullptr;
  if (spool == nullptr) return work();
  RangeLocks::Range range(journal->ranges(), change.byte_offset, change.byte_length);
  range.lock();
  const int error = work();
  record(*spool, change, error);
  return error;
}

// The same, if nothing has to be waited for.
template <class Work>
int TapExport::change_device_at_once(const Change& change, Work work) noexcept {
  TapJournal* const journal = published_journal_;
  Spool* const spool = journal != nullptr ? journal->recording() : nullptr;
  if (spool == nullptr) return work();
  if (spool->is_crowded()) return kWouldWait;
  RangeLocks::Range range(journal->ranges(), change.byte_offset, change.byte_length);
  if (!range.try_lock()) return kWouldWait;
  const int error = work();
  record(*spool, change, error);
  return error;
}

std::optional<JournalPosition> TapExport::stamp() {
  TapJournal* const journal = published_journal_;
  if (journal == nullptr) return std::nullopt;
  gate_.enter();
  const auto position = journal->stamp();
  gate_.leave();
  return position && journal->settle() ? position : std::nullopt;
}

// ---- writes ----

// On the thread that serves the connection: only where nothing has to be waited for.
int TapExport::write_at_once(uint64_t byte_offset, Bytes bytes, bool fua) noexcept {
  const uint64_t begin = byte_offset / geometry_.block_size;
  const uint64_t end = (byte_offset + bytes.size() - 1) / geometry_.block_size + 1;
  if (!gate_.try_enter()) return kWouldWait;
  int result = kWouldWait;
  map_->mark(begin, end);
  if (map_->ready(begin, end)) {
    const std::shared_ptr<Snapshot> snapshot = current_snapshot();
    bool may_write = true;
    if (snapshot) {
      const auto arrived = Clock::now();
      may_write =
          snapshot->preserve(byte_offset, bytes.size(), Patience::immediate) == Snapshot::Preserved::yes;
      note_stall(Clock::now() - arrived);
    }
    if (may_write) {
      result = change_device_at_once({JournalKind::write, byte_offset, bytes.size(), bytes}, [&] {
        return device_->write(byte_offset, bytes, fua, Patience::immediate);
      });
    }
    if (result != kWouldWait) note_write_end();
  }
  gate_.leave();
  return result;
}

int TapExport::write(uint64_t byte_offset, Bytes bytes, bool fua, Patience patience) noexcept {
  if (patience == Patience::immediate) return write_at_once(byte_offset, bytes, fua);
  return modify(byte_offset, bytes.size(), true, [&](const Snapshot*) {
    return change_device({JournalKind::write, byte_offset, bytes.size(), bytes},
                         [&] { return device_->write(byte_offset, bytes, fua, Patience::may_wait); });
  });
}

int TapExport::flush() noexcept {
  const int error = device_->flush();
  // What was answered before may be lost, and the journal has it.
  if (TapJournal* const journal = published_journal_; error != 0 && journal != nullptr)
    journal->break_off("the device can't be flushed: " + describe_failure(error));
  return error;
}

// A trim is advice: blocks that the snapshot needs are left as they are rather than preserved.
int TapExport::trim_piece(uint64_t byte_offset, uint64_t byte_length, bool fua,
                          const Snapshot* snapshot) noexcept {
  if (snapshot == nullptr) return device_->trim(byte_offset, byte_length, fua);
  const uint64_t end = byte_offset + byte_length;
  const auto block_end = [&](uint64_t at) {
    return std::min(end, (at / geometry_.block_size + 1) * geometry_.block_size);
  };
  const auto may_go = [&](uint64_t at) { return !snapshot->must_preserve(at, block_end(at) - at); };
  for (uint64_t at = byte_offset; at < end;) {
    const uint64_t from = at;
    while (at < end && may_go(at)) at = block_end(at);
    if (at == from) {
      at = block_end(at);
    } else if (const int error = device_->trim(from, at - from, fua); error != 0) {
      return error;
    }
  }
  return 0;
}

int TapExport::trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept {
  if (trims_zero_) {
    // What a device has after a trim can't be replayed. So it zeroes, or lets it be.
    return in_pieces(byte_offset, byte_length, [&](uint64_t from, uint64_t length) {
      const int error = zero_piece(from, length, {true, true}, fua);
      return error == ENOTSUP ? 0 : error;
    });
  }
  return in_pieces(byte_offset, byte_length, [&](uint64_t from, uint64_t length) {
    return modify(from, length, false,
                  [&](const Snapshot* snapshot) { return trim_piece(from, length, fua, snapshot); });
  });
}

int TapExport::zero_piece(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
                          bool fua) noexcept {
  return modify(byte_offset, byte_length, true, [&](const Snapshot*) {
    return change_device({JournalKind::zero, byte_offset, byte_length, {}, options.fast_only},
                         [&] { return device_->zero(byte_offset, byte_length, options, fua); });
  });
}

int TapExport::zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
                    bool fua) noexcept {
  ZeroOptions now = options;
  return in_pieces(byte_offset, byte_length, [&](uint64_t from, uint64_t length) {
    const int error = zero_piece(from, length, now, fua);
    // What was begun is finished, fast or not.
    now.fast_only = false;
    return error;
  });
}

int TapExport::cache(uint64_t byte_offset, uint64_t byte_length) noexcept {
  return device_->cache(byte_offset, byte_length);
}

int TapExport::block_status(size_t context, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                            std::vector<NbdExtent>& extents) noexcept {
  return device_->block_status(context, byte_offset, byte_length, extents_max, extents);
}

}  // namespace stillpoint
