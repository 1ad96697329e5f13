#include "core/tap/files/tap_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

class PosixTapFile final : public TapFile {
 public:
  PosixTapFile(std::string path, int fd, bool named) : path_(std::move(path)), fd_(fd), named_(named) {}
  ~PosixTapFile() override { ::close(fd_); }

  const std::string& path() const override { return path_; }

  int read(uint64_t byte_offset, std::span<uint8_t> into) override {
    while (!into.empty()) {
      const ssize_t got = pread(fd_, into.data(), into.size(), static_cast<off_t>(byte_offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno;
      if (got == 0) {
        std::memset(into.data(), 0, into.size());
        return 0;
      }
      into = into.subspan(static_cast<size_t>(got));
      byte_offset += static_cast<uint64_t>(got);
    }
    return 0;
  }

  int write(uint64_t byte_offset, Bytes bytes) override {
    while (!bytes.empty()) {
      const ssize_t put = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(byte_offset));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return errno;
      bytes = bytes.subspan(static_cast<size_t>(put));
      byte_offset += static_cast<uint64_t>(put);
    }
    return 0;
  }

  int discard(uint64_t byte_offset, uint64_t byte_length) override {
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const int result = fallocate(fd_, mode, static_cast<off_t>(byte_offset), static_cast<off_t>(byte_length));
    return result == 0 ? 0 : errno;
  }

  int sync() override { return fdatasync(fd_) == 0 ? 0 : errno; }

  int remove() override {
    if (ftruncate(fd_, 0) != 0) return errno;
    if (!named_) return 0;
    if (unlink(path_.c_str()) != 0 && errno != ENOENT) return errno;
    return sync_directory();
  }

  int sync_directory() const {
    const std::string directory = std::filesystem::path(path_).parent_path().string();
    const int fd = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int result = fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    return result;
  }

 private:
  const std::string path_;
  const int fd_;
  const bool named_;
};

}  // namespace

std::unique_ptr<TapFile> TapFile::open_named(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) throw_errno(errno, "opening it", path);
  auto file = std::make_unique<PosixTapFile>(path, fd, true);
  if (const int error = file->sync_directory(); error != 0) throw_errno(error, "syncing its directory", path);
  return file;
}

std::unique_ptr<TapFile> TapFile::make(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) throw_errno(errno, "making it", path);
  return std::make_unique<PosixTapFile>(path, fd, true);
}

std::unique_ptr<TapFile> TapFile::open_existing(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return nullptr;
  if (fd < 0) throw_errno(errno, "opening it", path);
  return std::make_unique<PosixTapFile>(path, fd, true);
}

std::unique_ptr<TapFile> TapFile::open_unnamed(const std::string& directory) {
  int fd = ::open(directory.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    std::string name = directory + "/preserve-XXXXXX";
    fd = mkostemp(name.data(), O_CLOEXEC);
    if (fd >= 0) unlink(name.c_str());
  }
  if (fd < 0) throw_errno(errno, "making a file in it", directory);
  return std::make_unique<PosixTapFile>(directory, fd, false);
}

}  // namespace stillpoint
