#include "core/tap/tap.h"

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
  export_ = std::make_shared<TapExport>(
      device_, geometry_, start_change_map(std::move(file), options.identity, geometry_, options.distrust));
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

void Tap::close(const std::string& continuity) {
  std::lock_guard control(control_);
  if (!stopped_) throw NativeError("argument", "a tap is stopped before it is closed", options_.path);
  const int error = export_->close_clean(continuity);
  if (error != 0) throw_errno(error, "writing the map", options_.map_path);
}

}  // namespace stillpoint
