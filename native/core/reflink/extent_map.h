// The extents of a file on disk, by FIEMAP.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/reflink/extent_diff.h"

namespace stillpoint {

// The kernel's own number of extents, without what is in the page cache only. Errno names.
uint64_t count_extents(int fd, const std::string& path);

// Of the file's bytes on disk, those that other files have, too: writing them takes new room.
uint64_t shared_bytes(int fd, const std::string& path);

// Asks for some extents at a time, and has dirty pages written first. Descriptor: the caller's.
class ExtentMap : public ExtentSource {
 public:
  ExtentMap(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  // Errno names. EUCLEAN: the kernel's answer is not in order.
  std::optional<Extent> next() override;

  // Of all extents that were given.
  uint64_t count() const { return count_; }
  uint64_t checksum() const { return checksum_; }
  uint64_t shared_bytes() const { return shared_bytes_; }

 private:
  void read_more();

  const int fd_;
  const std::string path_;
  std::vector<Extent> page_;
  size_t used_ = 0;
  uint64_t position_ = 0;
  bool is_last_ = false;
  uint64_t count_ = 0;
  uint64_t checksum_ = 0;
  uint64_t shared_bytes_ = 0;
};

struct FileDifference {
  std::vector<BlockRange> ranges;
  // Of the second file.
  uint64_t extent_count = 0;
};

// The first file's extents are asked for twice: a file system that moves extents (a balance of btrfs) may put
// others in their place meanwhile. Then EAGAIN, and nothing is known.
FileDifference differing_blocks_of(int one, int other, uint64_t size_bytes, uint32_t block_size,
                                   const std::string& path);

}  // namespace stillpoint
