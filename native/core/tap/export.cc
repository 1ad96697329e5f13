#include "core/tap/export.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "core/base/error.h"

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

TapExport::TapExport(std::shared_ptr<NbdExport> device, const TreeGeometry& geometry,
                     std::unique_ptr<ChangeMap> map)
    : device_(std::move(device)),
      geometry_(geometry),
      map_(std::move(map)),
      properties_(device_->properties()),
      least_bytes_(properties_.size_bytes) {}

TapExport::~TapExport() = default;

// ---- control ----

// Before the start somebody else may have written.
TapExport::Clock::time_point TapExport::last_write_or_start() const {
  return std::max(started_, Clock::time_point{Clock::duration(last_write_end_.load())});
}

namespace {

std::string cut_to(uint64_t now, uint64_t before) {
  return "it shrank from " + std::to_string(before) + " to " + std::to_string(now) + " bytes under its tap";
}

}  // namespace

// Under control_. Before what was seen is forgotten: a commit, a hold that relies on the map, the end.
SourceState TapExport::account_for_source() {
  const SourceState source = device_->source_state();
  std::string reason;
  if (source.least_bytes < std::exchange(least_bytes_, source.least_bytes)) {
    reason = cut_to(source.least_bytes, properties_.size_bytes);
  } else if (source.foreign_writers != foreign_writers_) {
    reason = "another process had it open for writing, past its tap";
  }
  foreign_writers_ = source.foreign_writers;
  if (reason.empty()) return source;
  if (const auto snapshot = current_snapshot()) snapshot->invalidate(reason);
  past_the_map_ = reason;
  map_->make_void(reason);
  return source;
}

SourceState TapExport::check_source() {
  const std::unique_lock control(control_, std::try_to_lock);
  // A hold that is being made looks itself: what is seen while the gate is closed must meet the snapshot.
  return control && !gate_.is_closed() ? account_for_source() : device_->source_state();
}

void TapExport::prepare(HoldOptions options) {
  std::lock_guard control(control_);
  if (prepared_ || current_snapshot()) throw NativeError("EBUSY", "another session holds a snapshot");
  if (const SourceState source = account_for_source(); source.size_bytes < properties_.size_bytes)
    throw NativeError("ETRUNCATED", cut_to(source.size_bytes, properties_.size_bytes));
  for (const uint64_t block : options.snapshot.sample) {
    if (block >= geometry_.block_count())
      throw NativeError("argument", "the sample has a block behind the end");
  }
  const bool base_known = options.base_point && map_->knows(*options.base_point);
  map_->begin(options.snapshot.session_id);
  auto area = std::make_unique<PreserveArea>(std::move(options.preserve_file), options.preserve_bytes_max);
  prepared_ = {std::make_shared<Snapshot>(geometry_, device_, map_->backup(), map_->next_cut(),
                                          std::move(area), options.snapshot),
               options.base_point, base_known, options.snapshot.full};
}

std::chrono::nanoseconds TapExport::close_gate(const GateLimits& limits) {
  std::lock_guard control(control_);
  if (!prepared_) throw NativeError("argument", "no instant is prepared");
  if (const SourceState source = account_for_source(); source.size_bytes < properties_.size_bytes) {
    // It may be closed since the last time.
    gate_.open();
    throw NativeError("ETRUNCATED", cut_to(source.size_bytes, properties_.size_bytes));
  }
  longest_stall_ = 0;
  past_the_map_.clear();
  gate_closing_ = Clock::now();
  if (!gate_.close(limits.barrier, gate_closing_ + limits.closed))
    throw NativeError("barrier-timeout", "writes in flight did not end in time");
  return Clock::now() - last_write_or_start();
}

void TapExport::open_gate() {
  std::lock_guard control(control_);
  gate_.open();
}

std::string TapExport::why_read(const Prepared& prepared, bool map_used) const {
  if (prepared.everything) return "everything was asked for";
  if (!prepared.base_point) return "the device has no point yet";
  if (!map_used && !map_->points().empty()) return "the map does not reach back to the last point";
  return map_->reason();
}

TapExport::Hold TapExport::cut() {
  std::lock_guard control(control_);
  if (!prepared_) throw NativeError("argument", "no instant is prepared");
  // Decided now: the map may have become void since it was prepared.
  const bool map_used =
      !prepared_->everything && prepared_->base_known && map_->knows(*prepared_->base_point);
  const std::string reason = why_read(*prepared_, map_used);
  const auto snapshot = prepared_->snapshot;
  if (!map_used) snapshot->need_everything();
  std::chrono::system_clock::time_point instant;
  const bool in_time = gate_.run_closed([&] {
    instant = std::chrono::system_clock::now();
    map_->cut();
    std::lock_guard lock(snapshot_mutex_);
    snapshot_ = snapshot;
    holding_ = true;
  });
  if (!in_time) throw NativeError("gate-open", "it had to let writes go on before the instant");
  const auto closed = Clock::now() - gate_closing_;
  prepared_.reset();
  map_->merge();
  return {snapshot, instant, map_used, reason, map_used ? map_->backup().count() : geometry_.block_count(),
          closed};
}

