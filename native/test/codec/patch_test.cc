#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "core/base/little_endian.h"
#include "core/codec/patched_batch.h"
#include "core/device/memory_device.h"
#include "core/scan/scan.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

using Block = std::vector<uint8_t>;

constexpr Id kSession{7, 7, 7};
constexpr Id kPoint{1, 2, 3};

// Pages of rows, so that one page looks like another.
Block rows(Random& random, size_t length) {
  Block block;
  while (block.size() < length) {
    const std::string row = "row " + std::to_string(random.below(1000)) + " of some table;";
    block.insert(block.end(), row.begin(), row.end());
  }
  block.resize(length);
  return block;
}

// What a receiver tells of a block.
std::vector<uint8_t> digests_of(Bytes block, const Id& session = kSession) {
  std::vector<uint8_t> digests(piece_count(block.size()) * kPieceDigestBytes);
  PieceHasher(session).digest(block, digests.data());
  return digests;
}

void change_piece(Random& random, Block& block, size_t piece) {
  const size_t offset = piece * kPieceBytes;
  const size_t length = std::min<size_t>(kPieceBytes, block.size() - offset);
  block[offset + random.below(length)] ^= static_cast<uint8_t>(1 + random.below(255));
}

ByteVector patch_of(const Block& base, const Block& now, int level = 1) {
  return encode_patch(now, changed_pieces(PieceHasher(kSession), now, digests_of(base)), level);
}

std::string apply_code(Bytes patch, Block base, const Block& now) {
  return code_of([&] {
    const PatchView view = parse_patch(patch, base.size());
    CHECK(view.bytes.size() == patch.size());
    apply_patch(view, base);
    if (base != now) throw NativeError("other", "another block");
  });
}

// A device of blocks with a base and a batch of patches over it, as they come to a receiver.
struct World {
  TreeGeometry geometry{};
  std::map<uint64_t, Block> base;
  BatchBounds bounds{kSession, 4, geometry, kPlain};

  explicit World(const TreeGeometry& size) : geometry(size), bounds{kSession, 4, size, kPlain} {}

  ByteVector base_body() const {
    std::vector<ByteVector> records;
    for (const auto& [index, block] : base) {
      records.push_back(encode_record(RecordKind::block, kPlain.leaf_digest(block), block, 1));
    }
    BatchBuilder builder(kPoint, 0, 0);
    size_t i = 0;
    for (const auto& [index, block] : base) {
      builder.add_payload(index, kPlain.leaf_digest(block), builder.add_record(records[i++]));
    }
    return builder.finish();
  }

  ByteVector resolve(Bytes body, const TreeGeometry& base_geometry) const {
    const ByteVector base_bytes = base_body();
    const BaseBlocks blocks{{base_bytes}, {kPoint, 0, base_geometry, kPlain}};
    return resolve_patches(body, bounds, blocks, ThreadPool::shared());
  }
  ByteVector resolve(Bytes body) const { return resolve(body, geometry); }

  std::string code(Bytes body) const {
    return code_of([&] { resolve(body); });
  }
};

ByteVector reseal(ByteVector body) {
  const Digest sum = checksum(Bytes(body).first(body.size() - kBatchTrailerBytes));
  std::copy(sum.begin(), sum.end(), body.end() - kBatchTrailerBytes);
  return body;
}

// Two blocks of 64 KiB and a short one, all with patches, a payload between.
struct Sample : World {
  std::map<uint64_t, Block> now;
  Block payload;
  ByteVector body;

  explicit Sample(Random& random) : World({3 * 65536 + 9000, 65536}) {
    for (const uint64_t index : {0, 2, 3}) {
      base[index] = rows(random, geometry.block_length(index));
      now[index] = base[index];
      change_piece(random, now[index], index == 3 ? 2 : index);
    }
    payload = rows(random, 65536);
    body = build(now);
  }

