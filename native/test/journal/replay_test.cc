#include "core/journal/replay/replay.h"

#include <set>

#include "core/codec/record.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/journal/records.h"

namespace stillpoint::test {
namespace {

ThreadPool& pool() { return ThreadPool::shared(); }

// A device whose content is known at the base and after the records.
struct Model {
  TreeGeometry geometry;
  std::vector<uint8_t> base;
  std::vector<uint8_t> now;
  Records records;

  Model(Random& random, const TreeGeometry& of, int record_count) : geometry(of), base(of.size_bytes) {
    for (uint64_t block = 0; block < geometry.block_count(); block++) {
      if (random.one_in(2)) continue;
      const auto bytes = random.bytes(geometry.block_length(block));
      std::copy(bytes.begin(), bytes.end(), base.begin() + static_cast<ptrdiff_t>(block * of.block_size));
    }
    now = base;
    while (record_count-- > 0) add_random_record(records, random, now);
  }

  Bytes block(const std::vector<uint8_t>& device, uint64_t index) const {
    return Bytes(device).subspan(index * geometry.block_size, geometry.block_length(index));
  }

  // Gives the blocks of the base that are not zeros.
  void load(JournalReplay& replay, const std::vector<uint64_t>& window, const Digester& digester) const {
    std::vector<ByteVector> bytes;
    std::vector<BatchSource> sources;
    for (const uint64_t index : window) {
      if (is_all_zero(block(base, index))) continue;
      sources.push_back({index, static_cast<uint32_t>(bytes.size())});
      bytes.push_back(encode_record(RecordKind::block, digester.leaf_digest(block(base, index)),
                                    block(base, index), static_cast<int>(index % 2)));
    }
    std::vector<RecordSource> stored;
    for (const ByteVector& record : bytes) stored.push_back({record, parse_record(record).digest});
    replay.load(sources, stored, digester, pool());
  }

  // In calls of some records each.
  void each_part(Random& random, const std::function<void(Bytes)>& call) const {
    for (size_t at = 0; at < records.begins.size();) {
      const size_t end = std::min<size_t>(records.begins.size(), at + 1 + random.below(9));
      call(records.between(at, end));
      at = end;
    }
  }
};

void check_digests(JournalReplay& replay, const Model& model, const std::vector<uint8_t>& device,
                   const std::vector<uint64_t>& window, const Digester& digester) {
  const std::vector<uint8_t> digests = replay.digests(digester, pool());
  REQUIRE(digests.size() == window.size() * kDigestBytes);
  for (size_t i = 0; i < window.size(); i++) {
    const Digest expected = digester.leaf_digest(model.block(device, window[i]));
    REQUIRE(std::equal(expected.begin(), expected.end(),
                       digests.begin() + static_cast<ptrdiff_t>(i * kDigestBytes)));
  }
}

}  // namespace

TEST_CASE("journal replay: any records over any base give the device, window by window") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (int round = 0; round < 12; round++) {
    const uint32_t block_size = random.one_in(3) ? 65536 : 4096;
    const Model model(random, {1 + random.below(60 * block_size), block_size}, 1 + round * 6);
    const Digester& digester = round % 2 == 0 ? kPlain : kKeyed;
    JournalReplay replay(model.geometry);
    model.each_part(random, [&](Bytes bytes) { replay.note(bytes, pool()); });

    std::set<uint64_t> touched;
    for (const BlockRange& range : replay.touched()) {
      REQUIRE(range.begin < range.end);
      REQUIRE(range.end <= model.geometry.block_count());
      REQUIRE((touched.empty() || *touched.rbegin() + 1 < range.begin));
      for (uint64_t block = range.begin; block < range.end; block++) touched.insert(block);
    }
    std::set<uint64_t> expected;
    prove_run(model.records.bytes, {}, pool(), [&](auto views) {
      for (const JournalRecordView& view : views) {
        const JournalRecord& record = view.record;
        const uint64_t end = record.byte_offset + record.byte_length;
        for (uint64_t block = record.byte_offset / block_size; block * block_size < end; block++)
          expected.insert(block);
      }
    });
    REQUIRE(touched == expected);

    for (int i = 0; i < 3; i++) {
      std::vector<uint64_t> window;
      for (uint64_t block = 0; block < model.geometry.block_count(); block++)
        if (i == 0 || random.one_in(3)) window.push_back(block);
      replay.open(window);
      model.load(replay, window, digester);
      check_digests(replay, model, model.base, window, digester);
      model.each_part(random, [&](Bytes bytes) { replay.apply(bytes, pool()); });
      check_digests(replay, model, model.now, window, digester);
    }
  }
}

TEST_CASE("journal replay: a large device's map is coarse, and its list of ranges is bounded") {
  const TreeGeometry geometry{1000 * 4096 - 5, 4096};
  JournalReplay exact(geometry), coarse(geometry, 300);
  Records records;
  for (const uint64_t block : {0, 10, 13, 500, 999}) records.zero(block * 4096 + 7, 10);
  for (JournalReplay* const replay : {&exact, &coarse}) replay->note(records.bytes, pool());
  const auto text = [](const std::vector<BlockRange>& ranges) {
    std::string all;
    for (const BlockRange& range : ranges)
      all += std::to_string(range.begin) + "-" + std::to_string(range.end) + " ";
    return all;
  };
  CHECK(text(exact.touched()) == "0-1 10-11 13-14 500-501 999-1000 ");
  CHECK(text(exact.touched(4)) == "0-1 10-14 500-501 999-1000 ");
  CHECK(text(exact.touched(1)) == "0-1000 ");
  CHECK(text(coarse.touched()) == "0-4 8-16 500-504 996-1000 ");
}

