#include "core/device/block_device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/aligned_buffer.h"
#include "core/base/error.h"
#include "core/base/sparse_file.h"
#include "core/device/cached_view.h"

namespace stillpoint {
namespace {

constexpr size_t kBounceBytes = 1 << 20;
// One BLKZEROOUT can't be interrupted; this bounds how long it takes.
constexpr uint64_t kZeroOutBytes = uint64_t{1} << 30;
// Of a file's file system nothing is known here; no disk has larger sectors.
constexpr uint32_t kFileDirectAlignment = 4096;
constexpr uint64_t kFileDirectBytesMin = 64 << 10;

int retry_open(const std::string& path, int flags, mode_t mode = 0) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return fd;
    if (errno != EINTR) return -errno;
  }
}

// The device ends before its size: it was cut, or it is gone.
[[noreturn]] void throw_truncated(const char* action, const std::string& path, uint64_t byte_offset) {
  throw NativeError(
      "ETRUNCATED",
      std::string(action) + " at byte " + std::to_string(byte_offset) + ": it ends before that now", path,
      static_cast<int64_t>(byte_offset));
}

void pread_fully(int fd, const std::string& path, uint64_t byte_offset, std::span<uint8_t> into) {
  while (!into.empty()) {
    const ssize_t count = ::pread(fd, into.data(), into.size(), static_cast<off_t>(byte_offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      throw_errno(errno, "read", path, static_cast<int64_t>(byte_offset));
    }
    if (count == 0) throw_truncated("read", path, byte_offset);
    byte_offset += static_cast<uint64_t>(count);
    into = into.subspan(static_cast<size_t>(count));
  }
}

void pwrite_fully(int fd, const std::string& path, uint64_t byte_offset, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(byte_offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      throw_errno(errno, "write", path, static_cast<int64_t>(byte_offset));
    }
    if (count == 0) throw_truncated("write", path, byte_offset);
    byte_offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void sync_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = retry_open(directory, O_RDONLY | O_DIRECTORY);
  if (fd < 0) throw_errno(-fd, "open", directory);
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0) throw_errno(error, "sync", directory);
}

bool is_aligned(const void* memory, uint32_t alignment) {
  return reinterpret_cast<uintptr_t>(memory) % alignment == 0;
}

}  // namespace

std::unique_ptr<BlockDevice> BlockDevice::open(const std::string& path, const OpenOptions& options) {
  std::unique_ptr<BlockDevice> device(new BlockDevice(path));
  device->open_descriptors(options);
  return device;
}

void BlockDevice::open_descriptors(const OpenOptions& options) {
  const int access = options.write ? O_RDWR : O_RDONLY;
  // O_NONBLOCK: a FIFO must not hang the open; it means nothing to devices and files.
  int flags = access | O_NONBLOCK;
  struct stat before;
  const bool exists = ::stat(path_.c_str(), &before) == 0;
  if (exists && S_ISBLK(before.st_mode) && options.exclusive) flags |= O_EXCL;
  bool created = false;
  if (!exists && options.create) {
    if (!options.write || !options.size_bytes) {
      throw NativeError("argument", "create needs write and sizeBytes", path_);
    }
    fd_ = retry_open(path_, flags | O_CREAT | O_EXCL, 0600);
    created = fd_ >= 0;
  } else {
    fd_ = retry_open(path_, flags);
  }
  if (fd_ < 0) throw_errno(-fd_, "open", path_);

  try {
    find_geometry();
    if (options.create && options.size_bytes && type_ == Type::file && size_bytes_ != *options.size_bytes) {
      make_file(*options.size_bytes);
    }
    if (created) sync_directory_of(path_);
    fresh_ = options.fresh && type_ == Type::file;
    if (options.direct.value_or(type_ == Type::block || fresh_)) {
      direct_alignment_ = type_ == Type::block ? logical_sector_size_ : kFileDirectAlignment;
      direct_fd_ = retry_open(path_, access | O_DIRECT);
      // Not every file system can (EINVAL); by default we then do without.
      if (direct_fd_ < 0 && (options.direct.has_value() || direct_fd_ != -EINVAL)) {
        throw_errno(-direct_fd_, "open with O_DIRECT", path_);
      }
      struct stat first, second;
      if (direct_fd_ >= 0 &&
          (::fstat(fd_, &first) != 0 || ::fstat(direct_fd_, &second) != 0 || first.st_ino != second.st_ino ||
           first.st_dev != second.st_dev || first.st_rdev != second.st_rdev)) {
        throw_errno(ESTALE, "the path was replaced while it was opened", path_);
      }
    }
  } catch (...) {
    if (created) ::unlink(path_.c_str());
    throw;
  }
}

