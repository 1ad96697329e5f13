#include "core/tap/tap.h"

#include <exception>
#include <utility>

#include "core/base/error.h"
#include "core/tap/snapshot/export.h"
#include "core/tap/start.h"

namespace stillpoint {
namespace {

std::string hex(const Id& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : id) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

Tap::Tap(const TapOptions& options) : options_(options) {
  device_ = DeviceExport::open(options.path, options.read_only);
  geometry_ = {device_->size_bytes(), options.block_size};
  if (!geometry_.valid())
    throw NativeError("argument", "the block size or the device's size is out of bounds", options.path);
  std::unique_ptr<TapFile> file;
  if (!options.map_path.empty()) file = TapFile::open_named(options.map_path);
  TapStart start = start_maps(std::move(file), options.identity, geometry_, options.distrust);
  export_ = std::make_shared<TapExport>(device_, geometry_, std::move(start.map), nullptr,
                                        options.journal.has_value());
  if (options.journal) try_journal(start.no_journal, start.journal);
}

void Tap::try_journal(const std::string& distrust, const std::optional<Id>& goes_on) {
  std::string failure;
  try {
    export_->set_journal(open_journal(*options_.journal, distrust, goes_on));
  } catch (const std::exception& error) {
    failure = std::string("the journal can't be opened: ") + error.what();
  }
  std::lock_guard lock(failure_mutex_);
  journal_failure_ = failure;
}

void Tap::check_serving() const {
  if (stopped_) throw NativeError("closed", "the tap has stopped", options_.path);
}

std::string Tap::listen(const std::string& address, const std::string& export_name) {
  std::lock_guard control(control_);
  check_serving();
  if (!users_.has_export(export_name)) users_.add_export(export_name, export_);
  return users_.listen(address);
}

std::string Tap::listen_snapshot(const std::string& address) {
  std::lock_guard control(control_);
  check_serving();
  return session_.listen(address);
}

void Tap::prepare(TapExport::HoldOptions options, const std::string& preserve_directory) {
  std::lock_guard control(control_);
  check_serving();
  options.preserve_file = TapFile::open_unnamed(preserve_directory);
  std::lock_guard releasing(releasing_);
  if (options_.journal && export_->journal() == nullptr) try_journal(TapJournal::kRanWithout, std::nullopt);
  export_->prepare(std::move(options));
}

std::chrono::nanoseconds Tap::close_gate(const TapExport::GateLimits& limits) {
  std::lock_guard control(control_);
  check_serving();
  return export_->close_gate(limits);
}

void Tap::open_gate() {
  std::lock_guard control(control_);
  export_->open_gate();
}

TapExport::Hold Tap::cut() {
  std::lock_guard control(control_);
  check_serving();
  TapExport::Hold hold = export_->cut();
  const std::string name = hex(hold.snapshot->status().session_id);
  try {
    session_.add_export(name, std::make_shared<SnapshotExport>(hold.snapshot));
  } catch (...) {
    export_->abort();
    throw;
  }
  snapshot_name_ = name;
  return hold;
}

void Tap::unexport_snapshot() {
  if (!snapshot_name_.empty()) session_.remove_export(std::exchange(snapshot_name_, {}));
}

void Tap::abort() {
  std::lock_guard control(control_);
  export_->abort();
  unexport_snapshot();
}

void Tap::commit() {
  std::lock_guard control(control_);
  check_serving();
  export_->commit();
  unexport_snapshot();
}

void Tap::mark(const std::vector<BlockRange>& ranges) {
  std::lock_guard control(control_);
  check_serving();
  for (const BlockRange& range : ranges) {
    if (range.begin >= range.end || range.end > geometry_.block_count())
      throw NativeError("argument", "a range lies beyond the device");
    export_->mark(range.begin, range.end);
  }
}

void Tap::adopt(const Id& point, bool complete) {
  std::lock_guard control(control_);
  check_serving();
  export_->adopt(point, complete);
  unexport_snapshot();
}

void Tap::make_void(const std::string& reason) {
  std::lock_guard control(control_);
  check_serving();
  export_->make_void(reason);
}

void Tap::stop() {
  stopped_ = true;
  std::lock_guard control(control_);
  // Writes that wait at the gate, or for room in the preserve area, are let go.
  export_->abort();
  session_.stop();
  snapshot_name_.clear();
  users_.stop();
  if (options_.read_only) return;
  if (const int error = device_->flush(); error != 0) throw_errno(error, "flushing", options_.path);
}

std::string Tap::close(const std::string& continuity) {
  std::lock_guard control(control_);
  if (!stopped_) throw NativeError("argument", "a tap is stopped before it is closed", options_.path);
  std::lock_guard releasing(releasing_);
  const int error = export_->close_clean(continuity);
  if (error != 0) throw_errno(error, "writing the map", options_.map_path);
  if (export_->journal() == nullptr) return {};
  try {
    export_->journal()->close();
    return {};
  } catch (const NativeError& failure) {
    return failure.what();
  }
}

void Tap::break_journal(const Id& journal, const std::string& reason) {
  if (TapJournal* const all = export_->journal()) all->break_off(journal, reason);
}

void Tap::release_journal(const Id& journal, uint64_t ordinal) {
  std::lock_guard releasing(releasing_);
  if (TapJournal* const all = export_->journal()) all->release(journal, ordinal);
}

std::optional<Tap::JournalStatus> Tap::journal_status() const {
  if (!options_.journal) return std::nullopt;
  if (const TapJournal* const journal = export_->journal())
    return JournalStatus{journal->heads(), journal->failure(),
                         std::chrono::nanoseconds(journal->clock().ahead())};
  std::lock_guard lock(failure_mutex_);
  return JournalStatus{{}, journal_failure_, {}};
}

}  // namespace stillpoint
