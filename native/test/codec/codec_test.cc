#include <doctest/doctest.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "core/base/little_endian.h"
#include "core/codec/batch.h"
#include "core/codec/pack_reader.h"
#include "core/tree/leaf_overlay.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/tree_model.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

Bytes view(Bytes bytes) { return bytes; }

Id id_of(uint8_t byte) {
  Id id;
  id.fill(byte);
  return id;
}

ByteVector block_record(Bytes raw, int level = 1) {
  return encode_record(RecordKind::block, kPlain.leaf_digest(raw), raw, level);
}

std::string decode_code(Bytes record) {
  return code_of([&] {
    const RecordView parsed = parse_record(record);
    std::vector<uint8_t> scratch(parsed.raw_length);
    decode_record(parsed, kPlain, scratch.data());
  });
}

// As a hostile sender would: a checksum that fits whatever the header says.
void reseal_record(ByteVector& record) {
  const Digest sum = checksum({view(record).first(48), view(record).subspan(80)});
  std::memcpy(record.data() + 48, sum.data(), sum.size());
}

void reseal_batch(ByteVector& body) {
  const Digest sum = checksum(view(body).first(body.size() - 32));
  std::memcpy(body.data() + body.size() - 32, sum.data(), sum.size());
}

// 20 blocks of 4 KiB, the last one short: zeros 0-1, payload 2 and 3 (the same record), 5, held 7, zeros
// 9-11, payload 19.
struct Sample {
  TreeGeometry geometry{19 * 4096 + 100, 4096};
  std::vector<uint8_t> raw_a, raw_b, raw_tail;
  ByteVector body;
  Level leaves;
  BatchBounds bounds{id_of(9), 4, geometry, kPlain};

  explicit Sample(Random& random, int level = 1)
      : raw_a(random.bytes(4096)), raw_b(random.bytes(4096)), raw_tail(random.bytes(100)) {
    const auto a = block_record(raw_a, level), b = block_record(raw_b, 0),
               tail = block_record(raw_tail, level);
    BatchBuilder builder(id_of(9), 4, 1234);
    builder.add_zeros(0, 1);
    builder.add_zeros(1, 1);
    const uint32_t ordinal_a = builder.add_record(a);
    builder.add_payload(2, kPlain.leaf_digest(raw_a), ordinal_a);
    builder.add_payload(3, kPlain.leaf_digest(raw_a), ordinal_a);
    builder.add_payload(5, kPlain.leaf_digest(raw_b), builder.add_record(b));
    builder.add_held(7, checksum(Bytes{}));
    builder.add_zeros(9, 3);
    builder.add_payload(19, kPlain.leaf_digest(raw_tail), builder.add_record(tail));
    body = builder.finish();
    leaves = {{2, kPlain.leaf_digest(raw_a)},
              {3, kPlain.leaf_digest(raw_a)},
              {5, kPlain.leaf_digest(raw_b)},
              {7, checksum(Bytes{})},
              {19, kPlain.leaf_digest(raw_tail)}};
  }

  std::string code(const ByteVector& bytes) const {
    return code_of([&] { decode_batch(bytes, bounds, ThreadPool::shared()); });
  }
};

constexpr size_t kEntries = kBatchHeaderBytes;
constexpr size_t entry_at(size_t ordinal) { return kEntries + ordinal * kBatchEntryBytes; }

}  // namespace

TEST_CASE("records round-trip, raw and compressed, blocks and nodes") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (const size_t length : {size_t{1}, size_t{100}, size_t{4096}, size_t{65536}, size_t{4} << 20}) {
    for (const int level : {0, 1, 3}) {
      const auto raw = random.bytes(length);
      const auto record = block_record(raw, level);
      const RecordView parsed = parse_record(record);
      CHECK(parsed.bytes.size() == record.size());
      if (length != 100) CHECK(parsed.codec == (level > 0 && length > 100 ? Codec::zstd : Codec::raw));
      std::vector<uint8_t> scratch(length);
      const Bytes decoded = decode_record(parsed, kPlain, scratch.data());
      CHECK(std::equal(decoded.begin(), decoded.end(), raw.begin(), raw.end()));
    }
  }
  std::vector<uint8_t> node(2048);
  for (const size_t length : {size_t{32}, size_t{64}, size_t{2048}}) {
    node = random.bytes(length);
    node.back() = 1;
    CHECK(decode_code(encode_record(RecordKind::node, kPlain.node_digest(node), node, 1)) == "");
  }
}