void BlockDevice::find_geometry() {
  struct stat status;
  if (::fstat(fd_, &status) != 0) throw_errno(errno, "stat", path_);
  if (S_ISREG(status.st_mode)) {
    size_bytes_ = static_cast<uint64_t>(status.st_size);
  } else if (S_ISBLK(status.st_mode)) {
    type_ = Type::block;
    int sector_size = 0;
    if (::ioctl(fd_, BLKGETSIZE64, &size_bytes_) != 0) throw_errno(errno, "ask for the size", path_);
    if (::ioctl(fd_, BLKSSZGET, &sector_size) != 0) throw_errno(errno, "ask for the sector size", path_);
    logical_sector_size_ = static_cast<uint32_t>(sector_size);
  } else {
    throw_errno(S_ISDIR(status.st_mode) ? EISDIR : ENOTBLK, "neither a block device nor a regular file",
                path_);
  }
}

void BlockDevice::make_file(uint64_t size_bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(size_bytes)) != 0) throw_errno(errno, "set the size", path_);
  size_bytes_ = size_bytes;
}

BlockDevice::~BlockDevice() {
  if (direct_fd_ >= 0) ::close(direct_fd_);
  if (fd_ >= 0) ::close(fd_);
}

void BlockDevice::check_range(uint64_t byte_offset, uint64_t byte_length) const {
  if (byte_offset > size_bytes_ || byte_length > size_bytes_ - byte_offset) {
    throw NativeError("argument",
                      "bytes " + std::to_string(byte_offset) + " + " + std::to_string(byte_length) +
                          " lie outside the device of " + std::to_string(size_bytes_) + " bytes",
                      path_);
  }
}

// Cuts a range into an unaligned head, whole direct sectors and an unaligned tail: transfer(fd, offset in the
// range, length, direct). A file system may open a file with O_DIRECT and still refuse the transfer, for it
// wants another alignment: then that is done without.
template <class Transfer>
void BlockDevice::split(uint64_t byte_offset, uint64_t byte_length, uint64_t direct_bytes_min,
                        Transfer transfer) const {
  uint64_t head = byte_length, middle = 0;
  if (direct() && byte_length >= direct_bytes_min) {
    const uint64_t mask = direct_alignment_ - 1;
    head = std::min(((byte_offset + mask) & ~mask) - byte_offset, byte_length);
    middle = (byte_length - head) & ~mask;
  }
  if (head > 0) transfer(fd_, uint64_t{0}, head, false);
  if (middle > 0) {
    try {
      transfer(direct_fd_, head, middle, true);
    } catch (const NativeError& error) {
      if (type_ != Type::file || error.code() != "EINVAL") throw;
      transfer(fd_, head, middle, false);
    }
  }
  if (head + middle < byte_length) transfer(fd_, head + middle, byte_length - head - middle, false);
}

void BlockDevice::read(uint64_t byte_offset, std::span<uint8_t> into) {
  check_range(byte_offset, into.size());
  split(byte_offset, into.size(), 0, [&](int fd, uint64_t at, uint64_t length, bool direct) {
    const std::span<uint8_t> part = into.subspan(at, length);
    if (!direct) return read_buffered(byte_offset + at, part);
    if (is_aligned(part.data(), direct_alignment_)) return pread_fully(fd, path_, byte_offset + at, part);
    AlignedBuffer bounce(std::min(length, uint64_t{kBounceBytes}));
    for (size_t done = 0; done < length; done += kBounceBytes) {
      const auto piece = bounce.first(std::min(length - done, uint64_t{kBounceBytes}));
      pread_fully(fd, path_, byte_offset + at + done, piece);
      std::memcpy(part.data() + done, piece.data(), piece.size());
    }
  });
}

void BlockDevice::read_buffered(uint64_t byte_offset, std::span<uint8_t> into) const {
  if (fresh_) {
    // Whole pages: the kernel keeps one that is named in part.
    const uint64_t begin = byte_offset / kPageBytes * kPageBytes;
    const uint64_t end = page_up(byte_offset + into.size());
    ::posix_fadvise(fd_, static_cast<off_t>(begin), static_cast<off_t>(end - begin), POSIX_FADV_DONTNEED);
  }
  pread_fully(fd_, path_, byte_offset, into);
}

bool BlockDevice::look_at_cached(uint64_t byte_offset, uint64_t byte_length,
                                 const std::function<void(Bytes)>& look) {
  check_range(byte_offset, byte_length);
  return type_ == Type::file && !direct() && !fresh_ &&
         cached_view_.look(fd_, byte_offset, byte_length, look) &&
         // The last page of a file that was cut has zeros behind the end.
         present_end() >= byte_offset + byte_length;
}

