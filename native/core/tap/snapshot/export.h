// A held snapshot as an NBD export, for the session. A trim says that the session has read the range for the
// last time: writes need not preserve it any more, and another read of it fails (ESHUTDOWN, which is EIO on
// the wire). Contexts: base:allocation, and stillpoint:changed, whose flag 1 means that the maps name the
// blocks.
#pragma once

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "core/nbd/exports/export.h"
#include "core/tap/snapshot/snapshot.h"

namespace stillpoint {

class SnapshotExport final : public NbdExport {
 public:
  static constexpr const char* kChangedContext = "stillpoint:changed";

  explicit SnapshotExport(std::shared_ptr<Snapshot> snapshot) : snapshot_(std::move(snapshot)) {
    properties_.size_bytes = snapshot_->geometry().size_bytes;
    properties_.block_size_preferred = snapshot_->geometry().block_size;
    properties_.can_zero = false;
    properties_.can_fast_zero = false;
    properties_.description = "static view of one instant";
    properties_.contexts = {"base:allocation", kChangedContext};
  }

  const Properties& properties() const override { return properties_; }

  int read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept override {
    return patience == Patience::immediate ? kWouldWait : snapshot_->read(byte_offset, into);
  }
  int write(uint64_t, Bytes, bool, Patience) noexcept override { return EPERM; }
  int flush() noexcept override { return 0; }
  int trim(uint64_t byte_offset, uint64_t byte_length, bool) noexcept override {
    snapshot_->release(byte_offset, byte_length);
    return 0;
  }
  int zero(uint64_t, uint64_t, const ZeroOptions&, bool) noexcept override { return EPERM; }
  int cache(uint64_t, uint64_t) noexcept override { return 0; }
  int block_status(size_t context, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                   std::vector<NbdExtent>& extents) noexcept override {
    return context == 0 ? snapshot_->allocation(byte_offset, byte_length, extents_max, extents)
                        : snapshot_->changed(byte_offset, byte_length, extents_max, extents);
  }

 private:
  const std::shared_ptr<Snapshot> snapshot_;
  Properties properties_;
};

}  // namespace stillpoint
