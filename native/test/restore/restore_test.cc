#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "core/codec/batch.h"
#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "core/restore/restore_writer.h"
#include "core/tree/leaf_overlay.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr Id kPoint{1, 2, 3};

// A point of random blocks, about half of them zero, with a short tail.
struct Point {
  TemporaryDirectory directory;
  TreeGeometry geometry;
  std::map<uint64_t, std::vector<uint8_t>> blocks;
  std::shared_ptr<TreeFile> tree;

  Point(Random& random, uint64_t block_count, uint32_t block_size)
      : geometry{block_count * block_size - 700, block_size} {
    tree = TreeFile::create(directory / "tree", geometry, kPlain);
    const auto overlay = LeafOverlay::create(directory / "overlay", geometry, tree->generation().root);
    for (uint64_t i = 0; i < block_count; ++i) {
      if (random.one_in(2) && i != 0 && i + 1 != block_count) continue;
      blocks[i] = random.bytes(geometry.block_length(i));
      const Digest digest = kPlain.leaf_digest(blocks[i]);
      overlay->put(i, &digest, 1);
    }
    overlay->seal({kPoint, tree->root_with(*overlay)});
    tree->apply(*overlay);
  }

  ByteVector batch(const std::map<uint64_t, std::vector<uint8_t>>& contents) const {
    std::vector<ByteVector> records;
    std::vector<BatchSource> sources;
    for (const auto& [index, raw] : contents) {
      sources.push_back({index, static_cast<uint32_t>(records.size())});
      records.push_back(
          encode_record(RecordKind::block, kPlain.leaf_digest(raw), raw, static_cast<int>(index % 2)));
    }
    std::vector<RecordSource> record_sources;
    for (const ByteVector& record : records) record_sources.push_back({record, parse_record(record).digest});
    return encode_batch({kPoint, 0, 0}, sources, record_sources);
  }
};

void check_content(BlockSource& device, const Point& point) {
  std::vector<uint8_t> bytes(point.geometry.size_bytes);
  device.read(0, bytes);
  for (uint64_t i = 0; i < point.geometry.block_count(); ++i) {
    const Bytes found = Bytes(bytes).subspan(i * point.geometry.block_size, point.geometry.block_length(i));
    const auto expected = point.blocks.find(i);
    if (expected == point.blocks.end()) {
      REQUIRE(is_all_zero(found));
    } else {
      REQUIRE(std::equal(found.begin(), found.end(), expected->second.begin(), expected->second.end()));
    }
  }
}

}  // namespace

TEST_CASE("restore writes what the tree says, in memory and into a sparse image, and verifies it") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (const uint32_t block_size : {4096u, 65536u, 4u << 20}) {
    const Point point(random, block_size == 4u << 20 ? 6 : 300, block_size);
    OpenOptions options;
    options.write = true;
    options.create = true;
    options.size_bytes = point.geometry.size_bytes;
    const std::shared_ptr<BlockSource> devices[] = {
        std::make_shared<MemoryDevice>(point.geometry.size_bytes + 4096),
        BlockDevice::open(point.directory / "image", options)};
    const auto body = point.batch(point.blocks);
    for (const auto& device : devices) {
      RestoreWriter writer(device, point.tree, ThreadPool::shared());
      CHECK(writer.verify({}) == 0);
      uint64_t raw_bytes = 0;
      for (const auto& [index, raw] : point.blocks) raw_bytes += raw.size();
      CHECK(writer.write(body, kPoint) == raw_bytes);
      uint64_t done = 0;
      CHECK(writer.verify([&](uint64_t bytes) { done = bytes; }) == std::nullopt);
      CHECK(done == point.geometry.size_bytes);
      check_content(*device, point);

      // One wrong byte, in a block and in what should be zeros.
      const uint64_t hit = random.below(point.geometry.block_count());
      const uint64_t at = hit * block_size + random.below(point.geometry.block_length(hit));
      uint8_t byte = 0;
      device->read(at, {&byte, 1});
      const uint8_t wrong = byte ^ 0x40;
      device->write(at, {&wrong, 1});
      CHECK(writer.verify({}) == hit);
      device->write(at, {&byte, 1});
      CHECK(writer.verify({}) == std::nullopt);

      writer.zero(0, point.geometry.size_bytes);
      CHECK(writer.verify({}) == 0);
    }
  }
}

TEST_CASE("restore leaves the holes of a new image") {
  Random random(8);
  const Point point(random, 40, 4096);
  OpenOptions options;
  options.write = true;
  options.create = true;
  options.size_bytes = uint64_t{1} << 30;
  const std::string path = point.directory / "image";
  const auto device = std::shared_ptr<BlockSource>(BlockDevice::open(path, options));
  RestoreWriter writer(device, point.tree, ThreadPool::shared());
  writer.write(point.batch(point.blocks), kPoint);
  writer.flush();
  struct stat status;
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK(static_cast<uint64_t>(status.st_blocks) * 512 <= (point.blocks.size() + 1) * 4096);
}

TEST_CASE("restore writes no block that isn't the tree's") {
  Random random(9);
  const Point point(random, 50, 4096);
  const auto device = std::make_shared<MemoryDevice>(point.geometry.size_bytes);
  RestoreWriter writer(device, point.tree, ThreadPool::shared());
  auto contents = point.blocks;
  contents[0][5] ^= 1;
  CHECK(code_of([&] { writer.write(point.batch(contents), kPoint); }) == "bad-digest");
  std::vector<uint8_t> block(4096);
  device->read(0, block);
  CHECK(is_all_zero(block));

  // Right digests, wrong bytes: found when the record is decoded.
  auto body = point.batch(point.blocks);
  body[64 + point.blocks.size() * 56 + 80 + 10] ^= 1;
  const Digest sum = checksum(Bytes(body).first(body.size() - 32));
  std::copy(sum.begin(), sum.end(), body.end() - 32);
  CHECK(code_of([&] { writer.write(body, kPoint); }) == "bad-digest");
  device->read(0, block);
  CHECK(is_all_zero(block));

  CHECK(code_of([&] { writer.write(point.batch(point.blocks), Id{9}); }) == "bad-session");
  device->add_bad_write_range(0, 512);
  CHECK(code_of([&] { writer.write(point.batch(point.blocks), kPoint); }) == "EIO");
  const auto small = std::make_shared<MemoryDevice>(point.geometry.size_bytes - 1);
  CHECK(code_of([&] { RestoreWriter(small, point.tree, ThreadPool::shared()); }) == "geometry-mismatch");
}

TEST_CASE("verify ends when it is cancelled and passes read errors on") {
  Random random(10);
  const Point point(random, 50, 4096);
  const auto device = std::make_shared<MemoryDevice>(point.geometry.size_bytes);
  RestoreWriter writer(device, point.tree, ThreadPool::shared());
  writer.write(point.batch(point.blocks), kPoint);
  device->add_bad_range(8192, 512, 1);
  CHECK(code_of([&] { writer.verify({}); }) == "EIO");
  CHECK(writer.verify({}) == std::nullopt);
  writer.cancel();
  CHECK(code_of([&] { writer.verify({}); }) == "cancelled");
}
