// A device or an image as an NBD export: what it says of itself, that it reads what was written, and exact
// zeros.
#include "core/nbd/exports/device_export.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

std::string make_image(const TemporaryDirectory& directory, uint64_t size_bytes) {
  const std::string path = directory / "image";
  std::ofstream(path).close();
  std::filesystem::resize_file(path, size_bytes);
  return path;
}

std::vector<uint8_t> read_all(DeviceExport& device) {
  std::vector<uint8_t> bytes(device.size_bytes());
  REQUIRE(device.read(0, bytes, Patience::may_wait) == 0);
  return bytes;
}

}  // namespace

TEST_CASE("device export: block size, locks, and what can't be opened") {
  const TemporaryDirectory directory;
  for (const auto& [size, block] :
       {std::pair<uint64_t, uint32_t>{1 << 20, 512}, {4096 + 256, 256}, {4097, 1}}) {
    const auto device = DeviceExport::open(make_image(directory, size), false);
    CHECK(device->size_bytes() == size);
    CHECK(device->properties().block_size_min == block);
    CHECK(code_of([&] { DeviceExport::open(directory / "image", true); }) == "EBUSY");
  }
  const auto read_only = DeviceExport::open(directory / "image", true);
  CHECK(read_only->properties().read_only);
  CHECK(code_of([&] { DeviceExport::open(directory / "nothing", false); }) == "ENOENT");
  CHECK(code_of([&] { DeviceExport::open(directory / "", true); }) == "EISDIR");
  REQUIRE(::mkfifo((directory / "fifo").c_str(), 0600) == 0);
  CHECK(code_of([&] { DeviceExport::open(directory / "fifo", true); }) == "ENOTBLK");
}

TEST_CASE("device export: any mixture of operations leaves what a model has") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=" << seed);
  Random random(seed);
  const TemporaryDirectory directory;
  constexpr uint64_t kSize = 1 << 20;
  const auto device = DeviceExport::open(make_image(directory, kSize), false);
  std::vector<uint8_t> model(kSize);
  for (int round = 0; round < 400; ++round) {
    const uint64_t offset = random.below(kSize);
    const uint64_t length =
        1 + random.below(random.one_in(3) ? kSize - offset : std::min<uint64_t>(kSize - offset, 9000));
    const bool fua = random.one_in(50);
    const auto at = model.begin() + static_cast<std::ptrdiff_t>(offset);
    const auto end = at + static_cast<std::ptrdiff_t>(length);
    switch (random.below(4)) {
      case 0: {
        const auto bytes = random.bytes(length);
        int error = device->write(offset, bytes, fua, Patience::immediate);
        if (error == kWouldWait) error = device->write(offset, bytes, fua, Patience::may_wait);
        REQUIRE(error == 0);
        std::copy(bytes.begin(), bytes.end(), at);
        break;
      }
      case 1: {
        const ZeroOptions options{random.one_in(2), random.one_in(3)};
        const int error = device->zero(offset, length, options, fua);
        REQUIRE((error == 0 || (options.fast_only && error == ENOTSUP)));
        if (error == 0) std::fill(at, end, uint8_t{0});
        break;
      }
      case 2: {
        REQUIRE(device->trim(offset, length, fua) == 0);
        // It may have been trimmed or not, in whole pages; what is around them stays.
        std::vector<uint8_t> now(length);
        REQUIRE(device->read(offset, now, Patience::may_wait) == 0);
        const uint64_t head = std::min((4096 - offset % 4096) % 4096, length);
        const uint64_t tail = std::max((offset + length) / 4096 * 4096, offset + head) - offset;
        CHECK(std::equal(at, at + static_cast<std::ptrdiff_t>(head), now.begin()));
        CHECK(std::equal(at + static_cast<std::ptrdiff_t>(tail), end,
                         now.begin() + static_cast<std::ptrdiff_t>(tail)));
        std::copy(now.begin(), now.end(), at);
        break;
      }
      default: {
        std::vector<uint8_t> now(length);
        int error = device->read(offset, now, Patience::immediate);
        if (error == kWouldWait) error = device->read(offset, now, Patience::may_wait);
        REQUIRE(error == 0);
        REQUIRE(std::equal(at, end, now.begin()));
      }
    }
  }
  CHECK(device->cache(0, kSize) == 0);
  CHECK(device->flush() == 0);
  CHECK(read_all(*device) == model);
}

