#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "core/base/aligned_buffer.h"
#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

OpenOptions new_file(uint64_t size_bytes, bool direct = false) {
  OpenOptions options;
  options.write = true;
  options.create = true;
  options.size_bytes = size_bytes;
  options.direct = direct;
  return options;
}

OpenOptions read_only() { return {}; }

std::vector<uint8_t> read_all(BlockSource& device) {
  std::vector<uint8_t> bytes(device.size_bytes());
  device.read(0, bytes);
  return bytes;
}

}  // namespace

TEST_CASE("any range is read and written, buffered and direct, in files and memory") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const TemporaryDirectory directory;
  // The odd size leaves a tail that O_DIRECT can't reach.
  constexpr uint64_t kSize = (3 << 20) + 1234;
  std::vector<std::unique_ptr<BlockSource>> devices;
  devices.push_back(BlockDevice::open(directory / "buffered", new_file(kSize)));
  try {
    devices.push_back(BlockDevice::open(directory / "direct", new_file(kSize, true)));
    CHECK(devices.back()->direct());
  } catch (const NativeError& error) {
    REQUIRE(error.code() == "EINVAL");  // a temporary directory without O_DIRECT
  }
  devices.push_back(std::make_unique<MemoryDevice>(kSize));
  for (const auto& device : devices) {
    INFO(device->path());
    REQUIRE(device->size_bytes() == kSize);
    std::vector<uint8_t> model(kSize, 0);
    for (int round = 0; round < 200; round++) {
      uint64_t offset = random.below(kSize);
      uint64_t length =
          random.below(std::min<uint64_t>(kSize - offset, random.one_in(4) ? 2 << 20 : 20'000) + 1);
      if (random.one_in(2)) offset &= ~uint64_t{4095};
      if (random.one_in(4)) length = std::min<uint64_t>((length + 4095) & ~uint64_t{4095}, kSize - offset);
      if (random.one_in(5)) {
        device->zero(offset, length);
        std::memset(model.data() + offset, 0, length);
      } else if (random.one_in(2)) {
        const std::vector<uint8_t> bytes = random.bytes(length);
        device->write(offset, bytes);
        std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(offset));
      } else {
        // Aligned memory, or one byte beside it.
        const AlignedBuffer buffer(length + 1);
        const auto into = std::span(buffer.data() + random.below(2), length);
        device->read(offset, into);
        REQUIRE(std::equal(into.begin(), into.end(), model.begin() + static_cast<ptrdiff_t>(offset)));
      }
    }
    device->flush();
    device->drop_cache();
    REQUIRE(read_all(*device) == model);
  }
}

TEST_CASE("a file's holes are found, and zeroing makes them") {
  const TemporaryDirectory directory;
  const auto device = BlockDevice::open(directory / "image", new_file(8 << 20));
  CHECK(device->next_data(0) == device->size_bytes());
  CHECK(device->next_hole(0) == 0);
  const std::vector<uint8_t> bytes(1 << 20, 7);
  device->write(2 << 20, bytes);
  CHECK(device->next_data(0) == 2 << 20);
  CHECK(device->next_hole(2 << 20) == 3 << 20);
  CHECK(device->next_data(3 << 20) == device->size_bytes());
  device->zero((2 << 20) + (256 << 10), 512 << 10);
  CHECK(device->next_hole(2 << 20) == (2 << 20) + (256 << 10));
  CHECK(device->next_data(device->size_bytes()) == device->size_bytes());
}

TEST_CASE("what can't be opened says why, and leaves nothing behind") {
  const TemporaryDirectory directory;
  CHECK(code_of([&] { BlockDevice::open(directory / "none", read_only()); }) == "ENOENT");
  CHECK(code_of([&] { BlockDevice::open(directory / ".", read_only()); }) == "EISDIR");
  CHECK(code_of([&] { BlockDevice::open("/dev/null", read_only()); }) == "ENOTBLK");
  REQUIRE(::mkfifo((directory / "fifo").c_str(), 0600) == 0);
  CHECK(code_of([&] { BlockDevice::open(directory / "fifo", read_only()); }) == "ENOTBLK");

  CHECK(code_of([&] { BlockDevice::open(directory / "huge", new_file(uint64_t{1} << 62)); }) == "EFBIG");
  OpenOptions no_size = new_file(1);
  no_size.size_bytes.reset();
  CHECK(code_of([&] { BlockDevice::open(directory / "no size", no_size); }) == "argument");
  CHECK_FALSE(std::filesystem::exists(directory / "huge"));
  CHECK_FALSE(std::filesystem::exists(directory / "no size"));
}

