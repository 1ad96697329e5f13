// What a load has written, in a file that outlives it: the history that the images of instants are judged by
// (programs/nbd_load.cc).
//
// One record for each write; its index is the write's number, from 1 on: number 0 is the zeros that were
// there at first. The file is mapped and shared, so that a record is in it before the write goes out and
// after the load was killed. A record whose begin is 0 is of a write that has not gone out; whose end is 0,
// one that was not answered, or failed.
//
// A sector that was written holds kSectorMagic ^ seed, the number, its index, the writer, and then the digest
// of all four in every word, so that no part of it can be of another write.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace stillpoint::test {

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kSectorMagic = 0x5354494c4c504e54;

using SectorWords = std::array<uint64_t, kSectorBytes / 8>;

enum class WriteKind : uint8_t { write, zero, trim };

struct LoadRecord {
  std::atomic<uint64_t> begin;  // CLOCK_MONOTONIC, nanoseconds
  std::atomic<uint64_t> end;
  uint32_t first_sector;
  uint16_t sector_count;
  WriteKind kind;
  uint8_t writer;
  uint64_t unused;
};
static_assert(sizeof(LoadRecord) == 32);

struct LoadHeader {
  uint64_t magic;
  uint64_t seed;
  std::atomic<uint64_t> count;  // of records, the one of number 0 included
};

inline uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// splitmix64
inline uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

inline SectorWords sector_words(uint64_t seed, uint64_t number, uint64_t sector, uint64_t writer) {
  SectorWords words;
  words.fill(mix(seed ^ mix(number ^ mix(sector ^ mix(writer)))));
  words[0] = kSectorMagic ^ seed;
  words[1] = number;
  words[2] = sector;
  words[3] = writer;
  return words;
}

class LoadLog {
 public:
  static constexpr uint64_t kRecordsMax = uint64_t{1} << 24;

  // Made if it is not there and `seed` is given.
  explicit LoadLog(const std::string& path, const uint64_t* seed = nullptr) {
    const int file = open(path.c_str(), O_RDWR | O_CLOEXEC | (seed != nullptr ? O_CREAT : 0), 0600);
    if (file < 0) throw std::runtime_error(path + ": " + std::strerror(errno));
    const bool sized = ftruncate(file, static_cast<off_t>(kBytes)) == 0;
    void* const at = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (!sized || at == MAP_FAILED) throw std::runtime_error(path + ": " + std::strerror(errno));
    header_ = static_cast<LoadHeader*>(at);
    records_ = reinterpret_cast<LoadRecord*>(static_cast<uint8_t*>(at) + kHeaderBytes);
    if (header_->magic == 0 && seed != nullptr) {
      header_->seed = *seed;
      header_->count = 1;
      header_->magic = kSectorMagic;
    }
    if (header_->magic != kSectorMagic) throw std::runtime_error(path + ": it is no log of a load");
  }
  ~LoadLog() { munmap(header_, kBytes); }
  LoadLog(const LoadLog&) = delete;
  LoadLog& operator=(const LoadLog&) = delete;

  uint64_t seed() const { return header_->seed; }
  uint64_t count() const { return std::min(header_->count.load(), kRecordsMax); }
  LoadRecord& operator[](uint64_t number) const { return records_[number]; }

  // The number of a write that begins now, or 0: the log is full.
  uint64_t begin(WriteKind kind, uint64_t first_sector, uint64_t sector_count, unsigned writer) {
    const uint64_t number = header_->count++;
    if (number >= kRecordsMax) return 0;
    LoadRecord& record = records_[number];
    record.first_sector = static_cast<uint32_t>(first_sector);
    record.sector_count = static_cast<uint16_t>(sector_count);
    record.kind = kind;
    record.writer = static_cast<uint8_t>(writer);
    record.begin = monotonic_ns();
    return number;
  }
  void end(uint64_t number) { records_[number].end = monotonic_ns(); }

 private:
  static constexpr uint64_t kHeaderBytes = 4096;
  static constexpr uint64_t kBytes = kHeaderBytes + kRecordsMax * sizeof(LoadRecord);

  LoadHeader* header_ = nullptr;
  LoadRecord* records_ = nullptr;
};

}  // namespace stillpoint::test
