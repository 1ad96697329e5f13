#include "core/tap/export.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {
TapExport::TapExport(std::shared_ptr<NbdExport> device, const TreeGeometry& geometry,
                     std::unique_ptr<ChangeMap> map, std::unique_ptr<TapJournal> journal, bool may_come)
    : device_(std::move(device)),
      geometry_(geometry),
      map_(std::move(map)),
      journal_(std::move(journal)),
      published_journal_(journal_.get()),
      trims_zero_(may_come || journal_ != nullptr),
      properties_(device_->properties()),
      least_bytes_(properties_.size_bytes) {}

TapExport::~TapExport() = default;

// ---- control ----

void TapExport::set_journal(std::unique_ptr<TapJournal> journal) {
  std::lock_guard control(control_);
  journal_ = std::move(journal);
  published_journal_ = journal_.get();
}

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
  lose_track(reason);
  return source;
}

// The device may have what neither map nor journal tell.
void TapExport::lose_track(const std::string& reason) {
  map_->make_void(reason);
  if (journal_) journal_->break_off(reason);
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
  if (journal_) journal_->prepare();
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
  std::optional<Spool::Ticket> record;
  const bool in_time = gate_.run_closed([&] {
    instant = std::chrono::system_clock::now();
    map_->cut();
    // Only drawn: the order counts, and users wait. It is stored afterwards.
    if (journal_) record = journal_->cut();
    std::lock_guard lock(snapshot_mutex_);
    snapshot_ = snapshot;
    holding_ = true;
  });
  if (!in_time) throw NativeError("gate-open", "it had to let writes go on before the instant");
  const auto closed = Clock::now() - gate_closing_;
  prepared_.reset();
  std::optional<JournalPosition> position;
  if (journal_) position = journal_->finish_cut(record, snapshot->status().session_id);
  map_->merge();
  return {snapshot, instant, map_used, reason, map_used ? map_->backup().count() : geometry_.block_count(),
          closed,   position};
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
  if (!past_the_map_.empty()) lose_track(past_the_map_);
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
    lose_track("what was written may be lost: " + describe_errno(error));
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
  lose_track(reason);
}

int TapExport::close_clean(const std::string& continuity) {
  std::lock_guard control(control_);
  account_for_source();
  prepared_.reset();
  release_snapshot();
  Spool* const recording = journal_ ? journal_->recording() : nullptr;
  return map_->close_clean(continuity, recording != nullptr ? recording->journal() : Id{});
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

}  // namespace stillpoint
