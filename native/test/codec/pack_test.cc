#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "core/codec/pack_reader.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

Id id_of(uint8_t byte) {
  Id id;
  id.fill(byte);
  return id;
}

class MemoryPack final : public PackSource {
 public:
  explicit MemoryPack(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}
  uint64_t length() const override { return bytes_.size(); }
  void read(uint64_t offset, std::span<uint8_t> into) const override {
    REQUIRE(offset + into.size() <= bytes_.size());
    if (bad_from < offset + into.size() && offset < bad_to)
      throw_errno(5, "read", "pack", static_cast<int64_t>(offset));
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
  }
  uint64_t bad_from = 0;
  uint64_t bad_to = 0;

 private:
  std::vector<uint8_t> bytes_;
};

struct Sample {
  std::vector<uint8_t> bytes;
  std::vector<PackEntry> entries;
  uint64_t index_offset;

  explicit Sample(Random& random, size_t record_count = 8, PackKind kind = PackKind::data) {
    const auto header = encode_pack_header(id_of(5), kind);
    bytes.assign(header.begin(), header.end());
    std::vector<uint8_t> index;
    for (size_t i = 0; i < record_count; ++i) {
      const bool data = kind == PackKind::data;
      auto raw = random.bytes(data ? 1 + random.below(300) : 32 * (1 + random.below(64)));
      raw.back() = 1;
      const Digest digest = data ? kPlain.leaf_digest(raw) : kPlain.node_digest(raw);
      const auto record = encode_record(record_kind_of(kind), digest, raw, static_cast<int>(random.below(2)));
      const RecordView parsed = parse_record(record);
      entries.push_back(
          {digest, bytes.size(), parsed.stored_length, parsed.raw_length, parsed.codec, parsed.kind});
      append_pack_entry(index, entries.back());
      bytes.insert(bytes.end(), record.begin(), record.end());
    }
    index_offset = bytes.size();
    const auto tail = encode_pack_tail(id_of(5), index_offset, index);
    bytes.insert(bytes.end(), tail.begin(), tail.end());
  }
};

struct Findings {
  PackVerification result{0, 0};
  std::vector<PackDamage> damages;
};

Findings verify(const PackSource& pack) {
  Findings findings;
  findings.result =
      verify_pack(pack, kPlain, [&](const PackDamage& damage) { findings.damages.push_back(damage); });
  return findings;
}

std::vector<uint64_t> offsets(const PackIndex& index) {
  std::vector<uint64_t> all;
  for (size_t i = 0; i < index.record_count(); ++i) all.push_back(load_pack_entry(index.entries, i).offset);
  return all;
}

}  // namespace

TEST_CASE("packs round-trip, in memory and as files") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (const PackKind kind : {PackKind::data, PackKind::tree}) {
    for (const size_t count : {size_t{0}, size_t{1}, size_t{3000}}) {
      const Sample sample(random, count, kind);
      const TemporaryDirectory directory;
      std::ofstream(directory / "pack", std::ios::binary)
          .write(reinterpret_cast<const char*>(sample.bytes.data()),
                 static_cast<std::streamsize>(sample.bytes.size()));
      const PackFile file(directory / "pack");
      const MemoryPack memory(sample.bytes);
      for (const PackSource* pack :
           {static_cast<const PackSource*>(&file), static_cast<const PackSource*>(&memory)}) {
        const PackIndex index = read_pack_index(*pack);
        CHECK(index.pack_id == id_of(5));
        CHECK(index.kind == kind);
        REQUIRE(index.record_count() == count);
        const Findings findings = verify(*pack);
        CHECK(findings.damages.empty());
        CHECK(findings.result.record_count == count);
        CHECK(findings.result.checked_bytes == sample.index_offset - kPackHeaderBytes);
        CHECK(salvage_pack(*pack, kPlain).entries == index.entries);
      }
    }
  }
  CHECK(code_of([] { PackFile("/nonexistent/pack"); }) == "ENOENT");
}

TEST_CASE("any flipped bit of a pack is found") {
  Random random(4);
  const Sample sample(random);
  for (size_t at = 0; at < sample.bytes.size(); ++at) {
    auto bytes = sample.bytes;
    bytes[at] ^= static_cast<uint8_t>(1 << (at % 8));
    const MemoryPack pack(bytes);
    const bool in_records = at >= kPackHeaderBytes && at < sample.index_offset;
    INFO("byte ", at);
    REQUIRE(code_of([&] { read_pack_index(pack); }).empty() == in_records);
    const Findings findings = verify(pack);
    REQUIRE(findings.damages.size() == 1);
    if (!in_records) {
      CHECK_FALSE(findings.damages[0].digest);
      CHECK(findings.result.record_count == sample.entries.size());
      CHECK(findings.result.checked_bytes == sample.index_offset - kPackHeaderBytes);
      continue;
    }
    size_t hit = 0;
    while (sample.entries[hit].end() <= at) ++hit;
    CHECK(findings.damages[0].offset == sample.entries[hit].offset);
    CHECK(findings.damages[0].digest == sample.entries[hit].digest);
    CHECK(salvage_pack(pack, kPlain).record_count() == sample.entries.size() - 1);
  }
}

