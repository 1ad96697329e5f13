// From the scan to what the receiver stores: chunks that know the base's pieces, and what comes out of their
// patches.
#include <doctest/doctest.h>

#include <map>

#include "core/base/little_endian.h"
#include "core/codec/patched_batch.h"
#include "core/device/memory_device.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/scan_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr Id kSession{5, 5};
using Blocks = std::map<uint64_t, std::vector<uint8_t>>;

// The blocks of the device as they are now, but for those of zeros.
Blocks contents(const ScanWorld& world) {
  Blocks blocks;
  for (uint64_t i = 0; i < world.geometry.block_count(); i++) {
    auto bytes = world.block(i);
    if (!is_all_zero(bytes)) blocks[i] = std::move(bytes);
  }
  return blocks;
}

ByteVector base_body(const Blocks& blocks) {
  BatchBuilder builder(kScanPoint, 0, 0);
  std::vector<ByteVector> records;
  for (const auto& [index, block] : blocks) {
    records.push_back(encode_record(RecordKind::block, kPlain.leaf_digest(block), block, 1));
  }
  size_t i = 0;
  for (const auto& [index, block] : blocks) {
    builder.add_payload(index, kPlain.leaf_digest(block), builder.add_record(records[i++]));
  }
  return builder.finish();
}

void add_pieces(std::vector<uint8_t>& pieces, Bytes block) {
  const size_t count = piece_count(block.size());
  const size_t at = pieces.size();
  pieces.resize(at + 2 + count * kPieceDigestBytes);
  store_le<uint16_t>(pieces.data() + at, static_cast<uint16_t>(count));
  PieceHasher(kSession).digest(block, pieces.data() + at + 2);
}

// Small writes anywhere, some blocks of zeros, some made equal to each other.
void change(const ScanWorld& world, Random& random) {
  const uint64_t size = world.geometry.size_bytes;
  for (uint64_t writes = 1 + random.below(30); writes > 0; writes--) {
    const uint64_t offset = random.below(size);
    world.device->write(offset, random.bytes(std::min<uint64_t>(size - offset, 1 + random.below(9000))));
  }
  const uint64_t blocks = size / world.geometry.block_size;
  if (blocks < 3) return;
  world.device->zero(random.below(blocks) * world.geometry.block_size, world.geometry.block_size);
  const auto same = world.block(random.below(blocks));
  if (same.size() == world.geometry.block_size)
    world.device->write(random.below(blocks) * world.geometry.block_size, same);
}

}  // namespace

TEST_CASE("what chunks send as patches is what the device holds: random devices, changes and answers") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  uint64_t patched_blocks_seen = 0;
  for (int round = 0; round < 40; round++) {
    const uint32_t block_size = 4096u << (round % 5 * 2);
    const uint64_t size_bytes = 1 + random.below(std::min<uint64_t>(uint64_t{block_size} * 40, 4u << 20));
    INFO("size ", size_bytes, " block size ", block_size);
    ScanWorld world(std::make_shared<MemoryDevice>(size_bytes), block_size);
    world.fill(random);
    world.adopt();
    const Blocks before = contents(world);
    const ByteVector base_bytes = base_body(before);
    change(world, random);
    const Blocks now = contents(world);

    Scan scan(world.options());
    uint64_t sequence = 0;
    while (const auto chunk = scan.next()) {
      EncodeOptions options{kSession, ++sequence, 77, {}, static_cast<int>(random.below(3)), {}};
      for (const ScanEntry& entry : chunk->entries()) {
        if (is_null(entry.digest)) continue;
        if (before.contains(entry.block_index) && !random.one_in(5)) {
          add_pieces(options.pieces, before.at(entry.block_index));
        } else {
          options.pieces.insert(options.pieces.end(), 2, 0);
        }
      }
      const std::vector<ScanEntry> entries = chunk->entries();
      const ByteVector body = chunk->encode(options);
      const BatchBounds bounds{kSession, sequence, world.geometry, kPlain};
      const BaseBlocks base{{base_bytes}, {kScanPoint, 0, world.geometry, kPlain}};
      CHECK(chunk->patch_statistics().patched_blocks ==
            patched_blocks(body, world.geometry.block_count()).size());
      patched_blocks_seen += chunk->patch_statistics().patched_blocks;
      const ByteVector whole = resolve_patches(body, bounds, base, ThreadPool::shared());
      const BatchView batch = decode_batch(whole, bounds, ThreadPool::shared());
      REQUIRE(batch.entries.size() == entries.size());
      std::vector<uint8_t> scratch(block_size);
      for (size_t i = 0; i < entries.size(); i++) {
        CHECK(batch.entries[i].block_index == entries[i].block_index);
        CHECK(batch.entries[i].digest == entries[i].digest);
        if (is_null(entries[i].digest)) continue;
        const Bytes raw =
            decode_record(batch.records[batch.entries[i].record_ordinal], kPlain, scratch.data());
        const auto& expected = now.at(entries[i].block_index);
        CHECK(std::equal(raw.begin(), raw.end(), expected.begin(), expected.end()));
      }
    }
  }
  CHECK(patched_blocks_seen > 20);
}

