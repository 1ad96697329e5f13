// A held snapshot of a tap, read over NBD (libnbd) as a BlockSource: what a session scans.
//
// Each call borrows a connection and gives it back, so readers don't wait for each other; a new one is made
// when none is free, up to kConnectionsMax. An error that the server answered is a NativeError with its errno
// name; ESHUTDOWN is a block that is no longer held (docs/tap.md). A lost connection is `ENOTCONN`, never
// EIO: nothing on the device is bad.
//
// Locking: mutex_ guards idle_ and open_; extents_mutex_ the last answer about holes. It is kept, since it
// stays true for a static view.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/device/block_source.h"
#include "core/nbd/exports/export.h"
#include "core/tree/geometry.h"

struct nbd_handle;

namespace stillpoint {

class NbdSource final : public BlockSource {
 public:
  // `address` is `unix:PATH`. Errno names, `argument`.
  NbdSource(const std::string& address, const std::string& export_name);
  ~NbdSource() override;

  const std::string& path() const override { return path_; }
  Type type() const override { return Type::snapshot; }
  uint64_t size_bytes() const override { return size_bytes_; }
  uint32_t logical_sector_size() const override { return 512; }
  bool direct() const override { return false; }

  void read(uint64_t byte_offset, std::span<uint8_t> into) override;
  void done_with(uint64_t byte_offset, uint64_t byte_length) override;
  // EPERM: it is static.
  void write(uint64_t byte_offset, Bytes bytes) override;
  void zero(uint64_t byte_offset, uint64_t byte_length) override;
  void flush() override {}
  uint64_t next_data(uint64_t from) override;
  uint64_t next_hole(uint64_t from) override;

  // Blocks of `block_size` bytes with a byte that the tap's maps name; ascending, merged.
  std::vector<BlockRange> changed_ranges(uint32_t block_size);

 private:
  static constexpr size_t kConnectionsMax = 16;

  class Borrowed;

  nbd_handle* connect() const;
  [[noreturn]] void fail(nbd_handle* connection, const char* action, uint64_t byte_offset) const;
  // Extents from byte_offset on in the context, at least one, with so many questions at once.
  std::vector<NbdExtent> query(const char* context, uint64_t byte_offset, uint64_t byte_length,
                               size_t queries);
  uint64_t next(uint64_t from, bool hole);

  const std::string path_;
  const std::string socket_path_;
  const std::string export_name_;
  uint64_t size_bytes_ = 0;

  std::mutex mutex_;
  std::condition_variable given_back_;
  std::vector<nbd_handle*> idle_;
  size_t open_ = 0;

  std::mutex extents_mutex_;
  uint64_t extents_begin_ = 0;
  std::vector<NbdExtent> extents_;
};

}  // namespace stillpoint
