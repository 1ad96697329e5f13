// The agent's side of a copy that is made of a device while it changes (docs/live.md). Marks are collected;
// what they name is shipped as it is now, or staged: read into memory, so that of a unit that is written
// again only the grains have to be read again. The cut (cut.h) reads what is left while nobody writes.
//
//   state      begin         collect, doubt, ship, stage,   accept        read, untouched
//                            prepare_cut, report
//   --------   -----------   ----------------------------   -----------   --------------------
//   made       → collecting  -                              -             -
//   collecting -             yes                            → accepted    -
//   accepted   -             -                              -             staged and cut units
//
// A call that the state is not for throws `argument`.
//
// Sets of grains and units, of which each is a bitmap:
//   pending    (CutArea) written since it was shipped or staged, or never read yet
//   staged     (CutArea) units that are in memory
//   changed    units that were pending because of a mark: may differ from the base point
//
// Threads: one at a time, but for read(), which any number may call once it is accepted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/device/block_device.h"
#include "core/live/cut_area.h"
#include "core/live/staging.h"
#include "core/track/tracker.h"

namespace stillpoint {

struct LiveOptions {
  uint64_t block_bytes;        // of the session
  uint64_t staging_bytes_max;  // what may be held in memory before the cut,
  uint64_t cut_bytes_max;      // and what the cut may read, also before the freeze
};

class LiveCopy {
 public:
  // The device is a block device that the tracker's target is; it is read with O_DIRECT.
  LiveCopy(const std::shared_ptr<BlockDevice>& device, std::shared_ptr<Tracker> tracker,
           const LiveOptions& options);

  struct Begin {
    bool everything;                      // not only what is marked since the base point
    std::vector<uint64_t> sample_blocks;  // to be read although nothing says that they changed
  };
  void begin(const Begin& begin);

  // What is pending, after the marks were collected.
  struct Pending {
    uint64_t grains;
    uint64_t ship_bytes;   // of all units with a pending grain
    uint64_t stage_bytes;  // what staging would add to the memory that is in use,
    uint64_t read_bytes;   // and what it would read; the cut reads as much
  };
  Pending collect();

  // Makes pending again what was submitted since the last point, or all of the device: the marks of
  // completed writes have not told everything.
  enum class Doubt { queued, everything };
  void doubt(Doubt what);

  // All pending units, in blocks of the session; they are pending no more.
  std::vector<CutRange> ship();
  // Reads all that is pending. An errno with the byte offset: what could not be read stays pending.
  // `out-of-memory`: more than staging_bytes_max.
  void stage();
  uint64_t staged_bytes() const { return staging_.used_bytes(); }
  uint64_t grain_bytes() const { return area_.geometry().grain_bytes; }

  // Comes before each cut, when so much would have to be read: what that may take of memory.
  void prepare_cut(uint64_t read_bytes);
  // For the cut, in the order that it takes them: memory, done, queued, kept, device.
  std::vector<int> descriptors() const;
  // Whether no process takes a cut, or may be about to: only then another one may be made, and what one that
  // is not complete has taken is known.
  bool cut_has_ended() const { return !area_.has_cutter(); }
  // What has become of the cut. Once it is complete or has ended, what it has taken of the marks is pending,
  // in case that it is not accepted.
  const CutResult& report();
  // Takes over what the cut has read; `argument` if it is not complete.
  void accept();

  // Once it is accepted: whether the cut had nothing to read there, and no mark came since. A neighbour in
  // the same unit counts.
  bool untouched(uint64_t begin_byte, uint64_t end_byte) const;
  // Once it is accepted: blocks that may differ from the base point, ascending, apart; and those of the
  // sample that nothing has written to.
  std::vector<CutRange> changed_blocks() const;
  std::vector<uint64_t> unchanged_sample() const;
  // Of blocks that are held; `not-held` for others.
  void read(uint64_t byte_offset, std::span<uint8_t> into) const;

  const BlockDevice& device() const { return *device_; }

 private:
  enum class State { made, collecting, accepted };
  void need(State state) const;
  void mark_pending(uint64_t word, uint64_t bits);
  void pend_unit(uint64_t unit);
  void pend_submitted();
  void pend_everything();
  void clear_pending();
  template <class Take>
  void for_pending_units(Take take) const;
  std::vector<CutRange> to_blocks(const std::vector<CutRange>& units) const;

  const std::shared_ptr<BlockDevice> device_;
  const std::shared_ptr<Tracker> tracker_;
  const LiveOptions options_;
  CutArea area_;
  Staging staging_;
  UniqueFd direct_;
  State state_ = State::made;
  const std::span<uint64_t> pending_;
  std::vector<uint64_t> changed_;
  std::vector<uint64_t> sample_units_;
};

// What is held of an accepted copy, as a device.
class LiveView : public BlockSource {
 public:
  explicit LiveView(std::shared_ptr<const LiveCopy> copy) : copy_(std::move(copy)) {}

  const std::string& path() const override { return copy_->device().path(); }
  Type type() const override { return Type::snapshot; }
  uint64_t size_bytes() const override { return copy_->device().size_bytes(); }
  uint32_t logical_sector_size() const override { return copy_->device().logical_sector_size(); }
  bool direct() const override { return false; }
  void read(uint64_t byte_offset, std::span<uint8_t> into) override { copy_->read(byte_offset, into); }
  void write(uint64_t byte_offset, Bytes bytes) override;
  void zero(uint64_t byte_offset, uint64_t byte_length) override;
  void flush() override {}
  uint64_t next_data(uint64_t from) override { return from; }
  uint64_t next_hole(uint64_t from) override { return std::max(from, size_bytes()); }

 private:
  const std::shared_ptr<const LiveCopy> copy_;
};

}  // namespace stillpoint