TEST_CASE("journal replay: records of a pass follow each other, and each is proven") {
  Random random(3);
  const Model model(random, {50'000, 4096}, 30);
  JournalReplay replay(model.geometry);
  const auto note = [&](Bytes bytes) { return code_of([&] { replay.note(bytes, pool()); }); };
  const auto apply = [&](Bytes bytes) { return code_of([&] { replay.apply(bytes, pool()); }); };
  CHECK(note(model.records.between(4, 6)) == "");
  CHECK(note(model.records.between(7, 9)) == "bad-order");
  CHECK(note(model.records.between(6, 9)) == "");

  CHECK(apply(model.records.bytes) == "argument");
  const std::vector<uint64_t> window{0, 3, 12};
  for (int pass = 0; pass < 2; pass++) {
    replay.open(window);
    model.load(replay, window, kPlain);
    CHECK(apply(model.records.between(0, 10)) == "");
    CHECK(apply(model.records.between(0, 10)) == "bad-order");
    CHECK(apply(model.records.between(11, 20)) == "bad-order");
    const auto before = replay.digests(kPlain, pool());
    const Bytes rest = model.records.between(10, 30);
    std::vector<uint8_t> damaged(rest.begin(), rest.end());
    damaged[model.records.begins[29] - model.records.begins[10] + 50] ^= 1;
    CHECK(apply(damaged) == "bad-checksum");
    CHECK(apply(rest.first(rest.size() - 1)) == "truncated");
    CHECK(replay.digests(kPlain, pool()) == before);
    CHECK(apply(rest) == "");
    check_digests(replay, model, model.now, window, kPlain);
  }
}

TEST_CASE("journal replay: what is not of the device or of the window is refused") {
  Random random(4);
  const Model model(random, {50'000, 4096}, 0);
  JournalReplay replay(model.geometry);
  Records records;
  records.write(49'999, std::vector<uint8_t>{1});
  CHECK(code_of([&] { replay.note(records.bytes, pool()); }) == "");
  records.write(49'999, std::vector<uint8_t>{1, 2});
  CHECK(code_of([&] { replay.note(records.from(1), pool()); }) == "bad-index");
  records.zero(1, std::numeric_limits<int64_t>::max() - 1);
  CHECK(code_of([&] { replay.note(records.from(2), pool()); }) == "bad-order");

  for (const std::vector<uint64_t>& wrong : {std::vector<uint64_t>{2, 1}, {1, 1}, {13}})
    CHECK(code_of([&] { replay.open(wrong); }) == "argument");
  JournalReplay large({uint64_t{1} << 40, 4u << 20});
  std::vector<uint64_t> window;
  for (uint64_t i = 0; i < 64; i++) window.push_back(i * 3);
  CHECK(code_of([&] { large.open(window); }) == "");
  window.push_back(1000);
  CHECK(code_of([&] { large.open(window); }) == "argument");

  const std::vector<uint8_t> full(4096, 1), tail(50'000 % 4096, 2);
  const auto load = [&](uint64_t index, Bytes raw, const Digest& digest, uint32_t ordinal = 0) {
    const ByteVector record = encode_record(RecordKind::block, kPlain.leaf_digest(raw), raw, 1);
    const BatchSource sources[] = {{index, ordinal}};
    const RecordSource stored[] = {{record, digest}};
    return code_of([&] { replay.load(sources, stored, kPlain, pool()); });
  };
  CHECK(load(3, full, kPlain.leaf_digest(full)) == "argument");
  replay.open({3, 12});
  CHECK(load(3, full, kPlain.leaf_digest(full)) == "");
  CHECK(load(12, tail, kPlain.leaf_digest(tail)) == "");
  CHECK(load(4, full, kPlain.leaf_digest(full)) == "bad-index");
  CHECK(load(3, full, kPlain.leaf_digest(full), 1) == "bad-index");
  CHECK(load(12, full, kPlain.leaf_digest(full)) == "bad-length");
  CHECK(load(3, tail, kPlain.leaf_digest(tail)) == "bad-length");
  CHECK(load(3, full, kPlain.leaf_digest(tail)) == "bad-digest");
  const ByteVector record = encode_record(RecordKind::block, kPlain.leaf_digest(full), full, 1);
  const RecordSource stored[] = {{record, kPlain.leaf_digest(full)}};
  const BatchSource twice[] = {{3, 0}, {3, 0}};
  CHECK(code_of([&] { replay.load(twice, stored, kPlain, pool()); }) == "bad-order");
  const BatchSource once[] = {{3, 0}};
  CHECK(code_of([&] { replay.load(once, stored, kKeyed, pool()); }) == "bad-digest");
  replay.apply({}, pool());
  CHECK(load(3, full, kPlain.leaf_digest(full)) == "argument");
}

TEST_CASE("journal replay: one call at a time") {
  Random random(5);
  const Model model(random, {3'000'000, 4096}, 100);
  JournalReplay replay(model.geometry);
  std::atomic<int> refused = 0, done = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int n = 0; n < 20; n++) {
        try {
          replay.open({0, 1, 2});
          replay.digests(kPlain, pool());
          done++;
        } catch (const NativeError& error) {
          if (error.code() == "EBUSY") refused++;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(refused + done == 80);
}

}  // namespace stillpoint::test
