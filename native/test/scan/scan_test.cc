#include "core/scan/scan.h"

#include <doctest/doctest.h>

#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/scan_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

OpenOptions sparse_image(uint64_t size_bytes) {
  OpenOptions options;
  options.write = true;
  options.create = true;
  options.size_bytes = size_bytes;
  return options;
}

// Writes random blocks; some of zeros, some equal to others.
void change_blocks(const ScanWorld& world, Random& random, uint64_t one_in) {
  const std::vector<uint8_t> same = random.bytes(world.geometry.block_size);
  for (uint64_t i = 0; i < world.geometry.block_count(); i++) {
    if (!random.one_in(one_in)) continue;
    const uint32_t length = world.geometry.block_length(i);
    const uint64_t kind = random.below(4);
    const uint64_t offset = i * world.geometry.block_size;
    if (kind == 0) {
      world.device->zero(offset, length);
    } else if (kind == 1) {
      world.device->write(offset, Bytes(same).first(length));
    } else {
      world.device->write(offset, random.bytes(length));
    }
  }
}

}  // namespace

TEST_CASE("a scan finds what a look at every block finds: random devices, bases, ranges and limits") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (int round = 0; round < 25; round++) {
    const uint32_t block_size = 4096u << (round % 5 * 2);
    const uint64_t size_bytes =
        random.below(uint64_t{block_size} * (block_size < 1 << 20 ? 200 : 6)) + random.below(2);
    INFO("size ", size_bytes, " block size ", block_size);
    const TemporaryDirectory images;
    std::shared_ptr<BlockSource> device;
    if (random.one_in(2)) {
      device = std::make_shared<MemoryDevice>(size_bytes);
    } else {
      device = BlockDevice::open(images / "image", sparse_image(size_bytes));
    }
    ScanWorld world(device, block_size);
    change_blocks(world, random, 2);
    if (!random.one_in(4)) {
      world.adopt();
      change_blocks(world, random, 1 + random.below(20));
    }
    ScanOptions options = world.options();
    if (random.one_in(3) && world.geometry.block_count() > 4) {
      const uint64_t middle = 1 + random.below(world.geometry.block_count() - 2);
      options.ranges = {{random.below(middle), middle},
                        {middle + random.below(2), world.geometry.block_count()}};
    }
    options.readers = static_cast<unsigned>(1 + random.below(6));
    options.memory_bytes = random.below(8 << 20);
    options.chunk_bytes = random.below(2 << 20);
    const auto expected = world.expected(options.ranges);
    uint64_t scanned_blocks = 0;
    for (const BlockRange& range : options.ranges) scanned_blocks += range.end - range.begin;

    Scan scan(options);
    const auto found = world.scan(scan);
    REQUIRE(found == expected);
    world.check_overlay(expected);
    const ScanProgress progress = scan.progress();
    REQUIRE(progress.changed_blocks == expected.size());
    REQUIRE(progress.bad_bytes == 0);
    REQUIRE(progress.scanned_bytes <= size_bytes);
    REQUIRE(progress.scanned_bytes + block_size > std::min(scanned_blocks * block_size, size_bytes));
    REQUIRE(progress.read_bytes <= progress.scanned_bytes);
    REQUIRE(scan.next() == nullptr);
  }
}

