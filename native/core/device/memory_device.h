// A device in memory with faults, for tests of everything above it. Untouched parts cost no memory.
//
// Locking: mutex_ guards the faults. The bytes are as racy as a disk's: the caller must order concurrent
// writes and reads of one range.
#pragma once

#include <atomic>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "core/device/block_source.h"

namespace stillpoint {

class MemoryDevice : public BlockSource {
 public:
  static constexpr uint64_t kForever = std::numeric_limits<uint64_t>::max();

  explicit MemoryDevice(uint64_t size_bytes, uint32_t logical_sector_size = 512);
  ~MemoryDevice() override;

  const std::string& path() const override { return path_; }
  Type type() const override { return Type::memory; }
  uint64_t size_bytes() const override { return size_bytes_; }
  uint32_t logical_sector_size() const override { return logical_sector_size_; }
  bool direct() const override { return false; }

  void read(uint64_t byte_offset, std::span<uint8_t> into) override;
  void write(uint64_t byte_offset, Bytes bytes) override;
  void zero(uint64_t byte_offset, uint64_t byte_length) override;
  void flush() override {}
  uint64_t next_data(uint64_t from) override { return from; }
  uint64_t next_hole(uint64_t) override { return size_bytes_; }

  // Reads that touch the range fail with EIO; after `failures` of them they succeed again.
  void add_bad_range(uint64_t byte_offset, uint64_t byte_length, uint64_t failures = kForever);
  void add_bad_write_range(uint64_t byte_offset, uint64_t byte_length);
  void clear_faults();
  void set_read_delay_ms(uint32_t delay_ms) { read_delay_ms_ = delay_ms; }
  uint64_t read_count() const { return read_count_; }
  uint32_t reads_in_flight() const { return reads_in_flight_; }

 private:
  struct BadRange {
    uint64_t byte_offset;
    uint64_t byte_length;
    uint64_t failures_left;
  };

  void check_range(uint64_t byte_offset, uint64_t byte_length) const;
  void fail_if_bad(std::vector<BadRange>& ranges, const char* action, uint64_t byte_offset,
                   uint64_t byte_length);

  const std::string path_ = "memory";
  const uint64_t size_bytes_;
  const uint32_t logical_sector_size_;
  uint8_t* bytes_ = nullptr;
  std::atomic<uint32_t> read_delay_ms_{0};
  std::atomic<uint64_t> read_count_{0};
  std::atomic<uint32_t> reads_in_flight_{0};
  std::mutex mutex_;
  std::vector<BadRange> bad_reads_;
  std::vector<BadRange> bad_writes_;
};

}  // namespace stillpoint
