#include <doctest/doctest.h>

#include <chrono>
#include <future>

#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "core/scan/reader.h"
#include "core/scan/scan.h"
#include "test/helpers/helpers.h"
#include "test/worlds/scan_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

// A device that is gone: every read after the first few fails with an error that no retry mends.
class VanishingDevice : public MemoryDevice {
 public:
  using MemoryDevice::MemoryDevice;
  void read(uint64_t byte_offset, std::span<uint8_t> into) override {
    if (reads_++ >= 3) throw NativeError("ENODEV", "gone", path(), static_cast<int64_t>(byte_offset));
    MemoryDevice::read(byte_offset, into);
  }

 private:
  std::atomic<int> reads_{0};
};

}  // namespace

TEST_CASE("bad sectors are found to the sector, and nothing else is lost") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (const uint32_t sector : {512u, 4096u}) {
    for (int round = 0; round < 20; round++) {
      const uint32_t block_size = 4096u << random.below(6);
      const auto device = std::make_shared<MemoryDevice>(
          ((1 + random.below(3 << 20)) + sector - 1) / sector * sector, sector);
      ScanWorld world(device, block_size);
      world.fill(random);
      const std::vector<uint8_t> content = [&] {
        std::vector<uint8_t> bytes(device->size_bytes());
        device->read(0, bytes);
        return bytes;
      }();
      const auto all = world.expected(world.options().ranges);

      std::set<uint64_t> bad_sectors, bad_blocks;
      for (uint64_t i = 0; i <= random.below(6); i++) {
        const uint64_t offset = random.below(device->size_bytes());
        const uint64_t length =
            1 + random.below(std::min<uint64_t>(device->size_bytes() - offset, uint64_t{3} * block_size));
        device->add_bad_range(offset, length);
        for (uint64_t s = offset / sector; s * sector < offset + length; s++) {
          bad_sectors.insert(s);
          bad_blocks.insert(s * sector / block_size);
        }
      }
      auto expected = all;
      for (const uint64_t block : bad_blocks) expected.erase(block);

      ScanOptions options = world.options();
      options.read_retries = 0;
      options.chunk_bytes = random.below(1 << 20);
      Scan scan(options);
      std::map<uint64_t, Digest> found;
      std::set<uint64_t> found_sectors, found_blocks;
      while (const auto chunk = scan.next()) {
        for (const ScanEntry& entry : chunk->entries()) found[entry.block_index] = entry.digest;
        for (const BadBlock& bad : chunk->bad_blocks()) {
          REQUIRE((found_blocks.empty() || *found_blocks.rbegin() < bad.block_index));
          found_blocks.insert(bad.block_index);
          const uint64_t begin = bad.block_index * block_size;
          REQUIRE(bad.bytes.size() == world.geometry.block_length(bad.block_index));
          uint64_t end_of_last = begin;
          for (const ByteRange& range : bad.bad_ranges) {
            REQUIRE(range.byte_offset >= end_of_last);
            REQUIRE(range.byte_length > 0);
            end_of_last = range.byte_offset + range.byte_length;
            REQUIRE(end_of_last <= begin + bad.bytes.size());
            for (uint64_t at = range.byte_offset; at < end_of_last; at += sector)
              found_sectors.insert(at / sector);
          }
          for (uint64_t at = begin; at < begin + bad.bytes.size(); at++) {
            const uint8_t wanted = bad_sectors.contains(at / sector) ? 0 : content[at];
            if (bad.bytes[at - begin] != wanted) FAIL("byte " << at);
          }
        }
      }
      REQUIRE(found == expected);
      REQUIRE(found_blocks == bad_blocks);
      REQUIRE(found_sectors == bad_sectors);
      REQUIRE(scan.progress().bad_bytes == bad_sectors.size() * sector);
      world.check_overlay(expected);
    }
  }
}