  ByteVector build(const std::map<uint64_t, Block>& blocks) const {
    std::vector<ByteVector> patches;
    for (const auto& [index, block] : blocks) patches.push_back(patch_of(base.at(index), block));
    const ByteVector record = encode_record(RecordKind::block, kPlain.leaf_digest(payload), payload, 1);
    BatchBuilder builder(kSession, 4, 99);
    const uint32_t ordinal = builder.add_record(record);
    size_t i = 0;
    for (const auto& [index, block] : blocks) {
      if (index == 2) builder.add_payload(1, kPlain.leaf_digest(payload), ordinal);
      builder.add_patch(index, kPlain.leaf_digest(block), patches[i++]);
    }
    return builder.finish();
  }

  size_t patch_offset() const {
    return kBatchHeaderBytes + 4 * kBatchEntryBytes + load_le<uint64_t>(body.data() + 40);
  }
};

}  // namespace

TEST_CASE("a patch of any pieces gives the block back, a short last piece included") {
  Random random(1);
  for (const size_t length : {size_t{8192}, size_t{4 * 4096}, size_t{3 * 4096 + 1}, size_t{5000}}) {
    const Block base = rows(random, length);
    const size_t count = piece_count(length);
    for (size_t pattern = 0; pattern < size_t{1} << count; pattern++) {
      Block now = base;
      size_t changed = 0;
      for (size_t piece = 0; piece < count; piece++) {
        if ((pattern >> piece & 1) == 0) continue;
        change_piece(random, now, piece);
        changed++;
      }
      for (const int level : {0, 1}) {
        const ByteVector patch = patch_of(base, now, level);
        INFO("length ", length, ", pattern ", pattern, ", level ", level);
        CHECK(patch.empty() == (changed == 0 || changed * 4 > count * 3));
        if (!patch.empty()) CHECK(apply_code(patch, base, now) == "");
      }
    }
  }
}

TEST_CASE("patches of random blocks against random bases give them back; wrong bases are found out") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (int round = 0; round < 200; round++) {
    const size_t length = 4097 + random.below(70000);
    const Block base = random.one_in(2) ? rows(random, length) : random.bytes(length);
    Block now = base;
    const size_t count = piece_count(length);
    std::vector<bool> touched(count);
    for (uint64_t changes = random.below(count) + 1; changes > 0; changes--) {
      const size_t piece = random.below(count);
      if (touched[piece]) continue;
      touched[piece] = true;
      change_piece(random, now, piece);
    }
    const ByteVector patch = patch_of(base, now, static_cast<int>(random.below(4)));
    if (patch.empty()) continue;
    CHECK(apply_code(patch, base, now) == "");
    Block other = base;
    for (size_t piece = 0; piece < count; piece++) {
      if (!touched[piece]) change_piece(random, other, piece);
    }
    const std::string code = apply_code(patch, other, now);
    CHECK((code == "other" || code == "bad-patch"));
  }
}

TEST_CASE("a large block's patch may refer to more than the compressor looks back") {
  Random random(3);
  const Block base = random.bytes(size_t{4} << 20);
  Block now = base;
  for (size_t piece = 0; piece < 1024; piece += 5) change_piece(random, now, piece);
  CHECK(apply_code(patch_of(base, now), base, now) == "");
}

TEST_CASE("pieces that look like the block's are compressed against them") {
  Random random(4);
  const Block base = rows(random, 65536);
  Block now = base;
  std::copy_n(base.begin() + 3 * kPieceBytes + 17, 2 * kPieceBytes, now.begin() + 9 * kPieceBytes);
  CHECK(patch_of(base, now).size() < 200);
}

TEST_CASE("the digests of pieces are the session's own") {
  Random random(5);
  const Block block = rows(random, 20000);
  CHECK(digests_of(block) != digests_of(block, Id{8}));
  const auto whole = digests_of(block);
  CHECK(whole.size() == 5 * kPieceDigestBytes);
  const auto first = digests_of(Block(block.begin(), block.begin() + kPieceBytes));
  CHECK(std::equal(first.begin(), first.end(), whole.begin()));
  CHECK(code_of([&] { changed_pieces(PieceHasher(kSession), block, first); }) == "argument");
}

