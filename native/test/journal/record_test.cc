#include "core/journal/record.h"

#include "core/base/little_endian.h"
#include "test/helpers/helpers.h"

namespace stillpoint::test {
namespace {

std::vector<uint8_t> encoded(const JournalRecord& record, const std::vector<uint8_t>& payload) {
  const auto header = encode_journal_header(record, payload);
  std::vector<uint8_t> bytes(header.begin(), header.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

}  // namespace

TEST_CASE("journal record: what is encoded is parsed again, whatever follows it") {
  Random random(random_seed());
  for (const auto& [record, payload] :
       {std::pair{JournalRecord{JournalKind::write, 1, 99, 512, 5000, 5000}, random.bytes(5000)},
        std::pair{JournalRecord{JournalKind::zero, 2, 100, 0, 16 << 20, 0}, std::vector<uint8_t>{}},
        std::pair{JournalRecord{JournalKind::stamp, 3, 101, 0, 0, 0}, std::vector<uint8_t>{}},
        std::pair{JournalRecord{JournalKind::instant, 4, 102, 0, 0, 16}, random.bytes(16)}}) {
    std::vector<uint8_t> bytes = encoded(record, payload);
    const size_t length = bytes.size();
    CHECK(length == record.record_bytes());
    bytes.resize(length + 10, 0xff);
    const JournalRecordView view = parse_journal_record(bytes);
    CHECK(view.record == record);
    CHECK(std::equal(view.payload().begin(), view.payload().end(), payload.begin(), payload.end()));
    check_journal_record(view);
    for (size_t cut = 0; cut < length; cut += 1 + length / 50)
      CHECK(code_of([&] { parse_journal_record(Bytes(bytes).first(cut)); }) == "truncated");
  }
}

TEST_CASE("journal record: no bit can change unnoticed") {
  Random random(random_seed());
  const auto payload = random.bytes(100);
  const auto bytes = encoded({JournalKind::write, 1, 99, 512, 100, 100}, payload);
  for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
    auto changed = bytes;
    changed[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK(code_of([&] { check_journal_record(parse_journal_record(changed)); }) != "");
  }
}

TEST_CASE("journal record: what can't be is refused, to write and to read") {
  const std::vector<uint8_t> none;
  const auto refused = [&](const JournalRecord& record, const std::vector<uint8_t>& payload) {
    return code_of([&] { encode_journal_header(record, payload); }) == "argument";
  };
  CHECK(refused({JournalKind::write, 0, 1, 0, 4, 4}, {1, 2, 3, 4}));
  CHECK(refused({JournalKind::write, 1, 0, 0, 4, 4}, {1, 2, 3, 4}));
  CHECK(refused({JournalKind::write, 1, 1, 0, 5, 4}, {1, 2, 3, 4}));
  CHECK(refused({JournalKind::write, 1, 1, 0, 4, 4}, {1, 2, 3}));
  CHECK(refused({JournalKind::write, 1, 1, 0, 0, 0}, none));
  CHECK(refused({JournalKind::zero, 1, 1, 0, 0, 0}, none));
  CHECK(refused({JournalKind::zero, 1, 1, ~uint64_t{0} - 5, 4, 0}, none));
  CHECK(refused({JournalKind::stamp, 1, 1, 0, 4, 0}, none));
  CHECK(refused({JournalKind::instant, 1, 1, 0, 0, 0}, none));

  const auto good = encoded({JournalKind::zero, 1, 1, 0, 4, 0}, none);
  const auto code_with = [&](size_t at, uint8_t value) {
    auto bytes = good;
    bytes[at] = value;
    return code_of([&] { parse_journal_record(bytes); });
  };
  CHECK(code_with(0, 'X') == "bad-magic");
  CHECK(code_with(4, 2) == "bad-version");
  CHECK(code_with(5, 5) == "bad-kind");
  CHECK(code_with(5, 0) == "bad-kind");
  CHECK(code_with(7, 1) == "bad-version");
  CHECK(code_with(15, 1) == "bad-version");
  CHECK(code_with(16, 0) == "bad-length");
  CHECK(code_with(8, 1) == "bad-length");
}

}  // namespace stillpoint::test
