#include "core/device/memory_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "core/base/error.h"

namespace stillpoint {

MemoryDevice::MemoryDevice(uint64_t size_bytes, uint32_t logical_sector_size)
    : size_bytes_(size_bytes), logical_sector_size_(logical_sector_size) {
  if (size_bytes == 0) return;
  void* const memory =
      ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw_errno(errno, "map " + std::to_string(size_bytes) + " bytes", path_);
  bytes_ = static_cast<uint8_t*>(memory);
}

MemoryDevice::~MemoryDevice() {
  if (bytes_ != nullptr) ::munmap(bytes_, size_bytes_);
}

void MemoryDevice::check_range(uint64_t byte_offset, uint64_t byte_length) const {
  if (byte_offset > size_bytes_ || byte_length > size_bytes_ - byte_offset) {
    throw NativeError("argument",
                      "bytes " + std::to_string(byte_offset) + " + " + std::to_string(byte_length) +
                          " lie outside the device of " + std::to_string(size_bytes_) + " bytes",
                      path_);
  }
}

void MemoryDevice::fail_if_bad(std::vector<BadRange>& ranges, const char* action, uint64_t byte_offset,
                               uint64_t byte_length) {
  std::lock_guard lock(mutex_);
  for (BadRange& range : ranges) {
    if (range.failures_left == 0 || byte_offset + byte_length <= range.byte_offset ||
        byte_offset >= range.byte_offset + range.byte_length) {
      continue;
    }
    if (range.failures_left != kForever) range.failures_left--;
    throw_errno(EIO, action, path_, static_cast<int64_t>(std::max(byte_offset, range.byte_offset)));
  }
}

void MemoryDevice::read(uint64_t byte_offset, std::span<uint8_t> into) {
  check_range(byte_offset, into.size());
  read_count_++;
  reads_in_flight_++;
  struct Ends {
    std::atomic<uint32_t>& reads_in_flight;
    ~Ends() { reads_in_flight--; }
  } const ends{reads_in_flight_};
  if (const uint32_t delay_ms = read_delay_ms_; delay_ms > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  }
  fail_if_bad(bad_reads_, "read", byte_offset, into.size());
  if (!into.empty()) std::memcpy(into.data(), bytes_ + byte_offset, into.size());
}

void MemoryDevice::write(uint64_t byte_offset, Bytes bytes) {
  check_range(byte_offset, bytes.size());
  fail_if_bad(bad_writes_, "write", byte_offset, bytes.size());
  if (!bytes.empty()) std::memcpy(bytes_ + byte_offset, bytes.data(), bytes.size());
}

void MemoryDevice::zero(uint64_t byte_offset, uint64_t byte_length) {
  check_range(byte_offset, byte_length);
  fail_if_bad(bad_writes_, "zero", byte_offset, byte_length);
  if (byte_length > 0) std::memset(bytes_ + byte_offset, 0, byte_length);
}

void MemoryDevice::add_bad_range(uint64_t byte_offset, uint64_t byte_length, uint64_t failures) {
  std::lock_guard lock(mutex_);
  bad_reads_.push_back({byte_offset, byte_length, failures});
}

void MemoryDevice::add_bad_write_range(uint64_t byte_offset, uint64_t byte_length) {
  std::lock_guard lock(mutex_);
  bad_writes_.push_back({byte_offset, byte_length, kForever});
}

void MemoryDevice::clear_faults() {
  std::lock_guard lock(mutex_);
  bad_reads_.clear();
  bad_writes_.clear();
}

}  // namespace stillpoint
