#include "core/journal/replay/apply.h"

#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "core/journal/replay/last_writes.h"
#include "test/helpers/helpers.h"
#include "test/journal/records.h"

namespace stillpoint::test {
namespace {

ThreadPool& pool() { return ThreadPool::shared(); }

// Takes whole sectors only, as a disk does past the page cache.
class SectorDevice final : public MemoryDevice {
 public:
  using MemoryDevice::MemoryDevice;
  Type type() const override { return Type::block; }
  bool direct() const override { return true; }
  void read(uint64_t byte_offset, std::span<uint8_t> into) override {
    if (byte_offset % 512 != 0 || into.size() % 512 != 0) throw NativeError("EINVAL", "part of a sector");
    MemoryDevice::read(byte_offset, into);
  }
  void write(uint64_t byte_offset, Bytes bytes) override {
    if (byte_offset % 512 != 0 || bytes.size() % 512 != 0) throw NativeError("EINVAL", "part of a sector");
    MemoryDevice::write(byte_offset, bytes);
  }
};

std::vector<uint8_t> content_of(BlockSource& device) {
  std::vector<uint8_t> bytes(device.size_bytes());
  device.read(0, bytes);
  return bytes;
}

}  // namespace

TEST_CASE("journal apply: any records give the device that a plain array gives, but for what is left alone") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const TemporaryDirectory directory;
  for (int round = 0; round < 12; round++) {
    const bool in_sectors = round % 4 < 2;
    const uint64_t size = in_sectors ? 512 + random.below(6000) * 512 : 1 + random.below(3'000'000);
    OpenOptions options;
    options.write = options.create = true;
    options.direct = round % 2 == 1;
    options.size_bytes = size;
    std::vector<std::unique_ptr<BlockSource>> devices;
    devices.push_back(std::make_unique<MemoryDevice>(size));
    devices.push_back(BlockDevice::open(directory / ("image" + std::to_string(round)), options));
    if (in_sectors) devices.push_back(std::make_unique<SectorDevice>(size));
    const auto before = random.bytes(size);
    for (const auto& device : devices) device->write(0, before);

    std::vector<BlockRange> except;
    for (uint64_t at = random.below(size); round % 3 != 0 && at < size; at += random.below(400'000)) {
      except.push_back({at, std::min(size, at + random.below(5000))});
      at = except.back().end;
    }
    auto expected = before;
    for (int part = 0; part < 3; part++) {
      Records records;
      auto written = expected;
      for (int i = 0; i < 40; i++) add_random_record(records, random, written);
      for (const BlockRange& range : except)
        std::copy_n(expected.begin() + static_cast<ptrdiff_t>(range.begin), range.end - range.begin,
                    written.begin() + static_cast<ptrdiff_t>(range.begin));
      expected = written;
      for (const auto& device : devices) {
        const uint64_t bytes = apply_records(*device, records.bytes, except, pool());
        CHECK(bytes <= size);
        REQUIRE(content_of(*device) == expected);
      }
    }
  }
}

TEST_CASE("journal apply: ranges overlap in all ways") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (int round = 0; round < 2000; round++) {
    MemoryDevice device(1 + random.below(20));
    std::vector<uint8_t> expected(device.size_bytes(), 9);
    device.write(0, expected);
    Records records;
    for (int i = 0; i < 12; i++) add_random_record(records, random, expected);
    const uint64_t begin = random.below(device.size_bytes());
    const BlockRange except[] = {{begin, begin + random.below(device.size_bytes() - begin + 1)}};
    std::fill(expected.begin() + static_cast<ptrdiff_t>(except[0].begin),
              expected.begin() + static_cast<ptrdiff_t>(except[0].end), uint8_t{9});
    apply_records(device, records.bytes, except, pool());
    REQUIRE(content_of(device) == expected);
  }
}

TEST_CASE("journal apply: counts each byte once, and leaves holes") {
  const TemporaryDirectory directory;
  OpenOptions options;
  options.write = options.create = true;
  options.size_bytes = 64 << 20;
  const auto device = BlockDevice::open(directory / "image", options);
  Records records;
  const std::vector<uint8_t> bytes(1 << 20, 1);
  records.write(0, bytes);
  records.write(512, bytes);
  records.zero(1 << 20, 8 << 20);
  CHECK(apply_records(*device, records.bytes, {}, pool()) == 9 << 20);
  const BlockRange except[] = {{100, 200}, {200, 300}, {4 << 20, 5 << 20}};
  CHECK(apply_records(*device, records.bytes, except, pool()) == (8 << 20) - 200);
  CHECK(device->next_hole(0) == 1 << 20);
  CHECK(device->next_data(1 << 20) == 64 << 20);
}

TEST_CASE("journal apply: where a record is wrong, nothing is written") {
  const uint64_t size = 100'000;
  MemoryDevice device(size);
  Records records;
  const std::vector<uint8_t> bytes(5000, 1);
  records.write(0, bytes);
  records.write(50'000, bytes);
  const auto apply = [&](Bytes of, std::vector<BlockRange> except = {}) {
    const std::string code = code_of([&] { apply_records(device, of, except, pool()); });
    if (code != "") CHECK(is_all_zero(content_of(device)));
    return code;
  };
  auto damaged = records.bytes;
  damaged.back() ^= 1;
  CHECK(apply(damaged) == "bad-checksum");
  CHECK(apply(Bytes(records.bytes).first(records.bytes.size() - 1)) == "truncated");
  CHECK(apply(records.bytes, {{5, 3}}) == "argument");
  CHECK(apply(records.bytes, {{5, 9}, {8, 10}}) == "argument");
  Records beyond = records;
  beyond.write(size - 4999, bytes);
  CHECK(apply(beyond.bytes) == "bad-index");
  beyond = records;
  beyond.zero(1, size);
  CHECK(apply(beyond.bytes) == "bad-index");
  try {
    apply_records(device, beyond.bytes, {}, pool());
  } catch (const NativeError& error) {
    CHECK(error.byte_offset() == static_cast<int64_t>(beyond.begins[2]));
  }
  beyond = records;
  beyond.write(size - 5000, bytes);
  CHECK(apply(beyond.bytes) == "");
  device.add_bad_write_range(52'000, 1);
  CHECK(code_of([&] { apply_records(device, records.bytes, {}, pool()); }) == "EIO");
}

TEST_CASE("journal apply: many records of zeros over all of a device are one") {
  const uint64_t size = uint64_t{1} << 40;
  LastWrites writes;
  Records records;
  for (int i = 0; i < 5000; i++) records.zero(0, size);
  std::vector<JournalRecordView> views;
  for (size_t i = 0; i < records.begins.size(); i++) views.push_back(parse_journal_record(records.from(i)));
  writes.add(views, size, records.bytes.data());
  CHECK(writes.pieces().size() == 1);
}

}  // namespace stillpoint::test