TEST_CASE("a cut or torn pack gives back every record that is whole") {
  Random random(5);
  const Sample sample(random);
  for (size_t length = 0; length < sample.bytes.size(); length += 7) {
    auto bytes = sample.bytes;
    bytes.resize(length);
    if (length % 2 == 0) bytes.resize(sample.bytes.size());  // torn: the rest is zeros
    const MemoryPack pack(bytes);
    CHECK(code_of([&] { read_pack_index(pack); }) != "");
    std::vector<uint64_t> whole;
    for (const PackEntry& entry : sample.entries) {
      if (entry.end() <= length) whole.push_back(entry.offset);
    }
    REQUIRE(offsets(salvage_pack(pack, kPlain)) == whole);
    REQUIRE_FALSE(verify(pack).damages.empty());
  }
}

TEST_CASE("unreadable sectors of a pack cost the records in them") {
  Random random(6);
  const Sample sample(random, 200);
  MemoryPack pack(sample.bytes);
  pack.bad_from = 8192;
  pack.bad_to = 8192 + 512;
  std::set<uint64_t> lost;
  for (const PackEntry& entry : sample.entries) {
    if (entry.offset < pack.bad_to && entry.end() > pack.bad_from) lost.insert(entry.offset);
  }
  const Findings findings = verify(pack);
  std::set<uint64_t> named;
  for (const PackDamage& damage : findings.damages) named.insert(damage.offset);
  CHECK(named == lost);
  // Salvage steps over a bad page, so it may give up a page's records, never another's.
  const std::vector<uint64_t> saved = offsets(salvage_pack(pack, kPlain));
  for (const PackEntry& entry : sample.entries) {
    const bool far = entry.end() <= pack.bad_from || entry.offset >= pack.bad_to + 8192;
    if (far) CHECK(std::count(saved.begin(), saved.end(), entry.offset) == 1);
  }
}

TEST_CASE("packs that lie are refused by name") {
  Random random(7);
  const Sample sample(random, 3);
  std::vector<uint8_t> index;
  const auto code = [&](auto change) {
    auto entries = sample.entries;
    change(entries);
    index.clear();
    for (const PackEntry& entry : entries) append_pack_entry(index, entry);
    return code_of([&] { encode_pack_tail(id_of(5), sample.index_offset, index); });
  };
  CHECK(code([](auto&) {}) == "");
  CHECK(code([](auto& entries) { std::swap(entries[0], entries[1]); }) == "bad-index");
  CHECK(code([](auto& entries) { entries.pop_back(); }) == "bad-index");
  CHECK(code([](auto& entries) { entries[1].offset += 1; }) == "bad-index");
  CHECK(code([](auto& entries) { entries[2].offset = ~uint64_t{0}; }) == "bad-index");
  CHECK(code([](auto& entries) { entries[0].stored_length = 0xffffffff; }) == "bad-length");
  CHECK(code([](auto& entries) { entries[0].codec = static_cast<Codec>(9); }) == "bad-codec");
  CHECK(code([](auto& entries) { entries[0].kind = static_cast<RecordKind>(0); }) == "bad-kind");
  index.push_back(0);
  CHECK(code_of([&] { encode_pack_tail(id_of(5), sample.index_offset, index); }) == "bad-length");

  // Nodes in a data pack: the tail is right, the kind is not.
  const Sample nodes(random, 2, PackKind::tree);
  auto bytes = nodes.bytes;
  const auto header = encode_pack_header(id_of(5), PackKind::data);
  std::copy(header.begin(), header.end(), bytes.begin());
  CHECK(code_of([&] { read_pack_index(MemoryPack(bytes)); }) == "bad-kind");
  // Header and footer of two packs.
  bytes = sample.bytes;
  const auto other = encode_pack_header(id_of(6), PackKind::data);
  std::copy(other.begin(), other.end(), bytes.begin());
  CHECK(code_of([&] { read_pack_index(MemoryPack(bytes)); }) == "bad-index");
}
