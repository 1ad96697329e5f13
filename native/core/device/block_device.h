// A block device or a regular file (disk image).
//
// With `direct`, whole sectors go through an O_DIRECT descriptor and the rest (an unaligned head or tail)
// through a buffered one; the kernel keeps the two coherent.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/device/block_source.h"
#include "core/device/cached_view.h"

namespace stillpoint {

struct OpenOptions {
  bool write = false;
  bool exclusive = false;      // O_EXCL; block devices only, files have no such lock
  std::optional<bool> direct;  // default: block devices yes, files no
  // Reads of a file are answered by its file system, not by pages that are cached here: O_DIRECT where it
  // takes that, else each range is dropped from the cache first, and never mapped.
  bool fresh = false;
  bool create = false;                 // a regular file of `size_bytes`, where there is none
  std::optional<uint64_t> size_bytes;  // with `create`: an existing file is cut or grown to it
};

class BlockDevice : public BlockSource {
 public:
  // Errno names, and ETRUNCATED for a read behind the end that it has now; ENOTBLK for anything that is
  // neither a block device nor a regular file. A file that this created is removed again if it fails.
  static std::unique_ptr<BlockDevice> open(const std::string& path, const OpenOptions& options);
  ~BlockDevice() override;

  const std::string& path() const override { return path_; }
  Type type() const override { return type_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  uint32_t logical_sector_size() const override { return logical_sector_size_; }
  bool direct() const override { return direct_fd_ >= 0; }
  // Open with O_DIRECT; -1 if it is not. It stays the device's.
  int direct_fd() const { return direct_fd_; }

  void read(uint64_t byte_offset, std::span<uint8_t> into) override;
  bool look_at_cached(uint64_t byte_offset, uint64_t byte_length,
                      const std::function<void(Bytes)>& look) override;
  void write(uint64_t byte_offset, Bytes bytes) override;
  void zero(uint64_t byte_offset, uint64_t byte_length) override;
  void flush() override;
  void drop_cache() override;
  uint64_t next_data(uint64_t from) override;
  uint64_t next_hole(uint64_t from) override;

 private:
  explicit BlockDevice(std::string path) : path_(std::move(path)) {}
  void open_descriptors(const OpenOptions& options);
  void find_geometry();
  void make_file(uint64_t size_bytes);
  void check_range(uint64_t byte_offset, uint64_t byte_length) const;
  void read_buffered(uint64_t byte_offset, std::span<uint8_t> into) const;
  template <class Transfer>
  void split(uint64_t byte_offset, uint64_t byte_length, uint64_t direct_bytes_min, Transfer transfer) const;
  void write_zeros(uint64_t byte_offset, uint64_t byte_length);
  // Of a file.
  uint64_t present_end() const;
  uint64_t seek(uint64_t from, int whence, uint64_t unsupported) const;

  std::string path_;
  Type type_ = Type::file;
  uint64_t size_bytes_ = 0;
  uint32_t logical_sector_size_ = 512;
  uint32_t direct_alignment_ = 0;
  int fd_ = -1;
  int direct_fd_ = -1;
  bool fresh_ = false;
  CachedView cached_view_;
};

// True if some process holds the regular file open for writing, this one included: the kernel then refuses a
// read lease. False also where leases can't tell: file systems without them (NFS, some FUSE), other users'
// files without CAP_LEASE, block devices.
bool is_open_for_writing(const std::string& path);

}  // namespace stillpoint