TEST_CASE("a hole is not read: unchanged where the base is NULL too, zeros where it is not") {
  const TemporaryDirectory images;
  constexpr uint64_t kSize = uint64_t{4} << 40;
  const auto device = std::shared_ptr(BlockDevice::open(images / "image", sparse_image(kSize)));
  ScanWorld world(device, 65536);
  const uint64_t last = world.geometry.block_count() - 1;
  const std::vector<uint8_t> bytes(65536, 5);
  device->write(uint64_t{1000} * 65536, bytes);
  device->write(last * 65536, bytes);
  const Digest digest = kPlain.leaf_digest(bytes);
  const Digest other = checksum(bytes);
  std::map<uint64_t, Digest> base{{1000, digest}, {500'000, other}, {500'001, other}, {500'003, other}};
  for (uint64_t i = 0; i < 200'000; i++) base[7'000'000 + i] = other;
  world.set_base(base);

  Scan scan(world.options());
  const auto chunk = scan.next();
  REQUIRE(chunk != nullptr);
  REQUIRE(chunk->entries().size() == 4);
  CHECK(chunk->entries()[0].block_index == 500'000);
  CHECK(chunk->entries()[0].block_count == 2);
  CHECK(chunk->entries()[1].block_count == 1);
  CHECK(chunk->entries()[2].block_index == 7'000'000);
  CHECK(chunk->entries()[2].block_count == 200'000);
  CHECK(chunk->entries()[3].block_index == last);
  CHECK(chunk->entries()[3].digest == digest);
  CHECK(scan.next() == nullptr);
  CHECK(scan.progress().read_bytes == 2 * 65536);
  CHECK(scan.progress().scanned_bytes == kSize);
  CHECK(scan.progress().changed_blocks == 200'004);
  CHECK(scan.progress().zero_blocks == last - 1);
  CHECK(world.overlay->present_count() == 200'004);
}

TEST_CASE(
    "a chunk ends where a batch must: zeroed blocks, entries, bytes; and nothing is lost between chunks") {
  const auto budget = std::make_shared<ScanBudget>();
  ChunkAssembler::Ready ready;
  ChunkAssembler assembler(1 << 20);
  SUBCASE("zeroed blocks, neighbours joined") {
    const uint64_t runs = kBatchZeroBlocksMax / 65536 + 2;
    for (uint64_t i = 0; i < runs; i++)
      assembler.append({{{i * 65536, 65536, kNullDigest, {}}}, {}, nullptr}, ready);
    assembler.close_chunk(ready);
    REQUIRE(ready.size() == 2);
    REQUIRE(ready[0]->entries().size() == 1);
    CHECK(ready[0]->entries()[0].block_count == kBatchZeroBlocksMax);
    REQUIRE(ready[1]->entries().size() == 1);
    CHECK(ready[1]->entries()[0].block_index == kBatchZeroBlocksMax);
    CHECK(ready[1]->entries()[0].block_count == 2 * 65536);
    const TreeGeometry geometry{runs * 65536 * 4096, 4096};
    for (const auto& chunk : ready) {
      CHECK(parse_batch(chunk->encode({Id{}, 1, 0, {}, 1}), {Id{}, 1, geometry, kPlain}).entries.size() == 1);
    }
  }
  SUBCASE("entries") {
    for (uint64_t i = 0; i < kBatchEntriesMax + 10; i++)
      assembler.append({{{2 * i, 1, kNullDigest, {}}}, {}, nullptr}, ready);
    assembler.close_chunk(ready);
    REQUIRE(ready.size() == 2);
    CHECK(ready[0]->entries().size() == kBatchEntriesMax);
    CHECK(ready[1]->entries().size() == 10);
  }
  SUBCASE("bytes, of changed and of bad blocks, in block order") {
    constexpr uint64_t kBlock = 128 << 10;
    for (uint64_t i = 0; i < 10; i++) {
      ScannedSegment segment;
      budget->used_bytes += 2 * kBlock;
      segment.held = std::make_shared<HeldBytes>(budget, AlignedBuffer(2 * kBlock), 2 * kBlock);
      const Bytes bytes(segment.held->data(), kBlock);
      segment.entries.push_back({2 * i + 1, 1, checksum(Bytes{}), bytes});
      segment.bad_blocks.push_back({2 * i, bytes, {{2 * i * kBlock, 512}}});
      assembler.append(std::move(segment), ready);
    }
    assembler.close_chunk(ready);
    REQUIRE(ready.size() == 3);
    for (const size_t i : {0, 1, 2}) {
      CHECK(ready[i]->bad_blocks().size() == (i < 2 ? 4 : 2));
      CHECK(ready[i]->entries().size() == (i < 2 ? 4 : 2));
      CHECK(ready[i]->bad_blocks().front().block_index == 8 * i);
    }
    CHECK(budget->used_bytes == 20 * kBlock);
    ready.clear();
    CHECK(budget->used_bytes == 0);
  }
}

TEST_CASE("memory stays bounded while nobody pulls, and the scan goes on when somebody does") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  // One changed block of 4 KiB in each 256 KiB: what is held must be that block, not its segment.
  const auto device = std::make_shared<MemoryDevice>(64 << 20);
  ScanWorld world(device, 4096);
  world.fill(random);
  world.adopt();
  for (uint64_t i = 5; i < world.geometry.block_count(); i += 64) device->write(i * 4096, random.bytes(4096));
  const auto expected = world.expected(world.options().ranges);
  REQUIRE(expected.size() == 256);

  ScanOptions options = world.options();
  options.memory_bytes = 1;  // raised to what the pipeline needs: 4 MiB
  options.chunk_bytes = 64 << 10;
  SUBCASE("few changes") {
    Scan scan(options);
    CHECK(world.scan(scan) == expected);
  }
  SUBCASE("everything changed") {
    world.fill(random);
    Scan scan(options);
    // It comes to rest: no reader may go on.
    uint64_t before = 0;
    do {
      before = scan.progress().changed_blocks;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } while (scan.progress().changed_blocks != before || before == 0);
    CHECK(before * 4096 <= 4 << 20);
    std::vector<std::shared_ptr<ScanChunk>> kept{scan.next(), scan.next()};
    for (const auto& chunk : kept) CHECK(chunk->raw_bytes() <= (64 << 10));
    kept.clear();  // dropped without release(): given back all the same
    std::map<uint64_t, Digest> found;
    while (const auto chunk = scan.next()) world.collect(*chunk, found);
    CHECK(scan.progress().changed_blocks == world.geometry.block_count());
  }
}

TEST_CASE("a chunk becomes a batch that decodes to the device's content") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const auto device = std::make_shared<MemoryDevice>((20 << 12) + 100);
  ScanWorld world(device, 4096);
  world.set_base({{3, checksum(Bytes{})}, {4, checksum(Bytes{})}});
  const std::vector<uint8_t> twice = random.bytes(4096);
  for (const uint64_t i : {1, 7, 9}) device->write(i * 4096, twice);
  device->write(uint64_t{8} * 4096, random.bytes(4096));
  device->write(uint64_t{20} * 4096, random.bytes(100));
  const Id session{9, 9};
  const BatchBounds bounds{session, 5, world.geometry, kPlain};

  for (const int level : {0, 1, 3}) {
    for (const bool hold : {false, true}) {
      ScanOptions options = world.options();
      options.overlay.reset();
      Scan scan(options);
      const auto chunk = scan.next();
      REQUIRE(chunk->entries().size() == 6);
      REQUIRE(chunk->payload_count() == 5);
      CHECK(code_of([&] { chunk->encode({session, 5, 77, {}, level}); }) == "");
      CHECK(code_of([&] { chunk->encode({session, 5, 77, {}, level}); }) == "closed");

      Scan again(options);
      const auto other = again.next();
      // Payload entries in order: blocks 1, 7, 8, 9, 20; held: 1 and 8.
      const std::vector<uint8_t> held = hold ? std::vector<uint8_t>{0b00101} : std::vector<uint8_t>{};
      const ByteVector body = other->encode({session, 5, 77, held, level});
      const BatchView view = decode_batch(body, bounds, ThreadPool::shared());
      REQUIRE(view.entries.size() == 6);
      CHECK(view.records.size() == (hold ? 2 : 3));
      const uint64_t indexes[] = {1, 3, 7, 8, 9, 20};
      for (size_t i = 0; i < 6; i++) {
        const BatchEntry& entry = view.entries[i];
        CHECK(entry.block_index == indexes[i]);
        CHECK(entry.block_count == (i == 1 ? 2 : 1));
        const bool is_held = hold && (entry.block_index == 1 || entry.block_index == 8);
        CHECK(entry.kind == (i == 1 ? EntryKind::zero : is_held ? EntryKind::held : EntryKind::payload));
        CHECK(entry.digest == kPlain.leaf_digest(world.block(entry.block_index)));
        if (entry.kind == EntryKind::payload)
          CHECK(view.records[entry.record_ordinal].digest == entry.digest);
      }
    }
  }
  Scan scan(world.options());
  const auto chunk = scan.next();
  EncodeOptions short_held{session, 5, 77, {}, 1};
  short_held.held.resize(0);
  chunk->release();
  chunk->release();
  CHECK(code_of([&] { chunk->encode(short_held); }) == "closed");
}

TEST_CASE("a chunk is cut where the bytes that are sent reach the limit; both parts keep what they need") {
  Random random(random_seed());
  const auto device = std::make_shared<MemoryDevice>(20 << 12);
  ScanWorld world(device, 4096);
  world.set_base({{3, checksum(Bytes{})}, {12, checksum(Bytes{})}});
  for (const uint64_t i : {1, 7, 8, 9, 15}) device->write(i * 4096, random.bytes(4096));
  Scan scan(world.options());
  const auto chunk = scan.next();
  const auto indexes = [](const ScanChunk& part) {
    std::vector<uint64_t> list;
    for (const ScanEntry& entry : part.entries()) list.push_back(entry.block_index);
    return list;
  };
  REQUIRE(indexes(*chunk) == std::vector<uint64_t>{1, 3, 7, 8, 9, 12, 15});
  CHECK(code_of([&] { chunk->split(1, {}); }) == "");
  CHECK(code_of([&] { chunk->split(1, {}); }) == "closed");

  // Into an overlay of its own: in the same one, they would be known.
  ScanOptions anew = world.options();
  anew.overlay = nullptr;
  Scan again(anew);
  const auto whole = again.next();
  // Payload entries in order: blocks 1, 7, 8, 9, 15; held: 7.
  const auto [first, rest] = whole->split(2 * 4096, {0b00010});
  CHECK(indexes(*first) == std::vector<uint64_t>{1, 3, 7, 8});
  REQUIRE(rest != nullptr);
  CHECK(indexes(*rest) == std::vector<uint64_t>{9, 12, 15});
  CHECK(first->payload_count() == 3);
  CHECK(first->raw_bytes() == 3 * 4096);
  CHECK(rest->payload_count() == 2);
  CHECK(whole->entries()[0].bytes.empty());
  const auto [second, third] = rest->split(0, {0});
  CHECK(indexes(*second) == std::vector<uint64_t>{9, 12});
  CHECK(indexes(*third) == std::vector<uint64_t>{15});
  std::map<uint64_t, Digest> found;
  world.collect(*first, found);
  world.collect(*second, found);
  const auto [last, nothing] = third->split(UINT64_MAX, {});
  CHECK(nothing == nullptr);
  world.collect(*last, found);
  CHECK(found.size() == 7);
  const ByteVector body = second->encode({Id{9}, 1, 77, {}, 1});
  CHECK(decode_batch(body, {Id{9}, 1, world.geometry, kPlain}, ThreadPool::shared()).entries.size() == 2);
}

TEST_CASE("a scan refuses what does not fit together") {
  const auto device = std::make_shared<MemoryDevice>(100'000);
  const ScanWorld world(device, 4096);
  ScanOptions options = world.options();
  options.device = std::make_shared<MemoryDevice>(100'001);
  CHECK(code_of([&] { Scan scan(options); }) == "geometry-mismatch");
  options = world.options();
  const TemporaryDirectory directory;
  options.overlay = LeafOverlay::create(directory / "other", {100'000, 8192}, kNullDigest);
  CHECK(code_of([&] { Scan scan(options); }) == "geometry-mismatch");
  for (const std::vector<BlockRange>& ranges : std::vector<std::vector<BlockRange>>{
           {{0, 26}}, {{3, 3}}, {{5, 4}}, {{0, 3}, {2, 4}}, {{5, 6}, {0, 1}}}) {
    options = world.options();
    options.ranges = ranges;
    CHECK(code_of([&] { Scan scan(options); }) == "argument");
  }
}
