#include "core/nbd/exports/device_export.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr uint32_t kImageSectorSize = 512;
// Freeing less than a page frees nothing.
constexpr uint64_t kTrimAlignment = 4096;
constexpr size_t kZerosBytes = 1 << 20;
// Where a file system can't say whether a write would wait (ext4), a write of whole pages into the page cache
// is expected not to. One that took so long was held back: for a while others are not tried.
constexpr uint64_t kPageBytes = 4096;
constexpr uint32_t kHole = 1 << 0, kZero = 1 << 1;  // NBD_STATE_HOLE, NBD_STATE_ZERO

// Calls until it isn't interrupted. The result, or a negative errno value.
template <class Call>
auto retry(Call call) -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

const uint8_t* zeros() {
  alignas(4096) static const uint8_t bytes[kZerosBytes] = {};
  return bytes;
}

int fallocate_at(int fd, int mode, uint64_t byte_offset, uint64_t byte_length) {
  return -retry([&] {
    return ::fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(byte_offset),
                       static_cast<off_t>(byte_length));
  });
}

uint64_t align_up(uint64_t value, uint64_t alignment) { return (value + alignment - 1) & ~(alignment - 1); }
uint64_t align_down(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }

}  // namespace

std::string describe_failure(int error) {
  return error == kPastEnd ? "the device ends before that now" : describe_errno(error);
}

std::shared_ptr<DeviceExport> DeviceExport::open(const std::string& path, bool read_only) {
  std::shared_ptr<DeviceExport> device(new DeviceExport);
  struct stat before;
  const bool is_block = ::stat(path.c_str(), &before) == 0 && S_ISBLK(before.st_mode);
  // O_NONBLOCK: a FIFO must not hang the open; it means nothing to devices and files.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_CLOEXEC | (is_block ? O_EXCL : 0);
  device->fd_ = retry([&] { return ::open(path.c_str(), flags); });
  if (device->fd_ < 0) throw_errno(-device->fd_, "open", path);
  device->properties_.read_only = read_only;
  device->find_geometry(path);
  if (!device->is_block_) {
    const int locked = retry([&] { return ::flock(device->fd_, LOCK_EX | LOCK_NB); });
    if (locked < 0) throw_errno(locked == -EWOULDBLOCK ? EBUSY : -locked, "lock", path);
    device->watch_writers();
  } else if (!is_block) {
    throw_errno(ESTALE, "the path was replaced while it was opened", path);
  }
  return device;
}

void DeviceExport::find_geometry(const std::string& path) {
  struct stat status;
  if (::fstat(fd_, &status) != 0) throw_errno(errno, "stat", path);
  uint32_t sector_size = kImageSectorSize;
  if (S_ISREG(status.st_mode)) {
    properties_.size_bytes = static_cast<uint64_t>(status.st_size);
    struct statfs file_system;
    is_memory_ = ::fstatfs(fd_, &file_system) == 0 &&
                 (file_system.f_type == TMPFS_MAGIC || file_system.f_type == RAMFS_MAGIC);
  } else if (S_ISBLK(status.st_mode)) {
    is_block_ = true;
    int logical = 0;
    if (::ioctl(fd_, BLKGETSIZE64, &properties_.size_bytes) != 0)
      throw_errno(errno, "ask for the size", path);
    if (::ioctl(fd_, BLKSSZGET, &logical) != 0) throw_errno(errno, "ask for the sector size", path);
    sector_size_ = sector_size = static_cast<uint32_t>(logical);
  } else {
    throw_errno(S_ISDIR(status.st_mode) ? EISDIR : ENOTBLK, "neither a block device nor a regular file",
                path);
  }
  while (properties_.size_bytes % sector_size != 0) sector_size /= 2;
  least_bytes_ = properties_.size_bytes;
  properties_.block_size_min = sector_size;
  properties_.block_size_preferred = std::max(properties_.block_size_preferred, sector_size);
  properties_.description = path;
  properties_.contexts = {"base:allocation"};
}

DeviceExport::~DeviceExport() {
  if (watch_fd_ >= 0) ::close(watch_fd_);
  if (fd_ >= 0) ::close(fd_);
}

// Where there can be no watch (no more instances, no /proc), nobody is seen.
void DeviceExport::watch_writers() {
  watch_fd_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch_fd_ < 0) return;
  // This file, whatever its path leads to now. Of this process nothing is reported: it keeps its descriptor.
  const std::string file = "/proc/self/fd/" + std::to_string(fd_);
  if (::inotify_add_watch(watch_fd_, file.c_str(), IN_CLOSE_WRITE) >= 0) return;
  ::close(watch_fd_);
  watch_fd_ = -1;
}

// The kernel merges events that follow each other: some, not how many.
void DeviceExport::count_writers() noexcept {
  alignas(inotify_event) char events[4096];
  while (watch_fd_ >= 0) {
    const ssize_t length = retry([&] { return ::read(watch_fd_, events, sizeof events); });
    if (length <= 0) return;
    foreign_writers_++;
  }
}

