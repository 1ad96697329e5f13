// A file of fixed length, mostly holes, read through a shared mapping and written through pwrite. TreeFile
// and LeafOverlay are built on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace stillpoint {

inline constexpr uint64_t kPageBytes = 4096;

inline constexpr uint64_t page_up(uint64_t bytes) { return (bytes + kPageBytes - 1) & ~(kPageBytes - 1); }

class SparseFile {
 public:
  // A new file, all hole. EEXIST if the path exists; removed again unless commit_creation() is reached.
  static SparseFile create(const std::string& path, uint64_t length);
  // The length is the file's: compare it before anything in the mapping is believed.
  static SparseFile open(const std::string& path);

  SparseFile(SparseFile&& other) noexcept;
  SparseFile(const SparseFile&) = delete;
  SparseFile& operator=(SparseFile&&) = delete;
  SparseFile& operator=(const SparseFile&) = delete;
  ~SparseFile();

  const std::string& path() const { return path_; }
  uint64_t length() const { return length_; }
  const uint8_t* data() const { return data_; }

  // Without the mapping: for bytes that may lie in a hole.
  void read(uint64_t offset, std::span<uint8_t> into) const;
  void write(uint64_t offset, std::span<const uint8_t> bytes) const;
  void sync() const;
  // Syncs the file and its directory; from here on it stays.
  void commit_creation();

  // First offset in [from, end) that is not in a hole, or end.
  uint64_t next_data(uint64_t from, uint64_t end) const;
  // First offset in [from, end) that is in a hole, or end.
  uint64_t next_hole(uint64_t from, uint64_t end) const;

 private:
  SparseFile(std::string path, int fd, bool remove_on_close);
  void map(uint64_t length);

  std::string path_;
  int fd_;
  bool remove_on_close_;
  uint64_t length_ = 0;
  const uint8_t* data_ = nullptr;
};

// Answers for ascending ranges whether they lie in a hole, with two system calls an extent.
class HoleCursor {
 public:
  explicit HoleCursor(const SparseFile& file) : file_(file) {}
  bool in_hole(uint64_t from, uint64_t to);
  // After in_hole: of the data that it found.
  uint64_t data_end() const { return data_end_; }

 private:
  const SparseFile& file_;
  uint64_t data_begin_ = 0;
  uint64_t data_end_ = 0;
};

// Reads ranges of at most kWindowBytes that ascend, the data among them in larger pieces. Not through the
// mapping, of which the kernel counts each page as the process's memory, and its neighbours too.
class DataReader {
 public:
  static constexpr uint64_t kWindowBytes = 16384;

  explicit DataReader(const SparseFile& file) : file_(file), cursor_(file) {}
  // Valid until the next call; null: a hole.
  const uint8_t* read(uint64_t from, uint64_t to);

 private:
  const SparseFile& file_;
  HoleCursor cursor_;
  std::vector<uint8_t> window_;
  uint64_t window_begin_ = 0;
};

}  // namespace stillpoint