TEST_CASE("records that lie are refused by name") {
  Random random(1);
  const auto raw = random.bytes(4096);
  const auto good = block_record(raw);
  const auto with = [&](size_t at, uint8_t value, bool reseal = true) {
    auto bytes = good;
    bytes[at] = value;
    if (reseal) reseal_record(bytes);
    return decode_code(bytes);
  };
  CHECK(decode_code(good) == "");
  CHECK(decode_code(view(good).first(79)) == "truncated");
  CHECK(decode_code(view(good).first(good.size() - 1)) == "truncated");
  CHECK(with(0, 'X') == "bad-magic");
  CHECK(with(4, 3) == "bad-kind");
  CHECK(with(5, 2) == "bad-codec");
  CHECK(with(6, 1) == "bad-version");
  CHECK(with(5, 0) == "bad-length");  // raw, but stored is shorter
  CHECK(with(8, 1) == "bad-length");  // decompresses to less than it says
  CHECK(with(16, static_cast<uint8_t>(good[16] + 1)) == "bad-digest");
  CHECK(with(90, static_cast<uint8_t>(good[90] + 1), false) == "bad-checksum");

  // A bomb: its frame holds more than the record says.
  const std::vector<uint8_t> huge(1 << 20, 7);
  auto bomb = block_record(huge);
  store_le<uint32_t>(bomb.data() + 8, 4096);
  reseal_record(bomb);
  CHECK(decode_code(bomb) == "bad-length");
  // Bytes after the frame.
  auto padded = good;
  padded.push_back(0);
  store_le<uint32_t>(padded.data() + 12, load_le<uint32_t>(padded.data() + 12) + 1);
  reseal_record(padded);
  CHECK(decode_code(padded) == "bad-length");
  // Zeros have a digest of their own: NULL, which no record may carry.
  const std::vector<uint8_t> zeros(4096);
  CHECK(decode_code(encode_record(RecordKind::block, checksum(zeros), zeros, 1)) == "bad-digest");
  CHECK(decode_code(encode_record(RecordKind::block, kNullDigest, zeros, 1)) == "bad-digest");
  // A node that isn't trimmed.
  std::vector<uint8_t> node = random.bytes(64);
  std::fill(node.begin() + 32, node.end(), 0);
  CHECK(decode_code(encode_record(RecordKind::node, kPlain.node_digest(node), node, 0)) == "bad-digest");
  CHECK(code_of([&] { encode_record(RecordKind::node, kNullDigest, view(raw).first(33), 0); }) ==
        "bad-length");
  CHECK(code_of([&] { encode_record(RecordKind::block, kNullDigest, {}, 0); }) == "bad-length");
}

TEST_CASE("batches round-trip") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const Sample sample(random);
  const BatchView batch = decode_batch(sample.body, sample.bounds, ThreadPool::shared());
  REQUIRE(batch.entries.size() == 7);
  CHECK(batch.records.size() == 3);
  CHECK(batch.entries[0].block_count == 2);
  CHECK(batch.entries[4].kind == EntryKind::held);
  CHECK(batch.entries[6].block_index == 19);
  CHECK(batch.entries[6].record_ordinal == 2);
  CHECK(batch.records_offset == 64 + 7 * 56);
  CHECK(batch.records_offset + batch.records_length + 32 == sample.body.size());

  const TemporaryDirectory directory;
  const auto overlay = LeafOverlay::create(directory / "overlay", sample.geometry, kNullDigest);
  put_batch_entries(*overlay, sample.body);
  CHECK(overlay->present_count() == 10);
  for (const uint64_t zero : {0, 1, 9, 10, 11}) CHECK(overlay->get(zero) == kNullDigest);
  for (const auto& [index, digest] : sample.leaves) CHECK(overlay->get(index) == digest);
  // Header and entries are enough.
  put_batch_entries(*overlay, view(sample.body).first(64 + 7 * 56));
  CHECK(code_of([&] { put_batch_entries(*overlay, view(sample.body).first(64 + 7 * 56 - 1)); }) ==
        "truncated");

  // Against the tree that the batch leads to, and against one that differs in one leaf.
  const auto tree = TreeFile::create(directory / "tree", sample.geometry, kPlain);
  BatchBounds expecting = sample.bounds;
  expecting.expected = tree.get();
  const auto expected_code = [&] {
    return code_of([&] { decode_batch(sample.body, expecting, ThreadPool::shared()); });
  };
  CHECK(expected_code() == "bad-digest");
  const auto change = LeafOverlay::create(directory / "change", sample.geometry, tree->generation().root);
  put_batch_entries(*change, sample.body);
  change->seal({id_of(1), tree->root_with(*change)});
  tree->apply(*change);
  CHECK(expected_code() == "");
  const auto zero_no_more = LeafOverlay::create(directory / "zero", sample.geometry, tree->generation().root);
  zero_no_more->put(10, &sample.leaves.at(2), 1);
  zero_no_more->seal({id_of(2), tree->root_with(*zero_no_more)});
  tree->apply(*zero_no_more);
  CHECK(expected_code() == "bad-digest");
}