TEST_CASE("a range that a retry can read is not bad") {
  const auto device = std::make_shared<MemoryDevice>(1 << 20);
  Random random(1);
  ScanWorld world(device, 4096);
  world.fill(random);
  const auto expected = world.expected(world.options().ranges);
  device->add_bad_range(100'000, 512, 2);
  ScanOptions options = world.options();
  options.read_retries = 2;
  Scan scan(options);
  CHECK(world.scan(scan) == expected);
  CHECK(scan.progress().bad_bytes == 0);

  // One failure more than the retries: only the halves that it lies in are read again, and then it is
  // readable.
  device->clear_faults();
  device->add_bad_range(100'000, 512, 3);
  const std::atomic<bool> stopping{false};
  std::vector<uint8_t> bytes(65536);
  const uint64_t before = device->read_count();
  CHECK(read_what_is_readable(*device, 65536, bytes, 2, stopping).empty());
  CHECK(device->read_count() - before == 5);
}

TEST_CASE("a device that vanishes fails the scan") {
  const auto device = std::make_shared<VanishingDevice>(16 << 20);
  const ScanWorld world(device, 4096);
  Scan scan(world.options());
  for (int i = 0; i < 2; i++) CHECK(code_of([&] { scan.next(); }) == "ENODEV");
}

TEST_CASE("an image that is cut fails the scan: what is missing is neither bad sectors nor a hole") {
  const TemporaryDirectory directory;
  const std::string path = directory / "image";
  OpenOptions options;
  options.write = options.create = true;
  options.size_bytes = 8 << 20;
  Random random(1);
  BlockDevice::open(path, options)->write(0, random.bytes(8 << 20));
  for (const uint64_t size : {uint64_t{0}, uint64_t{4 << 20}, uint64_t{(8 << 20) - 4000}}) {
    const ScanWorld world(BlockDevice::open(path, options), 65536);
    std::filesystem::resize_file(path, size);
    Scan scan(world.options());
    CHECK(code_of([&] {
            while (scan.next()) {
            }
          }) == "ETRUNCATED");
    CHECK(scan.progress().bad_bytes == 0);
  }
}

TEST_CASE("cancel ends a scan at once, whatever it waits for") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const auto device = std::make_shared<MemoryDevice>(32 << 20);
  ScanWorld world(device, 4096);
  world.fill(random);
  std::promise<void> stopped;
  ScanOptions options = world.options();
  options.memory_bytes = 2 << 20;
  auto scan = std::make_unique<Scan>(options, [&] { stopped.set_value(); });

  SUBCASE("readers wait for memory") {
    while (scan->progress().changed_blocks == 0) std::this_thread::yield();
  }
  SUBCASE("next waits for slow reads") {
    device->set_read_delay_ms(20);
    while (scan->next() && scan->progress().read_bytes < 8 << 20) continue;
  }
  SUBCASE("at the end") {
    while (scan->next()) continue;
  }
  std::promise<std::string> code;
  scan->cancel();
  scan->next([&](const std::shared_ptr<ScanChunk>&, const std::exception_ptr& failure) {
    code.set_value(code_of([&] { std::rethrow_exception(failure); }));
  });
  CHECK(code.get_future().get() == "cancelled");
  stopped.get_future().wait();
  scan.reset();
  // Only the test holds the inputs now.
  CHECK(device.use_count() == 3);
}

TEST_CASE("a scan that is dropped answers who waits, and chunks outlive it") {
  Random random(3);
  const auto device = std::make_shared<MemoryDevice>(8 << 20);
  ScanWorld world(device, 4096);
  world.fill(random);
  const auto expected = world.expected(world.options().ranges);
  ScanOptions options = world.options();
  options.chunk_bytes = 1 << 20;
  auto scan = std::make_unique<Scan>(options);
  const auto chunk = scan->next();
  device->set_read_delay_ms(50);
  std::vector<std::future<std::string>> codes;
  for (int i = 0; i < 20; i++) {
    const auto code = std::make_shared<std::promise<std::string>>();
    codes.push_back(code->get_future());
    scan->next([code](const std::shared_ptr<ScanChunk>&, const std::exception_ptr& failure) {
      code->set_value(failure ? code_of([&] { std::rethrow_exception(failure); }) : "");
    });
  }
  scan.reset();
  for (auto& code : codes) {
    const std::string answer = code.get();
    CHECK((answer.empty() || answer == "cancelled"));
  }
  std::map<uint64_t, Digest> found;
  device->set_read_delay_ms(0);
  world.collect(*chunk, found);
  CHECK(!found.empty());
  CHECK(chunk->encode({Id{}, 1, 0, {}, 1}).size() > 1000);
}