TEST_CASE("ranges outside, writes without leave and files that shrank are errors that name the place") {
  const TemporaryDirectory directory;
  const std::string path = directory / "image";
  BlockDevice::open(path, new_file(100'000));
  const auto device = BlockDevice::open(path, read_only());
  std::vector<uint8_t> bytes(1000);
  CHECK(code_of([&] { device->read(99'001, bytes); }) == "argument");
  CHECK(code_of([&] { device->read(~uint64_t{0}, bytes); }) == "argument");
  CHECK(code_of([&] { device->zero(1, 100'000); }) == "argument");
  CHECK(code_of([&] { device->write(0, bytes); }) == "EBADF");
  REQUIRE(::truncate(path.c_str(), 50'500) == 0);
  try {
    device->read(50'000, bytes);
    FAIL("a short read is an error");
  } catch (const NativeError& error) {
    CHECK(error.code() == "ETRUNCATED");
    CHECK(error.path() == path);
    CHECK(error.byte_offset() == 50'500);
  }
}

TEST_CASE("what is behind the end of a file that was cut is no hole, and is not written") {
  const TemporaryDirectory directory;
  const std::string path = directory / "image";
  const auto device = BlockDevice::open(path, new_file(1 << 20));
  device->write(0, std::vector<uint8_t>(1 << 20, 7));
  REQUIRE(device->look_at_cached(512 << 10, 4096, [](Bytes) {}));
  REQUIRE(::truncate(path.c_str(), (512 << 10) + 100) == 0);
  CHECK(device->next_data(0) == 0);
  CHECK(code_of([&] { device->next_hole(0); }) == "ETRUNCATED");
  CHECK(code_of([&] { device->next_data(600 << 10); }) == "ETRUNCATED");
  CHECK(code_of([&] { device->next_hole(600 << 10); }) == "ETRUNCATED");
  // Its page is there, and the rest of it reads as zeros.
  CHECK_FALSE(device->look_at_cached(512 << 10, 4096, [](Bytes) {}));
  CHECK(device->look_at_cached(512 << 10, 100, [](Bytes) {}));
  CHECK(code_of([&] { device->flush(); }) == "ETRUNCATED");
}

TEST_CASE("a fresh device reads the same, with or without O_DIRECT, and maps nothing") {
  const TemporaryDirectory directory;
  const std::string path = directory / "image";
  std::vector<uint8_t> bytes(100'001);
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(i * 7);
  BlockDevice::open(path, new_file(bytes.size()))->write(0, bytes);
  for (const std::optional<bool> direct : {std::optional<bool>(), std::optional(false)}) {
    OpenOptions options = read_only();
    options.fresh = true;
    options.direct = direct;
    const auto device = BlockDevice::open(path, options);
    CHECK(read_all(*device) == bytes);
    CHECK_FALSE(device->look_at_cached(0, 4096, [](Bytes) {}));
  }
}

TEST_CASE("an existing image is set to the size that create names, and kept otherwise") {
  const TemporaryDirectory directory;
  const std::string path = directory / "image";
  const std::vector<uint8_t> bytes(5000, 9);
  BlockDevice::open(path, new_file(5000))->write(0, bytes);
  CHECK(read_all(*BlockDevice::open(path, new_file(5000))) == bytes);
  const auto grown = BlockDevice::open(path, new_file(9000));
  CHECK(grown->size_bytes() == 9000);
  CHECK(is_all_zero(Bytes(read_all(*grown)).subspan(5000)));
  CHECK(std::filesystem::file_size(path) == 9000);
}

TEST_CASE("a file that somebody has open for writing is told from one that nobody has") {
  const TemporaryDirectory directory;
  const std::string path = directory / "image";
  {
    const auto writer = BlockDevice::open(path, new_file(4096));
    CHECK(is_open_for_writing(path));
  }
  CHECK_FALSE(is_open_for_writing(path));
  const auto reader = BlockDevice::open(path, read_only());
  CHECK_FALSE(is_open_for_writing(path));
  CHECK(code_of([&] { is_open_for_writing(directory / "none"); }) == "ENOENT");
}

TEST_CASE("a memory device fails where and as often as it is told") {
  MemoryDevice device(1 << 20, 4096);
  std::vector<uint8_t> bytes(8192);
  device.add_bad_range(8192, 512, 2);
  device.read(0, bytes);
  for (int i = 0; i < 2; i++) CHECK(code_of([&] { device.read(4096, bytes); }) == "EIO");
  device.read(4096, bytes);
  device.add_bad_range(0, 1);
  device.add_bad_write_range(100, 1);
  for (int i = 0; i < 5; i++) CHECK(code_of([&] { device.read(0, bytes); }) == "EIO");
  CHECK(code_of([&] { device.write(0, bytes); }) == "EIO");
  CHECK(code_of([&] { device.zero(100, 1); }) == "EIO");
  device.write(101, bytes);
  device.clear_faults();
  device.read(0, bytes);
  device.write(0, bytes);
}