TEST_CASE("any flipped bit and any cut of a batch is refused") {
  Random random(2);
  const Sample sample(random);
  REQUIRE(sample.code(sample.body) == "");
  for (size_t at = 0; at < sample.body.size(); ++at) {
    auto bytes = sample.body;
    bytes[at] ^= static_cast<uint8_t>(1 << (at % 8));
    REQUIRE(sample.code(bytes) != "");
    // With a trailer made to fit, a record still proves itself.
    reseal_batch(bytes);
    if (at >= 64 + 7 * 56 && at < bytes.size() - 32) REQUIRE(sample.code(bytes) != "");
  }
  for (size_t length = 0; length < sample.body.size(); length += 13) {
    auto bytes = sample.body;
    bytes.resize(length);
    REQUIRE(sample.code(bytes) != "");
    if (length < 96) continue;
    reseal_batch(bytes);
    REQUIRE(sample.code(bytes) != "");
  }
}

TEST_CASE("batches that lie are refused by name") {
  Random random(3);
  const Sample sample(random);
  const auto with = [&](auto change) {
    auto bytes = sample.body;
    change(bytes);
    reseal_batch(bytes);
    return sample.code(bytes);
  };
  const auto set32 = [](size_t at, uint32_t value) {
    return [=](ByteVector& bytes) { store_le(bytes.data() + at, value); };
  };
  const auto set64 = [](size_t at, uint64_t value) {
    return [=](ByteVector& bytes) { store_le(bytes.data() + at, value); };
  };
  const auto set8 = [](size_t at, uint8_t value) { return [=](ByteVector& bytes) { bytes[at] = value; }; };
  CHECK(with(set8(7, '2')) == "bad-version");
  CHECK(with(set8(0, 'X')) == "bad-magic");
  CHECK(with(set8(8, 1)) == "bad-session");
  CHECK(with(set64(24, 5)) == "bad-order");
  CHECK(with(set64(56, 1)) == "bad-version");
  CHECK(with(set32(32, 8)) == "truncated");
  CHECK(with(set32(32, 0xffffffff)) == "bad-length");
  CHECK(with(set32(36, 0xffffffff)) == "bad-length");
  CHECK(with(set32(36, 2)) == "bad-length");  // a record after the last one
  CHECK(with(set32(36, 4)) == "truncated");   // a record that isn't there
  CHECK(with(set64(40, ~uint64_t{0})) == "truncated");
  CHECK(with([](auto& bytes) { bytes.insert(bytes.end(), 5, 0); }) == "bad-length");
  CHECK(with(set64(entry_at(1), 1)) == "bad-order");  // inside the zero run before it
  CHECK(with(set64(entry_at(6), 20)) == "bad-index");
  CHECK(with(set64(entry_at(6), ~uint64_t{0})) == "bad-index");
  CHECK(with(set32(entry_at(5) + 8, 12)) == "bad-index");
  CHECK(with(set32(entry_at(5) + 8, 0)) == "bad-length");
  CHECK(with(set32(entry_at(1) + 8, 2)) == "bad-length");
  CHECK(with(set8(entry_at(1) + 12, 3)) == "bad-kind");
  CHECK(with(set8(entry_at(1) + 13, 1)) == "bad-version");
  CHECK(with(set32(entry_at(1) + 52, 1)) == "bad-version");
  CHECK(with(set32(entry_at(1) + 48, 3)) == "bad-index");
  CHECK(with(set32(entry_at(1) + 48, 1)) == "bad-digest");  // another block's record
  CHECK(with(set32(entry_at(4) + 48, 1)) == "bad-index");   // held, yet it names a record
  CHECK(with(set8(entry_at(0) + 20, 1)) == "bad-digest");   // zeros with a digest
  CHECK(with([&](auto& bytes) { std::memset(bytes.data() + entry_at(4) + 16, 0, 32); }) == "bad-digest");
  CHECK(with(set64(entry_at(6), 18)) == "bad-length");  // a short record for a whole block
  // The record of block 5 is named by nobody.
  CHECK(with([&](auto& bytes) {
          bytes[entry_at(3) + 12] = 2;
          store_le<uint32_t>(bytes.data() + entry_at(3) + 48, 0);
        }) == "bad-index");
  // A node where a block belongs.
  const size_t record = 64 + 7 * 56;
  CHECK(with(set8(record + 4, 2)) == "bad-length");
}