void BlockDevice::write(uint64_t byte_offset, Bytes bytes) {
  check_range(byte_offset, bytes.size());
  // Each direct write to a file waits for the disk, and allocates: small ones are better gathered.
  const uint64_t direct_bytes_min = type_ == Type::file ? kFileDirectBytesMin : 0;
  split(byte_offset, bytes.size(), direct_bytes_min, [&](int fd, uint64_t at, uint64_t length, bool direct) {
    const Bytes part = bytes.subspan(at, length);
    if (!direct || is_aligned(part.data(), direct_alignment_)) {
      pwrite_fully(fd, path_, byte_offset + at, part);
      return;
    }
    AlignedBuffer bounce(std::min(length, uint64_t{kBounceBytes}));
    for (size_t done = 0; done < length; done += kBounceBytes) {
      const auto piece = bounce.first(std::min(length - done, uint64_t{kBounceBytes}));
      std::memcpy(piece.data(), part.data() + done, piece.size());
      pwrite_fully(fd, path_, byte_offset + at + done, piece);
    }
  });
}

void BlockDevice::write_zeros(uint64_t byte_offset, uint64_t byte_length) {
  if (byte_length == 0) return;
  AlignedBuffer zeros(std::min(byte_length, uint64_t{kBounceBytes}));
  std::memset(zeros.data(), 0, zeros.size());
  for (uint64_t done = 0; done < byte_length; done += kBounceBytes) {
    write(byte_offset + done, zeros.first(std::min(byte_length - done, uint64_t{kBounceBytes})));
  }
}

void BlockDevice::zero(uint64_t byte_offset, uint64_t byte_length) {
  check_range(byte_offset, byte_length);
  if (byte_length == 0) return;
  if (type_ == Type::file) {
    for (;;) {
      if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(byte_offset),
                      static_cast<off_t>(byte_length)) == 0) {
        return;
      }
      if (errno == EOPNOTSUPP) return write_zeros(byte_offset, byte_length);
      if (errno != EINTR) throw_errno(errno, "punch a hole", path_, static_cast<int64_t>(byte_offset));
    }
  }
  const uint64_t mask = logical_sector_size_ - 1;
  const uint64_t begin = (byte_offset + mask) & ~mask;
  const uint64_t end = (byte_offset + byte_length) & ~mask;
  if (begin >= end) return write_zeros(byte_offset, byte_length);
  write_zeros(byte_offset, begin - byte_offset);
  for (uint64_t at = begin; at < end;) {
    uint64_t range[2] = {at, std::min(end - at, kZeroOutBytes)};
    if (::ioctl(fd_, BLKZEROOUT, range) == 0) {
      at += range[1];
    } else if (errno == EOPNOTSUPP) {
      write_zeros(at, end - at);
      at = end;
    } else if (errno != EINTR) {
      throw_errno(errno, "zero", path_, static_cast<int64_t>(at));
    }
  }
  write_zeros(end, byte_offset + byte_length - end);
}

void BlockDevice::flush() {
  // Both descriptors name one inode, whose dirty pages and device cache this covers.
  while (::fdatasync(fd_) != 0) {
    if (errno != EINTR) throw_errno(errno, "flush", path_);
  }
  // What was written behind the end is gone.
  if (type_ == Type::file && present_end() < size_bytes_) throw_truncated("flush", path_, present_end());
}

void BlockDevice::drop_cache() { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

uint64_t BlockDevice::present_end() const {
  struct stat status;
  if (::fstat(fd_, &status) != 0) throw_errno(errno, "stat", path_);
  return static_cast<uint64_t>(status.st_size);
}

uint64_t BlockDevice::seek(uint64_t from, int whence, uint64_t unsupported) const {
  if (type_ == Type::block || from >= size_bytes_) return std::min(unsupported, size_bytes_);
  // Moves a file position that nothing uses: all reads and writes carry their offset.
  const off_t result = ::lseek(fd_, static_cast<off_t>(from), whence);
  if (result < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) return unsupported;
  if (result < 0 && errno != ENXIO) throw_errno(errno, "seek", path_, static_cast<int64_t>(from));
  const uint64_t found = result < 0 ? size_bytes_ : std::min(static_cast<uint64_t>(result), size_bytes_);
  // Every file ends with a hole, also one that was cut: the part beyond the present end is not zeros.
  if (result < 0 || whence == SEEK_HOLE) {
    const uint64_t end = present_end();
    if (end < size_bytes_ && end <= found) throw_truncated("seek", path_, end);
  }
  return found;
}

uint64_t BlockDevice::next_data(uint64_t from) { return seek(from, SEEK_DATA, from); }
uint64_t BlockDevice::next_hole(uint64_t from) { return seek(from, SEEK_HOLE, size_bytes_); }

bool is_open_for_writing(const std::string& path) {
  const int fd = retry_open(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0) throw_errno(-fd, "open", path);
  const int error = ::fcntl(fd, F_SETLEASE, F_RDLCK) == 0 ? 0 : errno;
  ::close(fd);  // drops the lease
  // A file system without leases, or a file of somebody else: not known, which is no "no".
  if (error != 0 && error != EAGAIN && error != EBUSY) throw_errno(error, "lease", path);
  return error != 0;
}

}  // namespace stillpoint
