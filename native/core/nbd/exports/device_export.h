// A block device or an image file as it is, through the page cache.
//
// A trim that the device does not support is ignored; all other errors pass through as errno values. Once
// write-back has failed, no flush succeeds any more: the kernel reports such an error once, drops the pages
// that it could not write, and would call the next flush good.
//
// The device may be cut or go away meanwhile. The missing part is kPastEnd to everybody. It is not a hole,
// and it can't be written: a write beyond the end would grow an image again, with zeros before it. The end is
// checked before each write to an image; only a cut between check and write is missed. If another program had
// an image open for writing, it is counted when that program closes it: the flock keeps out only programs
// that ask for one.
//
// Threads: as NbdExport requires; the file descriptor is never moved or changed, the rest is atomic.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/nbd/exports/export.h"
#include "core/nbd/exports/quick_io.h"

namespace stillpoint {

class DeviceExport final : public NbdExport {
 public:
  // Block devices are opened exclusively, images locked (flock): EBUSY where somebody else has it. Errno
  // names; ENOTBLK for what is neither.
  static std::shared_ptr<DeviceExport> open(const std::string& path, bool read_only);
  ~DeviceExport() override;

  const Properties& properties() const override { return properties_; }
  SourceState source_state() noexcept override;
  uint64_t size_bytes() const { return properties_.size_bytes; }

  int read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept override;
  int write(uint64_t byte_offset, Bytes bytes, bool fua, Patience patience) noexcept override;
  int flush() noexcept override;
  int trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept override;
  int zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
           bool fua) noexcept override;
  int cache(uint64_t byte_offset, uint64_t byte_length) noexcept override;
  int block_status(size_t context, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                   std::vector<NbdExtent>& extents) noexcept override;

 private:
  DeviceExport() = default;

  void find_geometry(const std::string& path);
  void watch_writers();
  void count_writers() noexcept;
  uint64_t present_size() noexcept;
  bool ends_before(uint64_t byte_end) noexcept { return present_size() < byte_end; }
  int failed(int error, uint64_t byte_end) noexcept;
  int read_now(uint64_t byte_offset, std::span<uint8_t> into) noexcept;
  int write_now(uint64_t byte_offset, Bytes bytes) noexcept;
  int write_if_quick(uint64_t byte_offset, Bytes bytes) noexcept;
  int zero_whole_sectors(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options) noexcept;
  int write_zeros(uint64_t byte_offset, uint64_t byte_length) noexcept;
  int sync_failed(int error) noexcept;

  int fd_ = -1;
  // inotify, of an image; -1: nobody is watched for.
  int watch_fd_ = -1;
  bool is_block_ = false;
  // A file system in memory: what it does, it does at once.
  bool is_memory_ = false;
  uint32_t sector_size_ = 1;  // what zeroing must keep to
  Properties properties_;
  // The file system or device knows RWF_NOWAIT; true until it says otherwise.
  std::atomic<bool> reads_at_once_{true};
  std::atomic<bool> writes_at_once_{true};
  // Where it knows it not.
  QuickIo quick_writes_;
  std::atomic<int> sync_error_{0};
  std::atomic<uint64_t> least_bytes_{0};
  std::atomic<uint64_t> foreign_writers_{0};
};

}  // namespace stillpoint