uint64_t DeviceExport::present_size() noexcept {
  uint64_t size = 0;
  if (is_block_) {
    if (::ioctl(fd_, BLKGETSIZE64, &size) != 0) size = 0;
  } else {
    // Half the price of fstat. It moves a file position that nothing uses.
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    size = end < 0 ? 0 : static_cast<uint64_t>(end);
  }
  uint64_t least = least_bytes_.load(std::memory_order_relaxed);
  while (size < least && !least_bytes_.compare_exchange_weak(least, size)) {
  }
  return size;
}

SourceState DeviceExport::source_state() noexcept {
  count_writers();
  const uint64_t size = present_size();
  return {size, least_bytes_, foreign_writers_};
}

// Behind its end a device answers this or that.
int DeviceExport::failed(int error, uint64_t byte_end) noexcept {
  return ends_before(byte_end) ? kPastEnd : error;
}

int DeviceExport::read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept {
  if (patience == Patience::immediate && !is_memory_) return read_now(byte_offset, into);
  while (!into.empty()) {
    const ssize_t count =
        retry([&] { return ::pread(fd_, into.data(), into.size(), static_cast<off_t>(byte_offset)); });
    if (count <= 0) return failed(count == 0 ? EIO : static_cast<int>(-count), byte_offset + into.size());
    byte_offset += static_cast<uint64_t>(count);
    into = into.subspan(static_cast<size_t>(count));
  }
  return 0;
}

int DeviceExport::read_now(uint64_t byte_offset, std::span<uint8_t> into) noexcept {
  if (!reads_at_once_.load(std::memory_order_relaxed)) return kWouldWait;
  while (!into.empty()) {
    const iovec part{into.data(), into.size()};
    const ssize_t count =
        retry([&] { return ::preadv2(fd_, &part, 1, static_cast<off_t>(byte_offset), RWF_NOWAIT); });
    if (count == -EOPNOTSUPP) reads_at_once_ = false;
    // Whatever it is, it is said best by the read that waits.
    if (count <= 0) return kWouldWait;
    byte_offset += static_cast<uint64_t>(count);
    into = into.subspan(static_cast<size_t>(count));
  }
  return 0;
}

int DeviceExport::write(uint64_t byte_offset, Bytes bytes, bool fua, Patience patience) noexcept {
  const uint64_t begin = byte_offset;
  const Bytes all = bytes;
  if (!is_block_ && ends_before(byte_offset + bytes.size())) return kPastEnd;
  if (patience == Patience::immediate && !is_memory_) return fua ? kWouldWait : write_now(byte_offset, bytes);
  while (!bytes.empty()) {
    const ssize_t count =
        retry([&] { return ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(byte_offset)); });
    if (count <= 0) return failed(count == 0 ? EIO : static_cast<int>(-count), byte_offset + bytes.size());
    byte_offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  if (!fua) return 0;
  // The same again, with its sync: now a failure can only be that of the sync, and such a one is remembered.
  for (Bytes left = all; !left.empty();) {
    const iovec part{const_cast<uint8_t*>(left.data()), left.size()};
    const uint64_t at = begin + (all.size() - left.size());
    const ssize_t count = retry([&] { return ::pwritev2(fd_, &part, 1, static_cast<off_t>(at), RWF_DSYNC); });
    if (count <= 0) return sync_failed(count == 0 ? EIO : static_cast<int>(-count));
    left = left.subspan(static_cast<size_t>(count));
  }
  return sync_error_;
}