TEST_CASE("zero runs of a batch are bounded together") {
  const TreeGeometry geometry{uint64_t{1} << 50, 4096};
  const auto code = [&](uint32_t count) {
    BatchBuilder builder(id_of(1), 1, 0);
    builder.add_zeros(0, count);
    builder.add_zeros(uint64_t{1} << 30, 5);
    const auto body = builder.finish();
    return code_of([&] { decode_batch(body, {id_of(1), 1, geometry, kPlain}, ThreadPool::shared()); });
  };
  CHECK(code((1 << 24) - 5) == "");
  CHECK(code((1 << 24) - 4) == "bad-length");
}

TEST_CASE("restore batches: from packed records to blocks") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const Sample sample(random);
  // Both in one run, the first with bytes behind it.
  const ByteVector run = block_record(sample.raw_a);
  const ByteVector tail = block_record(sample.raw_tail, 0);
  ByteVector both = run;
  both.insert(both.end(), tail.begin(), tail.end());
  const Bytes view_a(both), view_tail = view_a.subspan(run.size());
  const std::vector<RecordSource> records = {{view_a, kPlain.leaf_digest(sample.raw_a)},
                                             {view_tail, kPlain.leaf_digest(sample.raw_tail)}};
  const std::vector<BatchSource> blocks = {{2, 0}, {3, 0}, {19, 1}};
  const auto body = encode_batch({id_of(9), 0, 0}, blocks, records);
  const BatchBounds bounds{id_of(9), 0, sample.geometry, kPlain};
  const auto decoded = decode_blocks(body, bounds, ThreadPool::shared());
  REQUIRE(decoded.size() == 3);
  CHECK(std::ranges::equal(decoded[0], sample.raw_a));
  CHECK(std::ranges::equal(decoded[1], sample.raw_a));
  CHECK(std::ranges::equal(decoded[2], sample.raw_tail));

  CHECK(code_of([&] {
          encode_batch({id_of(9), 0, 0}, std::vector<BatchSource>{{3, 0}, {3, 1}}, records);
        }) == "bad-order");
  CHECK(code_of([&] {
          encode_batch({id_of(9), 0, 0}, std::vector<BatchSource>{{3, 2}}, records);
        }) == "bad-index");
  const auto code_with = [&](size_t at) {
    ByteVector damaged = run;
    damaged[at] ^= 1;
    const std::vector<RecordSource> one = {{damaged, kPlain.leaf_digest(sample.raw_a)}};
    return code_of([&] { encode_batch({id_of(9), 0, 0}, std::vector<BatchSource>{{3, 0}}, one); });
  };
  CHECK(code_with(0) == "bad-magic");
  CHECK(code_with(20) == "bad-digest");    // the digest in its header: another record
  CHECK(code_with(50) == "bad-checksum");  // the checksum itself
  CHECK(code_with(run.size() - 1) == "bad-checksum");
  const std::vector<RecordSource> cut = {{view_a.first(run.size() - 1), kPlain.leaf_digest(sample.raw_a)}};
  CHECK(code_of([&] {
          encode_batch({id_of(9), 0, 0}, std::vector<BatchSource>{{3, 0}}, cut);
        }) == "truncated");
  CHECK(code_of([&] { decode_blocks(sample.body, sample.bounds, ThreadPool::shared()); }) == "bad-kind");
}
