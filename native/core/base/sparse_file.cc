#include "core/base/sparse_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {

SparseFile SparseFile::create(const std::string& path, uint64_t length) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) throw_errno(errno, "create", path);
  SparseFile file(path, fd, /*remove_on_close=*/true);
  if (ftruncate(fd, static_cast<off_t>(length)) != 0) throw_errno(errno, "set size", path);
  file.map(length);
  return file;
}

SparseFile SparseFile::open(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) throw_errno(errno, "open", path);
  SparseFile file(path, fd, /*remove_on_close=*/false);
  struct stat status;
  if (fstat(fd, &status) != 0) throw_errno(errno, "stat", path);
  file.map(static_cast<uint64_t>(status.st_size));
  return file;
}

SparseFile::SparseFile(std::string path, int fd, bool remove_on_close)
    : path_(std::move(path)), fd_(fd), remove_on_close_(remove_on_close) {}

SparseFile::SparseFile(SparseFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      remove_on_close_(std::exchange(other.remove_on_close_, false)),
      length_(std::exchange(other.length_, 0)),
      data_(std::exchange(other.data_, nullptr)) {}

SparseFile::~SparseFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), length_);
  if (remove_on_close_) unlink(path_.c_str());
  if (fd_ >= 0) close(fd_);
}

void SparseFile::map(uint64_t length) {
  if (length == 0) return;
  void* data = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) throw_errno(errno, "map", path_);
  data_ = static_cast<const uint8_t*>(data);
  length_ = length;
}

void SparseFile::read(uint64_t offset, std::span<uint8_t> into) const {
  while (!into.empty()) {
    const ssize_t got = pread(fd_, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(errno, "read", path_, static_cast<int64_t>(offset));
    if (got == 0)
      throw NativeError("tree-damaged", path_ + ": became shorter", path_, static_cast<int64_t>(offset));
    offset += static_cast<uint64_t>(got);
    into = into.subspan(static_cast<size_t>(got));
  }
}

void SparseFile::write(uint64_t offset, std::span<const uint8_t> bytes) const {
  while (!bytes.empty()) {
    ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_errno(errno, "write", path_, static_cast<int64_t>(offset));
    }
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void SparseFile::sync() const {
  if (fdatasync(fd_) != 0) throw_errno(errno, "sync", path_);
}

void SparseFile::commit_creation() {
  if (fsync(fd_) != 0) throw_errno(errno, "sync", path_);
  const std::string parent = std::filesystem::path(path_).parent_path();
  const std::string directory = parent.empty() ? "." : parent;
  int directory_fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_fd < 0) throw_errno(errno, "open", directory);
  int result = fsync(directory_fd);
  int error_number = errno;
  close(directory_fd);
  if (result != 0) throw_errno(error_number, "sync", directory);
  remove_on_close_ = false;
}

uint64_t SparseFile::next_data(uint64_t from, uint64_t end) const {
  if (from >= end) return end;
  off_t found = lseek(fd_, static_cast<off_t>(from), SEEK_DATA);
  if (found < 0) {
    if (errno == ENXIO) return end;
    return from;  // a file system that can't say: everything is data
  }
  return std::min(static_cast<uint64_t>(found), end);
}

uint64_t SparseFile::next_hole(uint64_t from, uint64_t end) const {
  if (from >= end) return end;
  off_t found = lseek(fd_, static_cast<off_t>(from), SEEK_HOLE);
  if (found < 0) return end;
  return std::min(static_cast<uint64_t>(found), end);
}

bool HoleCursor::in_hole(uint64_t from, uint64_t to) {
  if (from >= data_end_) {
    data_begin_ = file_.next_data(from, file_.length());
    data_end_ = file_.next_hole(data_begin_, file_.length());
  }
  return to <= data_begin_;
}

const uint8_t* DataReader::read(uint64_t from, uint64_t to) {
  if (from < window_begin_ || to > window_begin_ + window_.size()) {
    if (cursor_.in_hole(from, to)) return nullptr;
    window_begin_ = from;
    window_.resize(std::max(to, std::min(cursor_.data_end(), from + kWindowBytes)) - from);
    file_.read(from, window_);
  }
  return window_.data() + (from - window_begin_);
}

}  // namespace stillpoint
