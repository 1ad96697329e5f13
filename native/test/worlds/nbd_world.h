// Shared by the tests of the NBD server and its fuzz target: bytes of clients, and an export in memory with
// faults and delays.
#pragma once

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/nbd/wire/big_endian.h"
#include "core/nbd/wire/codec.h"

namespace stillpoint::test {

// Builds what a client says.
class NbdBytes : public std::vector<uint8_t> {
 public:
  template <class T>
  NbdBytes& be(T value) {
    uint8_t bytes[sizeof(T)];
    store_be(bytes, value);
    for (const uint8_t byte : bytes) push_back(byte);
    return *this;
  }
  NbdBytes& text(const std::string& text) {
    insert(end(), text.begin(), text.end());
    return *this;
  }
  NbdBytes& option(uint32_t number, const std::vector<uint8_t>& content = {}) {
    be(kNbdOptionMagic).be(number).be(static_cast<uint32_t>(content.size()));
    insert(end(), content.begin(), content.end());
    return *this;
  }
  // Data of INFO and GO.
  NbdBytes& info(const std::string& name, const std::vector<uint16_t>& infos = {}) {
    be(static_cast<uint32_t>(name.size())).text(name).be(static_cast<uint16_t>(infos.size()));
    for (const uint16_t info : infos) be(info);
    return *this;
  }
  // Data of LIST_META_CONTEXT and SET_META_CONTEXT.
  NbdBytes& contexts(const std::string& name, const std::vector<std::string>& queries) {
    be(static_cast<uint32_t>(name.size())).text(name).be(static_cast<uint32_t>(queries.size()));
    for (const std::string& query : queries) be(static_cast<uint32_t>(query.size())).text(query);
    return *this;
  }
  NbdBytes& request(NbdCommand command, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length) {
    return be(kNbdRequestMagic).be(flags).be(static_cast<uint16_t>(command)).be(cookie).be(offset).be(length);
  }
};

// Bytes in memory. Everything may be set while it is in use.
class TestExport : public NbdExport {
 public:
  explicit TestExport(uint64_t size_bytes) : bytes_(size_bytes) {
    properties_.size_bytes = size_bytes;
    properties_.block_size_min = 512;
    properties_.description = "in memory";
    properties_.contexts = {"base:allocation", "test:other"};
  }
  ~TestExport() override {
    if (running_ != 0) abort();  // who removed it was told that nothing runs
  }

  std::atomic<bool> would_wait{false};     // nothing is done at once
  std::atomic<uint32_t> slow_read_ms{0};   // where the first byte read lies in the first 4 KiB
  std::atomic<uint32_t> slow_write_ms{0};  // likewise
  std::atomic<int> read_error{0}, write_error{0}, flush_error{0}, zero_error{0};
  std::atomic<int> operations{0};

  const Properties& properties() const override { return properties_; }

  int read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept override {
    if (patience == Patience::immediate && (would_wait || (slow_read_ms != 0 && byte_offset < 4096)))
      return kWouldWait;
    const Running running(*this);
    if (byte_offset < 4096) sleep_ms(slow_read_ms);
    if (read_error != 0) return read_error;
    const std::lock_guard lock(mutex_);
    std::memcpy(into.data(), bytes_.data() + byte_offset, into.size());
    return 0;
  }
  int write(uint64_t byte_offset, Bytes bytes, bool, Patience patience) noexcept override {
    if (patience == Patience::immediate && (would_wait || (slow_write_ms != 0 && byte_offset < 4096)))
      return kWouldWait;
    const Running running(*this);
    if (byte_offset < 4096) sleep_ms(slow_write_ms);
    if (write_error != 0) return write_error;
    const std::lock_guard lock(mutex_);
    std::memcpy(bytes_.data() + byte_offset, bytes.data(), bytes.size());
    return 0;
  }
  int flush() noexcept override {
    const Running running(*this);
    return flush_error;
  }
  int trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept override {
    return zero(byte_offset, byte_length, {}, fua);
  }
  int zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options, bool) noexcept override {
    const Running running(*this);
    if (options.fast_only) return ENOTSUP;
    if (zero_error != 0) return zero_error;
    const std::lock_guard lock(mutex_);
    std::memset(bytes_.data() + byte_offset, 0, byte_length);
    return 0;
  }
  int cache(uint64_t, uint64_t) noexcept override { return 0; }
  int block_status(size_t context, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                   std::vector<NbdExtent>& extents) noexcept override {
    const Running running(*this);
    for (uint64_t done = 0; done < byte_length && extents_max > 0; --extents_max) {
      const uint64_t length = std::min<uint64_t>(byte_length - done, 65536 - (byte_offset + done) % 65536);
      extents.push_back({length, static_cast<uint32_t>((byte_offset + done) / 65536 % 2 + context * 4)});
      done += length;
    }
    return 0;
  }

 protected:
  struct Running {
    explicit Running(TestExport& owner) : served(owner) {
      ++served.running_;
      ++served.operations;
    }
    ~Running() { --served.running_; }
    TestExport& served;
  };
  static void sleep_ms(uint32_t ms) {
    if (ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  }

  Properties properties_;

 private:
  std::atomic<int> running_{0};
  std::mutex mutex_;
  std::vector<uint8_t> bytes_;
};

}  // namespace stillpoint::test
