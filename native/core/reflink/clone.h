// Clones of files on file systems that share extents, and what such a file system says before one is made.
// Descriptors are the caller's. Failures are NativeErrors with an errno name and the path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/digest.h"

namespace stillpoint {

struct CloneSupport {
  enum class FileSystem { xfs, btrfs, other };
  FileSystem file_system = FileSystem::other;
  // XFS that was made without reflink=1.
  bool without_reflink = false;
  // Of XFS, on its realtime device: addresses there and on the data device can be the same.
  bool realtime = false;
};
CloneSupport clone_support(int fd, const std::string& path);

// Gives an empty file what the source must share with its clone: btrfs refuses one where only one of both is
// without copy-on-write and checksums (chattr +C).
void liken_for_clone(int source, int target, const std::string& path);

// FICLONE: the target becomes what the source is in one instant. Dirty pages of the source are written first.
// Whoever writes to the source waits. Returns for how long, in ms.
double clone_file(int source, int target, const std::string& path);

// Extended attributes. No value: it has none of that name.
std::optional<std::vector<uint8_t>> get_attribute(int fd, const std::string& name, const std::string& path);
void set_attribute(int fd, const std::string& name, Bytes value, const std::string& path);

}  // namespace stillpoint