TEST_CASE("device export: holes are told from data, a few at a time") {
  const TemporaryDirectory directory;
  constexpr uint64_t kStep = 1 << 20, kSteps = 8;
  const auto device = DeviceExport::open(make_image(directory, kSteps * kStep), false);
  const std::vector<uint8_t> ones(kStep, 1);
  for (uint64_t i = 1; i < kSteps; i += 2)
    REQUIRE(device->write(i * kStep, ones, false, Patience::may_wait) == 0);
  std::vector<NbdExtent> extents;
  REQUIRE(device->block_status(0, 0, kSteps * kStep, 100, extents) == 0);
  REQUIRE(extents.size() == kSteps);
  for (size_t i = 0; i < kSteps; ++i) {
    CHECK(extents[i].byte_length == kStep);
    CHECK(extents[i].flags == (i % 2 == 0 ? 3 : 0));
  }
  extents.clear();
  REQUIRE(device->block_status(0, kStep / 2, kSteps * kStep - kStep / 2, 3, extents) == 0);
  REQUIRE(extents.size() == 3);
  CHECK(extents[0].byte_length == kStep / 2);
  extents.clear();
  REQUIRE(device->block_status(0, kStep + 512, 1024, 3, extents) == 0);
  REQUIRE(extents.size() == 1);
  CHECK(extents[0].byte_length == 1024);
}

TEST_CASE("device export: an image that shrank, or that can't be written, is an error") {
  const TemporaryDirectory directory;
  const std::string path = make_image(directory, 1 << 20);
  const auto device = DeviceExport::open(path, true);
  std::vector<uint8_t> bytes(4096);
  CHECK(device->write(0, bytes, false, Patience::may_wait) == EBADF);
  CHECK(device->flush() == 0);
  std::filesystem::resize_file(path, 4096);
  CHECK(device->read(0, bytes, Patience::may_wait) == 0);
  CHECK(device->read(2048, bytes, Patience::may_wait) == kPastEnd);
}

TEST_CASE("device export: what is missing of an image that was cut is no hole, and no write brings it back") {
  const TemporaryDirectory directory;
  const std::string path = make_image(directory, 1 << 20);
  const auto device = DeviceExport::open(path, false);
  const std::vector<uint8_t> data(64 << 10, 7);
  REQUIRE(device->write(64 << 10, data, false, Patience::may_wait) == 0);
  std::filesystem::resize_file(path, 100 << 10);
  for (const Patience patience : {Patience::immediate, Patience::may_wait}) {
    CHECK(device->write(100 << 10, Bytes(data).first(4096), false, patience) == kPastEnd);
    CHECK(device->write((1 << 20) - 4096, Bytes(data).first(4096), true, patience) == kPastEnd);
  }
  for (const bool may_punch : {true, false})
    CHECK(device->zero(512 << 10, 4096, {may_punch, false}, false) == kPastEnd);
  CHECK(device->trim(512 << 10, 4096, false) == kPastEnd);
  CHECK(std::filesystem::file_size(path) == 100 << 10);
  // What is still there goes on.
  CHECK(device->write(96 << 10, Bytes(data).first(4096), false, Patience::may_wait) == 0);

  std::vector<NbdExtent> extents;
  REQUIRE(device->block_status(0, 0, 1 << 20, 100, extents) == 0);
  REQUIRE(extents.size() == 3);
  CHECK((extents[0].byte_length == 64 << 10 && extents[0].flags == 3));
  CHECK((extents[1].byte_length == 36 << 10 && extents[1].flags == 0));
  CHECK((extents[2].byte_length == (1 << 20) - (100 << 10) && extents[2].flags == 0));
  std::filesystem::resize_file(path, 32 << 10);  // in the middle of a hole
  extents.clear();
  REQUIRE(device->block_status(0, 0, 1 << 20, 100, extents) == 0);
  REQUIRE(extents.size() == 1);
  CHECK((extents[0].byte_length == 32 << 10 && extents[0].flags == 3));
  extents.clear();
  REQUIRE(device->block_status(0, 32 << 10, 32 << 10, 100, extents) == 0);
  REQUIRE(extents.size() == 1);
  CHECK((extents[0].byte_length == 32 << 10 && extents[0].flags == 0));
}

TEST_CASE("device export: it knows that it was cut, though it has grown again, and who else wrote") {
  const TemporaryDirectory directory;
  const std::string path = make_image(directory, 1 << 20);
  const auto device = DeviceExport::open(path, false);
  CHECK(device->write(0, std::vector<uint8_t>(4096, 1), true, Patience::may_wait) == 0);
  std::ifstream(path).get();
  CHECK(device->source_state().foreign_writers == 0);
  // By its path: without opening it.
  std::filesystem::resize_file(path, 4096);
  std::vector<uint8_t> bytes(4096);
  CHECK(device->read(8192, bytes, Patience::may_wait) == kPastEnd);
  std::filesystem::resize_file(path, 2 << 20);
  const SourceState cut = device->source_state();
  CHECK((cut.size_bytes == 2 << 20 && cut.least_bytes == 4096 && cut.foreign_writers == 0));
  std::ofstream(path, std::ios::in | std::ios::out).close();
  CHECK(device->source_state().foreign_writers == 1);
  CHECK(device->source_state().foreign_writers == 1);
}
