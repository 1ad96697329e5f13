// Several scans over one overlay: a session that ships in passes, while the device changes between them.
#include <doctest/doctest.h>

#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "core/scan/scan.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/scan_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

// What a receiver has: the base's blocks, and over them all that was sent.
struct Shipped {
  std::map<uint64_t, Digest> sent;

  Digest of(const ScanWorld& world, uint64_t block) const {
    const auto at = sent.find(block);
    return at == sent.end() ? world.base->leaf(block) : at->second;
  }
};

// To zero by a trim or a write, to what it was in the base, to content that many have, or to new content.
void change(const ScanWorld& world, Random& random, const std::vector<uint8_t>& base_bytes,
            const std::vector<uint8_t>& same) {
  const uint32_t block_size = world.geometry.block_size;
  const uint64_t count = world.geometry.block_count();
  for (uint64_t i = 0; i < count;) {
    const uint64_t run = std::min(count - i, 1 + random.below(random.one_in(4) ? 150 : 3));
    const uint64_t offset = i * block_size;
    const uint64_t length = std::min(run * block_size, world.geometry.size_bytes - offset);
    const Bytes former = Bytes(base_bytes).subspan(offset, length);
    switch (random.below(8)) {
      case 0:
        world.device->zero(offset, length);
        break;
      case 1:
        world.device->write(offset, std::vector<uint8_t>(length));
        break;
      case 2:
        world.device->write(offset, former);
        break;
      case 3:
        world.device->write(offset, Bytes(same).first(std::min<size_t>(length, same.size())));
        break;
      case 4:
        world.device->write(offset, random.bytes(length));
        break;
      default:
        break;
    }
    i += run;
  }
}

}  // namespace

TEST_CASE("a scan compares with what an earlier one found: random devices, bases, ranges and passes") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (int round = 0; round < 16; round++) {
    const uint32_t block_size = 4096u << (round % 3 * 2);
    const uint64_t size_bytes = block_size * (65 + random.below(1000)) - random.below(2) * 100;
    INFO("round ", round, " size ", size_bytes, " block size ", block_size);
    const TemporaryDirectory images;
    std::shared_ptr<BlockSource> device;
    if (round % 2 == 0) {
      device = std::make_shared<MemoryDevice>(size_bytes);
    } else {
      OpenOptions options;
      options.write = options.create = true;
      options.size_bytes = size_bytes;
      device = BlockDevice::open(images / "image", options);
    }
    ScanWorld world(device, block_size);
    const std::vector<uint8_t> same = random.bytes(block_size);
    change(world, random, std::vector<uint8_t>(size_bytes), same);
    if (!random.one_in(4)) world.adopt();
    std::vector<uint8_t> base_bytes(size_bytes);
    device->read(0, base_bytes);

    Shipped shipped;
    for (int pass = 0; pass < 4; pass++) {
      ScanOptions options = world.options();
      if (random.one_in(2)) {
        const uint64_t middle = 1 + random.below(world.geometry.block_count() - 2);
        options.ranges = {{random.below(middle), middle}, {middle + 1, world.geometry.block_count()}};
      }
      std::map<uint64_t, Digest> expected;
      uint64_t again_bytes = 0;
      for (const BlockRange& range : options.ranges) {
        for (uint64_t i = range.begin; i < range.end; i++) {
          const Digest digest = kPlain.leaf_digest(world.block(i));
          if (digest == shipped.of(world, i)) continue;
          expected[i] = digest;
          const auto before = shipped.sent.find(i);
          if (before != shipped.sent.end() && !is_null(before->second) && !is_null(digest))
            again_bytes += world.geometry.block_length(i);
        }
      }
      Scan scan(options);
      REQUIRE(world.scan(scan) == expected);
      REQUIRE(scan.progress().changed_blocks == expected.size());
      REQUIRE(scan.progress().again_bytes == again_bytes);
      for (const auto& [block, digest] : expected) shipped.sent[block] = digest;
      world.check_overlay(shipped.sent);
      uint64_t differing_bytes = 0;
      for (const auto& [block, digest] : shipped.sent)
        differing_bytes += digest == world.base->leaf(block) ? 0 : world.geometry.block_length(block);
      REQUIRE(world.base->differing_bytes(*world.overlay) == differing_bytes);
      change(world, random, base_bytes, same);
    }
  }
}

TEST_CASE("a block that went back to the base's content is found again, as data, as zeros and as a hole") {
  const auto device = std::make_shared<MemoryDevice>(8 * 4096);
  ScanWorld world(device, 4096);
  const std::vector<uint8_t> former(4096, 1), other(4096, 2);
  for (const uint64_t block : {0, 1}) device->write(block * 4096, former);
  world.adopt();
  for (const uint64_t block : {0, 1, 2, 3}) device->write(block * 4096, other);
  {
    Scan scan(world.options());
    REQUIRE(world.scan(scan).size() == 4);
  }
  device->write(0, former);
  device->write(2 * 4096, std::vector<uint8_t>(4096));
  device->zero(3 * 4096, 4096);
  Scan scan(world.options());
  const auto found = world.scan(scan);
  REQUIRE(found ==
          std::map<uint64_t, Digest>{{0, kPlain.leaf_digest(former)}, {2, kNullDigest}, {3, kNullDigest}});
  CHECK(scan.progress().again_bytes == 4096);
  CHECK(world.base->root_with(*world.overlay) != world.base->generation().root);
}

TEST_CASE("a hole that was told already is passed over, whatever its size") {
  const TemporaryDirectory images;
  OpenOptions options;
  options.write = options.create = true;
  options.size_bytes = uint64_t{1} << 40;
  const auto device = std::shared_ptr(BlockDevice::open(images / "image", options));
  ScanWorld world(device, 65536);
  std::map<uint64_t, Digest> base;
  for (uint64_t i = 0; i < 100'000; i++) base[i] = checksum(Bytes());
  world.set_base(base);
  {
    Scan scan(world.options());
    REQUIRE(world.scan(scan).size() == base.size());
  }
  Scan scan(world.options());
  CHECK(scan.next() == nullptr);
  CHECK(scan.progress().scanned_bytes == options.size_bytes);
  CHECK(scan.progress().changed_blocks == 0);
}
