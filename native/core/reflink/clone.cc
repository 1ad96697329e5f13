#include "core/reflink/clone.h"

#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include <cerrno>
#include <chrono>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr uint32_t kXfsMagic = 0x58465342;

// The kernel's `struct xfs_fsop_geom` and its ioctl are in no header of libc or of the kernel for users.
struct XfsGeometry {
  uint32_t before_flags[23];
  uint32_t flags;
  uint32_t after_flags[40];
};
static_assert(sizeof(XfsGeometry) == 256);
constexpr unsigned long kXfsGeometry = _IOR('X', 126, XfsGeometry);
constexpr uint32_t kXfsReflink = 1u << 20;

constexpr size_t kAttributeBytesMax = 64 << 10;

bool is_realtime(int fd, const std::string& path) {
  struct fsxattr attributes {};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) throw_errno(errno, "ask for the flags", path);
  return (attributes.fsx_xflags & FS_XFLAG_REALTIME) != 0;
}

uint32_t file_system_of(int fd, const std::string& path) {
  struct statfs status {};
  if (::fstatfs(fd, &status) != 0) throw_errno(errno, "ask for the file system", path);
  return static_cast<uint32_t>(status.f_type);
}

unsigned int flags_of(int fd, const std::string& path) {
  unsigned int flags = 0;
  if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) throw_errno(errno, "ask for the flags", path);
  return flags;
}

}  // namespace

CloneSupport clone_support(int fd, const std::string& path) {
  CloneSupport support;
  const uint32_t type = file_system_of(fd, path);
  if (type == BTRFS_SUPER_MAGIC) support.file_system = CloneSupport::FileSystem::btrfs;
  if (type != kXfsMagic) return support;
  support.file_system = CloneSupport::FileSystem::xfs;
  XfsGeometry geometry{};
  if (::ioctl(fd, kXfsGeometry, &geometry) != 0) throw_errno(errno, "ask for the geometry", path);
  support.without_reflink = (geometry.flags & kXfsReflink) == 0;
  support.realtime = is_realtime(fd, path);
  return support;
}

void liken_for_clone(int source, int target, const std::string& path) {
  if (file_system_of(source, path) != BTRFS_SUPER_MAGIC) return;
  const unsigned int wanted = flags_of(source, path) & FS_NOCOW_FL;
  unsigned int flags = flags_of(target, path);
  if ((flags & FS_NOCOW_FL) == wanted) return;
  flags = (flags & ~static_cast<unsigned int>(FS_NOCOW_FL)) | wanted;
  if (::ioctl(target, FS_IOC_SETFLAGS, &flags) != 0) throw_errno(errno, "set the flags", path);
}

double clone_file(int source, int target, const std::string& path) {
  const auto from = std::chrono::steady_clock::now();
  while (::ioctl(target, FICLONE, source) != 0) {
    if (errno != EINTR) throw_errno(errno, "clone", path);
  }
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - from).count();
}

std::optional<std::vector<uint8_t>> get_attribute(int fd, const std::string& name, const std::string& path) {
  std::vector<uint8_t> value(kAttributeBytesMax);
  const ssize_t length = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
  if (length < 0 && errno == ENODATA) return std::nullopt;
  if (length < 0) throw_errno(errno, "read the attribute " + name, path);
  value.resize(static_cast<size_t>(length));
  return value;
}

void set_attribute(int fd, const std::string& name, Bytes value, const std::string& path) {
  if (::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0) {
    throw_errno(errno, "write the attribute " + name, path);
  }
}

}  // namespace stillpoint