int DeviceExport::write_now(uint64_t byte_offset, Bytes bytes) noexcept {
  if (!writes_at_once_.load(std::memory_order_relaxed)) return write_if_quick(byte_offset, bytes);
  bool begun = false;
  while (!bytes.empty()) {
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    const ssize_t count =
        retry([&] { return ::pwritev2(fd_, &part, 1, static_cast<off_t>(byte_offset), RWF_NOWAIT); });
    if (count == -EOPNOTSUPP) writes_at_once_ = false;
    // What is begun is finished: an instant between its parts would hold a torn write.
    if (count <= 0) return begun ? write(byte_offset, bytes, false, Patience::may_wait) : kWouldWait;
    begun = true;
    byte_offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return 0;
}

int DeviceExport::write_if_quick(uint64_t byte_offset, Bytes bytes) noexcept {
  // A part of a page may have to be read first.
  if (bytes.size() > QuickIo::kBytesMax || (byte_offset | bytes.size()) % kPageBytes != 0) return kWouldWait;
  return quick_writes_.attempt([&] { return write(byte_offset, bytes, false, Patience::may_wait); });
}

int DeviceExport::flush() noexcept {
  if (properties_.read_only) return 0;
  const int result = retry([&] { return ::fdatasync(fd_); });
  return result == 0 ? sync_error_.load() : sync_failed(-result);
}

int DeviceExport::sync_failed(int error) noexcept {
  int none = 0;
  sync_error_.compare_exchange_strong(none, error);
  return error;
}

int DeviceExport::trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept {
  if (ends_before(byte_offset + byte_length)) return kPastEnd;
  const uint64_t alignment = std::max<uint64_t>(kTrimAlignment, sector_size_);
  const uint64_t begin = align_up(byte_offset, alignment);
  const uint64_t end = align_down(byte_offset + byte_length, alignment);
  int error = 0;
  if (begin < end && is_block_) {
    uint64_t range[2] = {begin, end - begin};
    error = -retry([&] { return ::ioctl(fd_, BLKDISCARD, range); });
  } else if (begin < end) {
    error = fallocate_at(fd_, FALLOC_FL_PUNCH_HOLE, begin, end - begin);
  }
  // It is advice: a device that can't follow it may ignore it.
  if (error != 0 && error != EOPNOTSUPP) return error;
  return fua ? flush() : 0;
}

int DeviceExport::zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
                       bool fua) noexcept {
  const uint64_t end = byte_offset + byte_length;
  if (ends_before(end)) return kPastEnd;
  const uint64_t whole_begin = std::min(align_up(byte_offset, sector_size_), end);
  const uint64_t whole_end = std::max(align_down(end, sector_size_), whole_begin);
  int error = zero_whole_sectors(whole_begin, whole_end - whole_begin, options);
  if (error == 0) error = write_zeros(byte_offset, whole_begin - byte_offset);
  if (error == 0) error = write_zeros(whole_end, end - whole_end);
  if (error != 0) return error;
  return fua ? flush() : 0;
}

int DeviceExport::zero_whole_sectors(uint64_t byte_offset, uint64_t byte_length,
                                     const ZeroOptions& options) noexcept {
  if (byte_length == 0) return 0;
  int error = EOPNOTSUPP;
  if (options.may_punch) error = fallocate_at(fd_, FALLOC_FL_PUNCH_HOLE, byte_offset, byte_length);
  // A block device that can't do this writes the zeros in the kernel: not fast.
  if (error == EOPNOTSUPP && !(is_block_ && options.fast_only)) {
    error = fallocate_at(fd_, FALLOC_FL_ZERO_RANGE, byte_offset, byte_length);
  }
  if (error != EOPNOTSUPP || options.fast_only) return error;
  return write_zeros(byte_offset, byte_length);
}

int DeviceExport::write_zeros(uint64_t byte_offset, uint64_t byte_length) noexcept {
  while (byte_length > 0) {
    const uint64_t length = std::min<uint64_t>(byte_length, kZerosBytes);
    const int error = write(byte_offset, {zeros(), length}, false, Patience::may_wait);
    if (error != 0) return error;
    byte_offset += length;
    byte_length -= length;
  }
  return 0;
}

int DeviceExport::cache(uint64_t byte_offset, uint64_t byte_length) noexcept {
  ::posix_fadvise(fd_, static_cast<off_t>(byte_offset), static_cast<off_t>(byte_length), POSIX_FADV_WILLNEED);
  return 0;
}

int DeviceExport::block_status(size_t, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                               std::vector<NbdExtent>& extents) noexcept {
  const uint64_t end = byte_offset + byte_length;
  // Where the file says nothing of holes, all is data.
  const auto seek = [&](uint64_t from, int whence) {
    const off_t found = is_block_ ? -1 : ::lseek(fd_, static_cast<off_t>(from), whence);
    if (found >= 0) return std::min(static_cast<uint64_t>(found), end);
    return !is_block_ && errno == ENXIO && whence == SEEK_DATA ? end : (whence == SEEK_DATA ? from : end);
  };
  const size_t first = extents.size();
  const uint64_t begin = byte_offset;
  for (size_t count = 0; byte_offset < end && count < extents_max; ++count) {
    const uint64_t data = seek(byte_offset, SEEK_DATA);
    const uint64_t next = data > byte_offset ? data : seek(byte_offset, SEEK_HOLE);
    extents.push_back({next - byte_offset, data > byte_offset ? kHole | kZero : 0});
    byte_offset = next;
  }
  // Every file ends with a hole, also one that was cut. Asked after the holes: they were there, or the end
  // is.
  const uint64_t present = present_size();
  uint64_t at = begin;
  for (size_t i = first; i < extents.size() && present < end; at += extents[i++].byte_length) {
    if (extents[i].flags == 0 || at + extents[i].byte_length <= present) continue;
    extents.resize(i + 1);
    if (at >= present) {
      extents[i] = {end - at, 0};
    } else {
      // The answer may end early.
      extents[i].byte_length = present - at;
    }
    break;
  }
  return 0;
}

}  // namespace stillpoint