void TapExport::release_snapshot() {
  std::shared_ptr<Snapshot> snapshot;
  {
    std::lock_guard lock(snapshot_mutex_);
    snapshot = std::exchange(snapshot_, nullptr);
    holding_ = false;
  }
  if (snapshot) snapshot->end();
}

void TapExport::commit() {
  std::lock_guard control(control_);
  const auto snapshot = current_snapshot();
  if (!snapshot) throw NativeError("argument", "nothing is held that could be committed");
  const Id session = snapshot->status().session_id;
  release_snapshot();
  flush_before_unmarking();
  map_->commit(session);
  account_for_source();
  // What others did after the instant is in no map.
  if (!past_the_map_.empty()) map_->make_void(past_the_map_);
}

void TapExport::adopt(const Id& point, bool complete) {
  std::lock_guard control(control_);
  const auto snapshot = current_snapshot();
  account_for_source();
  if (!snapshot || snapshot->status().state != Snapshot::State::held)
    throw NativeError("argument", "no snapshot is held that was compared");
  if (!complete && !map_->knows(point)) throw NativeError("argument", "the map does not know the point");
  release_snapshot();
  flush_before_unmarking();
  map_->adopt(point, complete);
}

// What was read may be in the page cache only: a power cut would take it back, and no mark would tell.
void TapExport::flush_before_unmarking() {
  if (properties_.read_only) return;
  if (const int error = device_->flush(); error != 0) {
    map_->make_void("what was written may be lost: " + describe_errno(error));
    throw_errno(error, "flushing the device");
  }
}

void TapExport::abort() {
  std::lock_guard control(control_);
  gate_.open();
  prepared_.reset();
  release_snapshot();
}

void TapExport::make_void(const std::string& reason) {
  std::lock_guard control(control_);
  map_->make_void(reason);
}

int TapExport::close_clean(const std::string& continuity) {
  std::lock_guard control(control_);
  account_for_source();
  prepared_.reset();
  release_snapshot();
  return map_->close_clean(continuity);
}

TapExport::Status TapExport::status() const {
  const auto snapshot = current_snapshot();
  std::optional<std::chrono::nanoseconds> quiet;
  if (const int64_t last = last_write_end_; last != 0)
    quiet = Clock::now() - Clock::time_point{Clock::duration(last)};
  return {map_->points(),
          map_->reason(),
          map_->backup().count(),
          map_->written_blocks(),
          map_->persistent(),
          snapshot ? std::optional(snapshot->status()) : std::nullopt,
          std::chrono::nanoseconds(longest_stall_),
          quiet};
}

std::shared_ptr<Snapshot> TapExport::current_snapshot() const {
  if (!holding_) return nullptr;
  std::lock_guard lock(snapshot_mutex_);
  return snapshot_;
}

// ---- users' I/O ----

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

template <class Change>
int TapExport::modify(uint64_t byte_offset, uint64_t byte_length, bool preserve, Change change) noexcept {
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
    const int error = change(snapshot.get());
    note_write_end();
    gate_.leave();
    return error;
  }
}

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
    if (may_write) result = device_->write(byte_offset, bytes, fua, Patience::immediate);
    if (result != kWouldWait) note_write_end();
  }
  gate_.leave();
  return result;
}

int TapExport::write(uint64_t byte_offset, Bytes bytes, bool fua, Patience patience) noexcept {
  if (patience == Patience::immediate) return write_at_once(byte_offset, bytes, fua);
  return modify(byte_offset, bytes.size(), true,
                [&](const Snapshot*) { return device_->write(byte_offset, bytes, fua, Patience::may_wait); });
}

int TapExport::flush() noexcept { return device_->flush(); }

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
  return in_pieces(byte_offset, byte_length, [&](uint64_t from, uint64_t length) {
    return modify(from, length, false,
                  [&](const Snapshot* snapshot) { return trim_piece(from, length, fua, snapshot); });
  });
}

int TapExport::zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
                    bool fua) noexcept {
  ZeroOptions now = options;
  return in_pieces(byte_offset, byte_length, [&](uint64_t from, uint64_t length) {
    const int error =
        modify(from, length, true, [&](const Snapshot*) { return device_->zero(from, length, now, fua); });
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