TEST_CASE("patches that lie are refused by name") {
  Random random(6);
  const Block base = rows(random, 5 * 4096);
  Block now = base;
  change_piece(random, now, 1);
  const ByteVector good = patch_of(base, now, 0);
  const auto with = [&](size_t at, uint8_t value) {
    ByteVector patch = good;
    patch[at] = value;
    return apply_code(patch, base, now);
  };
  CHECK(with(0, 'X') == "bad-magic");
  CHECK(with(4, 2) == "bad-codec");
  CHECK(with(6, 1) == "bad-version");
  CHECK(with(8, 1) == "bad-length");            // stored bytes that are not those of its pieces
  CHECK(with(12, 0) == "bad-length");           // no piece
  CHECK(with(12, 3) == "bad-length");           // a piece more than there is content for
  CHECK(with(12, 1 << 5 | 2) == "bad-length");  // a piece beyond the block
  CHECK(with(12, 1 << 2) == "other");
  CHECK(with(4, 1) == "bad-patch");  // what is stored raw is no zstd
  for (size_t length = 0; length < good.size(); length += 7) {
    CHECK(code_of([&] { parse_patch(Bytes(good).first(length), base.size()); }) == "truncated");
  }
}

TEST_CASE("a batch with patches becomes one with whole blocks") {
  Random random(7);
  const Sample sample(random);
  CHECK(code_of([&] { decode_batch(sample.body, sample.bounds, ThreadPool::shared()); }) == "bad-length");
  CHECK(patched_blocks(sample.body, 4) == std::vector<uint64_t>{0, 2, 3});
  CHECK(patched_blocks(Bytes(sample.body).first(100), 4).empty());
  CHECK(patched_blocks(sample.body, 3).empty());

  const ByteVector whole = sample.resolve(sample.body);
  CHECK(patched_blocks(whole, 4).empty());
  const BatchView batch = decode_batch(whole, sample.bounds, ThreadPool::shared());
  REQUIRE(batch.entries.size() == 4);
  CHECK(load_le<uint64_t>(whole.data() + 48) == 99);
  std::vector<uint8_t> scratch(65536);
  for (const BatchEntry& entry : batch.entries) {
    const Bytes raw = decode_record(batch.records[entry.record_ordinal], kPlain, scratch.data());
    const Block& expected = entry.block_index == 1 ? sample.payload : sample.now.at(entry.block_index);
    CHECK(std::equal(raw.begin(), raw.end(), expected.begin(), expected.end()));
  }
}

TEST_CASE("a batch's other entries stay as they are") {
  Random random(8);
  World world({40 * 8192, 8192});
  world.base[5] = rows(random, 8192);
  Block now = world.base[5];
  change_piece(random, now, 0);
  const ByteVector patch = patch_of(world.base[5], now);
  BatchBuilder builder(kSession, 4, 1);
  builder.add_zeros(0, 3);
  builder.add_held(4, checksum(Bytes{}));
  builder.add_patch(5, kPlain.leaf_digest(now), patch);
  builder.add_zeros(6, 30);
  const ByteVector whole = world.resolve(builder.finish());
  const BatchView batch = decode_batch(whole, world.bounds, ThreadPool::shared());
  REQUIRE(batch.entries.size() == 4);
  CHECK(batch.entries[0].block_count == 3);
  CHECK(batch.entries[1].kind == EntryKind::held);
  CHECK(batch.entries[2].kind == EntryKind::payload);
  CHECK(batch.entries[3].block_count == 30);
}