TEST_CASE("blocks that are equal, held or wholly different go without a patch") {
  Random random(2);
  ScanWorld world(std::make_shared<MemoryDevice>(5 * 65536), 65536);
  world.fill(random);
  world.adopt();
  const Blocks before = contents(world);
  auto block = before.at(0);
  block[100] ^= 1;
  for (const uint64_t index : {0, 1, 2}) world.device->write(index * 65536, block);  // 1 and 2 become block 0
  block[200] ^= 1;
  world.device->write(uint64_t{3} * 65536, block);
  world.device->write(uint64_t{4} * 65536, random.bytes(65536));
  Scan scan(world.options());
  const auto chunk = scan.next();
  EncodeOptions options{kSession, 1, 77, {0b01000}, 1, {}};
  for (size_t i = 0; i < chunk->entries().size(); i++) add_pieces(options.pieces, before.at(0));
  const ByteVector body = chunk->encode(options);
  CHECK(patched_blocks(body, 5).empty());
  CHECK(chunk->patch_statistics().unsent_bytes == 0);
  const BatchView batch = decode_batch(body, {kSession, 1, world.geometry, kPlain}, ThreadPool::shared());
  CHECK(batch.records.size() == 2);
  CHECK(batch.entries[3].kind == EntryKind::held);
}

TEST_CASE("the largest chunk may be patches alone, and they tell what they spare") {
  Random random(3);
  ScanWorld world(std::make_shared<MemoryDevice>(uint64_t{16} << 20), uint32_t{4} << 20);
  world.fill(random);
  world.adopt();
  const Blocks before = contents(world);
  for (uint64_t index = 0; index < 4; index++) world.device->write((index << 22) + 9999, random.bytes(10));
  ScanOptions scan_options = world.options();
  scan_options.chunk_bytes = Scan::kChunkBytesMax;
  Scan scan(std::move(scan_options));
  const auto chunk = scan.next();
  REQUIRE(chunk->entries().size() == 2);
  EncodeOptions options{kSession, 1, 77, {}, 1, {}};
  for (const ScanEntry& entry : chunk->entries()) add_pieces(options.pieces, before.at(entry.block_index));
  const ByteVector body = chunk->encode(options);
  CHECK(patched_blocks(body, 4) == std::vector<uint64_t>{0, 1});
  CHECK(chunk->patch_statistics().unsent_bytes == 2 * ((4u << 20) - 4096));
  const ByteVector base_bytes = base_body(before);
  const BaseBlocks base{{base_bytes}, {kScanPoint, 0, world.geometry, kPlain}};
  const BatchBounds bounds{kSession, 1, world.geometry, kPlain};
  CHECK(patched_blocks(resolve_patches(body, bounds, base, ThreadPool::shared()), 4).empty());
}

TEST_CASE("digests of pieces that don't fit the chunk are refused, and it stays") {
  Random random(4);
  ScanWorld world(std::make_shared<MemoryDevice>(2 * 8192), 8192);
  world.fill(random);
  Scan scan(world.options());
  const auto chunk = scan.next();
  const auto code = [&](std::vector<uint8_t> pieces) {
    return code_of([&] { chunk->encode({kSession, 1, 77, {}, 1, std::move(pieces)}); });
  };
  CHECK(code({0}) == "argument");
  CHECK(code({0, 0}) == "argument");
  CHECK(code({0, 0, 0, 0, 0}) == "argument");
  CHECK(code({1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}) == "argument");
  CHECK(code({2, 0, 1, 2, 3, 4, 5, 6, 7, 8}) == "argument");
  CHECK(code({0, 0, 0, 0}) == "");
}
