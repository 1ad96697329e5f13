#include "core/reflink/extent_map.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <limits>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr uint32_t kExtentsAtOnce = 1024;
// Say nothing about where the bytes are: the last extent, merged for the answer, shared with other files.
constexpr uint32_t kHarmlessFlags = FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_MERGED | FIEMAP_EXTENT_SHARED;

// With room for the answer.
class Question {
 public:
  explicit Question(uint32_t extents)
      : memory_((sizeof(struct fiemap) + extents * sizeof(struct fiemap_extent) + 7) / sizeof(uint64_t)) {
    get()->fm_extent_count = extents;
  }

  struct fiemap* get() {
    return reinterpret_cast<struct fiemap*>(memory_.data());
  }

  void ask(int fd, const std::string& path) {
    while (::ioctl(fd, FS_IOC_FIEMAP, get()) != 0) {
      if (errno != EINTR) throw_errno(errno, "ask for the extents", path);
    }
  }

 private:
  std::vector<uint64_t> memory_;
};

Extent::Kind kind_of(uint32_t flags) {
  const uint32_t telling = flags & ~kHarmlessFlags;
  if (telling == FIEMAP_EXTENT_UNWRITTEN) return Extent::Kind::zeros;
  return telling == 0 ? Extent::Kind::data : Extent::Kind::opaque;
}

// Finds extents that have moved, not forgeries.
uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccd;
}

}  // namespace

uint64_t count_extents(int fd, const std::string& path) {
  Question question(0);
  question.get()->fm_length = FIEMAP_MAX_OFFSET;
  question.ask(fd, path);
  return question.get()->fm_mapped_extents;
}

uint64_t shared_bytes(int fd, const std::string& path) {
  ExtentMap map(fd, path);
  while (map.next()) continue;
  return map.shared_bytes();
}

std::optional<Extent> ExtentMap::next() {
  if (used_ == page_.size() && !is_last_) read_more();
  if (used_ == page_.size()) return std::nullopt;
  const Extent extent = page_[used_++];
  count_++;
  for (const uint64_t value : {extent.logical, extent.length, extent.physical})
    checksum_ = mix(checksum_, value);
  checksum_ = mix(checksum_, static_cast<uint64_t>(extent.kind));
  return extent;
}

void ExtentMap::read_more() {
  page_.clear();
  used_ = 0;
  Question question(kExtentsAtOnce);
  struct fiemap* const request = question.get();
  request->fm_start = position_;
  request->fm_length = FIEMAP_MAX_OFFSET - position_;
  request->fm_flags = FIEMAP_FLAG_SYNC;
  question.ask(fd_, path_);
  is_last_ = request->fm_mapped_extents < kExtentsAtOnce;
  for (uint32_t i = 0; i < request->fm_mapped_extents; i++) {
    const struct fiemap_extent& given = request->fm_extents[i];
    if ((given.fe_flags & FIEMAP_EXTENT_LAST) != 0) is_last_ = true;
    Extent extent{given.fe_logical, given.fe_length, given.fe_physical, kind_of(given.fe_flags)};
    if (extent.length == 0) continue;
    if (extent.length > std::numeric_limits<uint64_t>::max() - extent.logical ||
        (extent.logical < position_ && (!page_.empty() || extent.end() <= position_))) {
      throw_errno(EUCLEAN, "read the extents", path_, static_cast<int64_t>(position_));
    }
    // The first one may have begun before what was asked for.
    if (extent.logical < position_) {
      const uint64_t cut = position_ - extent.logical;
      extent = {position_, extent.length - cut, extent.physical + cut, extent.kind};
    }
    if ((given.fe_flags & FIEMAP_EXTENT_SHARED) != 0) shared_bytes_ += extent.length;
    position_ = extent.end();
    page_.push_back(extent);
  }
}

FileDifference differing_blocks_of(int one, int other, uint64_t size_bytes, uint32_t block_size,
                                   const std::string& path) {
  ExtentMap left(one, path), right(other, path);
  FileDifference difference;
  difference.ranges = differing_blocks(left, right, size_bytes, block_size);
  // The rest of both, up to their ends.
  while (left.next()) continue;
  while (right.next()) continue;
  difference.extent_count = right.count();
  ExtentMap again(one, path);
  while (again.next()) continue;
  if (again.count() != left.count() || again.checksum() != left.checksum()) {
    throw_errno(EAGAIN, "compare the extents, which were moved meanwhile", path);
  }
  return difference;
}

}  // namespace stillpoint
