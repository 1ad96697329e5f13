// The same work with a digester that has a key: all parts agree, and none of them goes by plain digests.
#include <doctest/doctest.h>

#include "core/codec/batch.h"
#include "core/codec/pack_reader.h"
#include "core/device/memory_device.h"
#include "core/restore/restore_writer.h"
#include "core/scan/scan.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/scan_world.h"
#include "test/worlds/tree_model.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kBlocks = 300;
const Id kSession{7};

// A device of random blocks, zeros among them, whose size is no multiple of the block size.
std::shared_ptr<MemoryDevice> device_of(Random& random) {
  auto device = std::make_shared<MemoryDevice>(kBlocks * kBlock - 1024);
  for (uint64_t i = 0; i < kBlocks; ++i) {
    if (random.one_in(4)) continue;
    const auto bytes = random.bytes(i + 1 == kBlocks ? kBlock - 1024 : kBlock);
    device->write(i * kBlock, bytes);
  }
  return device;
}

// Scans all of the world's device, and puts what it found into its tree. The batches, in order.
std::vector<ByteVector> scan_into_base(ScanWorld& world) {
  std::vector<ByteVector> batches;
  Scan scan(world.options());
  while (const auto chunk = scan.next()) {
    batches.push_back(chunk->encode({kSession, batches.size() + 1, 0, {}, 1}));
  }
  world.overlay->seal({kScanPoint, world.base->root_with(*world.overlay)});
  world.base->apply(*world.overlay);
  return batches;
}

std::vector<BatchView> decode_all(const std::vector<ByteVector>& bodies, const ScanWorld& world,
                                  const Digester& digester) {
  std::vector<BatchView> batches;
  for (const ByteVector& body : bodies) {
    batches.push_back(
        decode_batch(body, {kSession, batches.size() + 1, world.geometry, digester}, ThreadPool::shared()));
  }
  return batches;
}

// What a store answers a restore: every block that is not zero.
ByteVector restore_body(const std::vector<BatchView>& batches) {
  BatchBuilder builder(kScanPoint, 0, 0);
  std::vector<BatchSource> blocks;
  std::vector<RecordSource> records;
  for (const BatchView& batch : batches) {
    for (const BatchEntry& entry : batch.entries) {
      if (entry.kind != EntryKind::payload) continue;
      blocks.push_back({entry.block_index, static_cast<uint32_t>(records.size())});
      records.push_back({batch.records[entry.record_ordinal].bytes, entry.digest});
    }
  }
  return encode_batch(std::move(builder), blocks, records);
}

}  // namespace

TEST_CASE("a digester with a key differs from the plain one in all but zeros, and keys from each other") {
  Random random(random_seed());
  const std::vector<uint8_t> bytes = random.bytes(5000);
  const std::vector<uint8_t> zeros(5000);
  const Digester other(Digester::Key{1});
  CHECK(kKeyed.leaf_digest(bytes) ==
        Digester(Digester::Key{'o', 'f', ' ', 't', 'e', 's', 't', 's'}).leaf_digest(bytes));
  for (const Digester& digester : {kPlain, other}) {
    CHECK(kKeyed.leaf_digest(bytes) != digester.leaf_digest(bytes));
    CHECK(kKeyed.node_digest(Bytes(bytes).first(64)) != digester.node_digest(Bytes(bytes).first(64)));
    CHECK(kKeyed.root_digest(1, 4096, kNullDigest) != digester.root_digest(1, 4096, kNullDigest));
  }
  CHECK(kKeyed.leaf_digest(Bytes(bytes).first(64)) != kKeyed.node_digest(Bytes(bytes).first(64)));
  CHECK(kKeyed.leaf_digest(zeros) == kKeyed.zero_digest(zeros.size()));
  CHECK(is_null(kKeyed.zero_digest(zeros.size())));
  CHECK(is_null(kKeyed.node_digest(Bytes(zeros).first(64))));
}

TEST_CASE("scan, tree, batches, packs and restore agree with a key, and not without it") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const auto device = device_of(random);
  ScanWorld world(device, kBlock, kKeyed);
  const std::map<uint64_t, Digest> expected = world.expected({{0, kBlocks}});
  const std::vector<ByteVector> bodies = scan_into_base(world);
  world.check_overlay(expected);
  for (const auto& [index, digest] : expected) REQUIRE(digest != kPlain.leaf_digest(world.block(index)));

  // Tree.
  Level leaves(expected.begin(), expected.end());
  const Digest root = world.base->generation().root;
  CHECK(root == model_root(world.geometry.size_bytes, kBlock, leaves, kKeyed));
  CHECK(root != model_root(world.geometry.size_bytes, kBlock, leaves, kPlain));
  CHECK(world.base->verify());
  CHECK(TreeFile::open(world.directory / "base", kKeyed)->verify());
  CHECK_FALSE(TreeFile::open(world.directory / "base", kPlain)->verify());
  CHECK(TreeFile::resize(*world.base, world.directory / "larger", 2 * world.geometry.size_bytes)->verify());

  // A scan that follows finds nothing; one that goes by a plain tree finds everything.
  world.new_overlay();
  {
    Scan again(world.options());
    CHECK(again.next() == nullptr);
  }
  ScanWorld plain(device, kBlock, kPlain);
  CHECK(scan_into_base(plain).size() == bodies.size());
  CHECK(plain.base->generation().root != root);

  // Batches and packs.
  const std::vector<BatchView> batches = decode_all(bodies, world, kKeyed);
  CHECK(code_of([&] { decode_all(bodies, world, kPlain); }) == "bad-digest");

  // Restore.
  const ByteVector body = restore_body(batches);
  const auto target = std::make_shared<MemoryDevice>(device->size_bytes());
  RestoreWriter writer(target, world.base, ThreadPool::shared());
  CHECK(writer.write(body, kScanPoint) > 0);
  CHECK(writer.verify({}) == std::nullopt);
  std::vector<uint8_t> before(device->size_bytes()), after(device->size_bytes());
  device->read(0, before);
  target->read(0, after);
  CHECK(before == after);
  RestoreWriter wrong(target, plain.base, ThreadPool::shared());
  CHECK(code_of([&] { wrong.write(body, kScanPoint); }) == "bad-digest");
  CHECK(code_of([&] {
          decode_blocks(body, {kScanPoint, 0, world.geometry, kPlain}, ThreadPool::shared());
        }) == "bad-digest");
}