TEST_CASE("what does not come out as it was named is refused, and so is what has no base") {
  Random random(9);
  Sample sample(random);
  CHECK(sample.code(sample.body) == "");

  ByteVector wrong = sample.body;
  wrong[kBatchHeaderBytes + 16] ^= 1;
  CHECK(sample.code(reseal(wrong)) == "bad-patch");

  Sample rotten = sample;
  change_piece(random, rotten.base[2], 9);
  CHECK(rotten.code(sample.body) == "bad-patch");
  Sample lacking = sample;
  lacking.base.erase(2);
  CHECK(lacking.code(sample.body) == "bad-patch");

  // The device has grown: its last block was shorter.
  Sample shorter = sample;
  shorter.base[3].resize(5000);
  CHECK(code_of([&] { shorter.resolve(sample.body, {3 * 65536 + 5000, 65536}); }) == "bad-patch");
}

TEST_CASE("batches of patches that lie are refused by name") {
  Random random(10);
  const Sample sample(random);
  const auto changed = [&](auto change) {
    ByteVector body = sample.body;
    change(body);
    return sample.code(reseal(body));
  };
  CHECK(changed([&](ByteVector& body) { body[sample.patch_offset()] = 'X'; }) == "bad-magic");
  CHECK(changed([&](ByteVector& body) { body.insert(body.end() - 32, 5, 0); }) == "bad-length");
  CHECK(changed([&](ByteVector& body) { body.erase(body.end() - 33); }) == "truncated");
  CHECK(changed([&](ByteVector& body) { body[kBatchHeaderBytes + 12] = 4; }) == "bad-kind");
  CHECK(changed([&](ByteVector& body) { body[kBatchHeaderBytes + 48] = 1; }) == "bad-index");
  CHECK(changed([&](ByteVector& body) { body[kBatchHeaderBytes + 8] = 2; }) == "bad-length");
  // Entries in another order than their patches: each patch meets another block.
  std::map<uint64_t, Block> now = sample.now;
  ByteVector body = sample.body;
  const size_t second = kBatchHeaderBytes + 2 * kBatchEntryBytes;
  std::swap_ranges(body.begin() + kBatchHeaderBytes + 16, body.begin() + kBatchHeaderBytes + 48,
                   body.begin() + static_cast<ptrdiff_t>(second) + 16);
  CHECK(sample.code(reseal(body)) == "bad-patch");
  CHECK(sample.code(Bytes(sample.body).first(sample.body.size() - 1)) == "bad-checksum");
}

TEST_CASE("patches of one batch make a bounded number of bytes") {
  Random random(11);
  World world({uint64_t{16} << 20, uint32_t{4} << 20});
  BatchBuilder builder(kSession, 4, 1);
  std::vector<ByteVector> patches;
  for (uint64_t index = 0; index < 3; index++) {
    world.base[index] = random.bytes(size_t{4} << 20);
    Block now = world.base[index];
    change_piece(random, now, 0);
    patches.push_back(patch_of(world.base[index], now));
    builder.add_patch(index, kPlain.leaf_digest(now), patches.back());
    if (index == 1) CHECK(world.code(builder.finish()) == "");
  }
  CHECK(world.code(builder.finish()) == "bad-length");
}

TEST_CASE("a receiver's digests are of the blocks that it reads") {
  Random random(12);
  const Sample sample(random);
  ByteVector body = sample.base_body();
  const BaseBlocks base{{body}, {kPoint, 0, sample.geometry, kPlain}};
  std::vector<uint8_t> expected;
  for (const auto& [index, block] : sample.base) {
    const auto digests = digests_of(block);
    expected.insert(expected.end(), digests.begin(), digests.end());
  }
  CHECK(piece_digests(base, kSession, ThreadPool::shared()) == expected);
  // A record that lies is found out, though its batch is whole.
  body[kBatchHeaderBytes + 16] ^= 1;
  const size_t record = kBatchHeaderBytes + 3 * kBatchEntryBytes;
  body[record + 16] ^= 1;
  body = reseal(body);
  const BaseBlocks lying{{body}, {kPoint, 0, sample.geometry, kPlain}};
  CHECK(code_of([&] { piece_digests(lying, kSession, ThreadPool::shared()); }) == "bad-digest");
}
