#include "core/journal/run.h"

#include "test/helpers/helpers.h"
#include "test/journal/records.h"

namespace stillpoint::test {
namespace {

ThreadPool& pool() { return ThreadPool::shared(); }

Records some_records(Random& random, int count) {
  Records records;
  std::vector<uint8_t> device(100'000);
  while (count-- > 0) add_random_record(records, random, device);
  return records;
}

RunBounds after(uint64_t ordinal, uint64_t stamp = 0) {
  RunBounds bounds;
  bounds.after = JournalMark{ordinal, stamp};
  return bounds;
}

struct Failure {
  std::string code;
  int64_t at = -2;
  bool operator==(const Failure&) const = default;
};

Failure failure_of(Bytes bytes, const RunBounds& bounds = {}) {
  try {
    prove_run(bytes, bounds, pool());
  } catch (const NativeError& error) {
    return {error.code(), error.byte_offset()};
  }
  return {};
}

// Changes a record, and makes its checksum fit.
std::vector<uint8_t> changed(const Records& records, size_t which,
                             const std::function<void(uint8_t*)>& change) {
  auto bytes = records.bytes;
  uint8_t* const at = bytes.data() + records.begins[which];
  change(at);
  const size_t payload = load_le<uint32_t>(at + 8);
  const Digest sum = checksum({Bytes(at + kJournalHeaderBytes, payload), Bytes(at, 48)});
  std::copy_n(sum.begin(), 16, at + 48);
  return bytes;
}

}  // namespace

TEST_CASE("journal run: ends before a record that is cut, wherever that is") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const Records records = some_records(random, 40);
  for (int i = 0; i < 400; i++) {
    const size_t length = random.below(records.bytes.size() + 1);
    const auto whole = static_cast<size_t>(
        std::upper_bound(records.begins.begin(), records.begins.end(), length) - records.begins.begin());
    size_t count = length == records.bytes.size() ? records.begins.size() : whole == 0 ? 0 : whole - 1;
    size_t looked = 0;
    const JournalRun run = prove_run(Bytes(records.bytes).first(length), {}, pool(),
                                     [&](auto views) { looked += views.size(); });
    CHECK(run.record_count == count);
    CHECK(looked == count);
    CHECK(run.byte_length == (count == records.begins.size() ? length : records.begins[count]));
    CHECK(run.first.ordinal == (count > 0 ? 1 : 0));
    CHECK(run.last.ordinal == count);
    CHECK(run.last.stamp == (count > 0 ? 1000 + 10 * count : 0));
  }
}

TEST_CASE("journal run: more than is proven at a time comes in its order") {
  Records records;
  const std::vector<uint8_t> payload(300'000, 3);
  for (int i = 0; i < 60; i++) records.write(0, payload);
  uint64_t next = 1;
  const JournalRun run = prove_run(records.bytes, after(0), pool(), [&](auto views) {
    CHECK(views.size() < 60);
    for (const JournalRecordView& view : views) CHECK(view.record.ordinal == next++);
  });
  CHECK(run.record_count == 60);
  CHECK(run.byte_length == records.bytes.size());
}

TEST_CASE("journal run: no bit changes unnoticed, and the first wrong record is named") {
  Random random(4);
  const Records records = some_records(random, 30);
  for (int i = 0; i < 400; i++) {
    auto bytes = records.bytes;
    const size_t at = random.below(bytes.size());
    bytes[at] ^= static_cast<uint8_t>(1 << random.below(8));
    const auto which = std::upper_bound(records.begins.begin(), records.begins.end(), at) - 1;
    // A length that is larger than what is there looks as if the record was cut.
    const Failure failure = failure_of(bytes);
    if (failure.code.empty()) {
      CHECK(prove_run(bytes, {}, pool()).byte_length == *which);
    } else {
      CHECK(failure.at == static_cast<int64_t>(*which));
    }
  }
  auto bytes = records.bytes;
  for (const size_t which : {25, 7, 12}) bytes[records.begins[which] + 17] ^= 1;
  CHECK(failure_of(bytes) == Failure{"bad-checksum", static_cast<int64_t>(records.begins[7])});
}

TEST_CASE("journal run: ordinals have no gap, and stamps ascend") {
  Random random(5);
  const Records records = some_records(random, 6);
  const auto at = [&](size_t which) { return static_cast<int64_t>(records.begins[which]); };
  CHECK(failure_of(records.bytes, after(0)) == Failure{});
  CHECK(failure_of(records.bytes, after(1)) == Failure{"bad-order", 0});
  CHECK(failure_of(records.from(3), after(3)) == Failure{});
  CHECK(failure_of(records.from(3), after(3, 1030)) == Failure{});
  CHECK(failure_of(records.from(3), after(3, 1040)) == Failure{"bad-order", 0});
  CHECK(failure_of(records.from(3)) == Failure{});
  const auto with = [&](size_t which, size_t field, uint64_t value) {
    return failure_of(
        changed(records, which, [&](uint8_t* record) { store_le<uint64_t>(record + field, value); }));
  };
  CHECK(with(4, 16, 6) == Failure{"bad-order", at(4)});
  CHECK(with(4, 16, 4) == Failure{"bad-order", at(4)});
  CHECK(with(4, 24, 1040) == Failure{"bad-order", at(4)});
  CHECK(with(4, 24, 1041) == Failure{});
  CHECK(with(0, 16, (uint64_t{1} << 53) - 1) == Failure{"bad-order", at(1)});
  CHECK(with(0, 16, uint64_t{1} << 53) == Failure{"bad-length", at(0)});
}

TEST_CASE("journal run: ends at a stamp, and before it is too long") {
  Random random(6);
  const Records records = some_records(random, 20);
  const auto count = [&](uint64_t through_stamp, uint64_t bytes_max) {
    RunBounds bounds;
    bounds.through_stamp = through_stamp;
    bounds.bytes_max = bytes_max;
    return prove_run(records.bytes, bounds, pool()).record_count;
  };
  const uint64_t none = RunBounds::kNone;
  CHECK(count(1009, none) == 0);
  CHECK(count(1010, none) == 1);
  CHECK(count(1109, none) == 10);
  CHECK(count(1110, none) == 11);
  CHECK(count(none - 1, none) == 20);
  CHECK(count(none, 0) == 1);
  CHECK(count(none, records.begins[7]) == 7);
  CHECK(count(none, records.begins[8] - 1) == 7);
  CHECK(count(none, records.begins[8]) == 8);
  CHECK(count(1040, records.begins[8]) == 4);
  // A stamp that ends the run is proven: damage must not hide what follows it.
  auto bytes = records.bytes;
  bytes[records.begins[5] + 24 + 6] ^= 1;
  RunBounds bounds;
  bounds.through_stamp = 1180;
  CHECK(failure_of(bytes, bounds) == Failure{"bad-checksum", static_cast<int64_t>(records.begins[5])});
}

TEST_CASE("journal run: what must be all there is refused where it is not") {
  Random random(7);
  const Records records = some_records(random, 5);
  const auto prove = [&](Bytes bytes, const std::optional<JournalMark>& mark) {
    return prove_all(bytes, mark, pool(), [](auto) {});
  };
  CHECK(prove(records.bytes, std::nullopt)->ordinal == 5);
  CHECK(prove({}, JournalMark{9, 99})->ordinal == 9);
  CHECK(!prove({}, std::nullopt));
  CHECK(code_of([&] { prove(Bytes(records.bytes).first(records.bytes.size() - 1), {}); }) == "truncated");
}

}  // namespace stillpoint::test
