#include "test/worlds/journaled_tap.h"

namespace stillpoint::test {

using namespace std::chrono_literals;
using State = JournalHead::State;

TEST_CASE("tap journal: begins at an instant, and has every change from there on in order") {
  JournaledTap world;
  world.start();
  REQUIRE(world.write(0, 4096, 'a') == 0);
  CHECK(world.tap->journal()->heads().empty());
  std::vector<uint8_t> image;
  const auto hold = world.hold(&image);
  REQUIRE(hold.journal.has_value());
  CHECK(hold.journal->ordinal == 1);
  REQUIRE(world.write(100, 5000, 'b') == 0);
  REQUIRE(world.write(4096, 4096, 'c', Patience::immediate) == 0);
  REQUIRE(world.tap->zero(200, 300, {}, false) == 0);
  REQUIRE(world.tap->trim(8192, 4096, false) == 0);
  const auto stamp = world.tap->stamp();
  REQUIRE(stamp.has_value());
  CHECK(stamp->ordinal == 6);
  world.tap->commit();
  const auto later = world.hold();
  CHECK(later.journal->journal == hold.journal->journal);
  CHECK(later.journal->ordinal == 7);

  const auto records = world.read_to(world.current());
  REQUIRE(records.size() == 7);
  using Kind = JournalKind;
  const Kind kinds[] = {Kind::instant, Kind::write, Kind::write,  Kind::zero,
                        Kind::zero,    Kind::stamp, Kind::instant};
  for (size_t i = 0; i < 7; i++) CHECK(records[i].record.kind == kinds[i]);
  const Id session = later.snapshot->status().session_id;
  CHECK(records[6].payload == std::vector<uint8_t>(session.begin(), session.end()));
  for (const StoredRecord& stored : records) replay(stored, image);
  CHECK(image == world.content());
}

TEST_CASE("tap journal: what the device declines, or would wait for, leaves no record") {
  JournaledTap world;
  world.start();
  world.hold();
  world.device->writes_would_wait = true;
  CHECK(world.write(0, 4096, 'a', Patience::immediate) == kWouldWait);
  CHECK(world.current().last_ordinal == 1);
  CHECK(world.current().state == State::open);
  REQUIRE(world.write(0, 4096, 'a') == 0);
  CHECK(world.current().last_ordinal == 2);
  world.device->zero_error = ENOTSUP;
  CHECK(world.tap->zero(0, 4096, {true, true}, false) == ENOTSUP);
  CHECK(world.tap->trim(0, 4096, false) == 0);
  CHECK(world.current().last_ordinal == 2);
  CHECK(world.current().state == State::open);
  CHECK(world.tap->zero(0, 4096, {}, false) == ENOTSUP);
  CHECK(world.current().state == State::broken);
}

TEST_CASE("tap journal: one that may come later finds no trim under way that it could not replay") {
  for (const bool may_come : {false, true}) {
    JournaledTap world;
    auto map = std::make_unique<ChangeMap>(world.geometry, std::make_unique<BlockMap>(64), nullptr,
                                           ChangeMap::Start{{}, "as made"});
    world.tap = std::make_unique<TapExport>(world.device, world.geometry, std::move(map), nullptr, may_come);
    CHECK_FALSE(world.hold().journal.has_value());
    world.tap->commit();
    // What the device can't zero, a trim that zeroes leaves as it is.
    world.device->zero_error = ENOTSUP;
    CHECK(world.tap->trim(0, 4096, false) == (may_come ? 0 : ENOTSUP));
    if (!may_come) continue;
    world.tap->set_journal(world.make());
    CHECK(world.hold().journal.has_value());
    REQUIRE(world.write(0, 4096, 'a') == 0);
    CHECK(world.current().ordinal == 2);
  }
}

TEST_CASE("tap journal: a write that overlaps one in flight waits, or is told to") {
  JournaledTap world;
  world.start();
  world.hold();
  world.tap->commit();
  world.device->hold_writes(true);
  std::thread first([&] { REQUIRE(world.write(4096, 4096, 'a') == 0); });
  while (world.device->writes_waiting != 1) std::this_thread::yield();
  CHECK(world.write(8191, 1, 'b', Patience::immediate) == kWouldWait);
  std::thread second([&] { REQUIRE(world.write(8191, 1, 'b') == 0); });
  std::thread other([&] { REQUIRE(world.write(8192, 1, 'c') == 0); });
  while (world.device->writes_waiting < 2) std::this_thread::yield();
  std::this_thread::sleep_for(20ms);
  CHECK(world.device->writes_waiting == 2);
  // The head waits for nobody's device.
  const auto stamp = world.tap->stamp();
  REQUIRE(stamp.has_value());
  CHECK(world.current().ordinal == stamp->ordinal);
  world.device->hold_writes(false);
  first.join();
  second.join();
  other.join();
  CHECK(world.replayed(world.current()) == world.content());
}

TEST_CASE("tap journal: it breaks for its reasons, and users' writes are answered by the device") {
  JournaledTap world;
  world.start();
  world.hold();
  world.tap->commit();
  REQUIRE(world.write(0, 4096, 'a') == 0);
  REQUIRE(world.tap->journal()->settle());
  std::string reason;
  int answer = 0;
  SUBCASE("the device can't be written") {
    world.device->write_error = answer = ENOSPC;
    reason = "a write to the device failed";
  }
  SUBCASE("the device can't be flushed") {
    world.device->flush_error = EIO;
    CHECK(world.tap->flush() == EIO);
    reason = "the device can't be flushed";
  }
  SUBCASE("the spool can't be written") {
    world.faults->fail_at = world.faults->steps.load();
    reason = "its spool can't be written";
  }
  SUBCASE("others have written to the device") {
    world.device->foreign_writers = 1;
    world.tap->check_source();
    reason = "another process had it open";
  }
  SUBCASE("the map is not to be believed") {
    world.tap->make_void("a sample differs");
    reason = "a sample differs";
  }
  CHECK(world.write(4096, 4096, 'b') == answer);
  CHECK(world.write(8192, 4096, 'b') == answer);
  const JournalHead head = world.current();
  CHECK(head.state == State::broken);
  CHECK(head.reason.find(reason) == 0);
  CHECK(head.ordinal == 2);
  CHECK(head.broken_stamp > head.stamp);
  CHECK(world.read_to(head).size() == 2);

  // The next instant begins another.
  world.device->write_error = world.device->flush_error = 0;
  world.faults->fail_at = -1;
  const auto hold = world.hold();
  REQUIRE(hold.journal.has_value());
  CHECK(hold.journal->journal != head.journal);
  CHECK(hold.journal->ordinal == 1);
  CHECK(hold.journal->stamp > head.broken_stamp);
  CHECK(world.tap->journal()->heads().size() == 2);
  world.tap->journal()->release(head.journal, head.ordinal);
  CHECK(world.tap->journal()->heads().size() == 1);
  CHECK(SpoolFiles::at(world.directory / "spool")->journals().size() == 1);
}

TEST_CASE("tap journal: a full spool costs the journal, and the next one has room") {
  JournaledTap world;
  world.bytes_max = 64 << 10;
  world.segment_bytes = 16 << 10;
  world.start();
  world.hold();
  world.tap->commit();
  for (int i = 0; i < 40; i++) REQUIRE(world.write(0, 4096, 'a') == 0);
  const JournalHead full = world.current();
  CHECK(full.reason == "its spool is full");
  CHECK(world.read_to(full).back().record.ordinal == full.last_ordinal);
  // Nobody has fetched it, and so it goes.
  REQUIRE(world.hold().journal.has_value());
  REQUIRE(world.write(0, 4096, 'b') == 0);
  CHECK(world.current().state == State::open);
  CHECK(world.current().ordinal == 2);
  CHECK(SpoolFiles::at(world.directory / "spool")->journals().size() == 1);
}

TEST_CASE("tap journal: a hold does not fail because no journal can be begun") {
  JournaledTap world;
  world.start();
  world.faults->fail_at = 0;
  const auto hold = world.hold();
  CHECK_FALSE(hold.journal.has_value());
  CHECK(world.tap->journal()->failure().find("no journal can be begun") == 0);
  REQUIRE(world.write(0, 4096, 'a') == 0);
  world.tap->commit();
  world.faults->fail_at = -1;
  CHECK(world.hold().journal.has_value());
  CHECK(world.tap->journal()->failure().empty());
}

TEST_CASE("tap journal: writes that are tried again for a snapshot are recorded once") {
  JournaledTap world;
  world.start();
  TapExport::HoldOptions options;
  options.snapshot.session_id = {9};
  options.snapshot.full = true;
  options.snapshot.throttle = true;
  options.preserve_file = std::make_unique<RecordingFile>(std::make_shared<Recording>());
  options.preserve_bytes_max = 4096;
  const auto hold = hold_at_once(*world.tap, std::move(options));
  REQUIRE(world.write(0, 4096, 'a') == 0);
  CHECK(world.write(4096, 4096, 'a', Patience::immediate) == kWouldWait);
  std::thread writer([&] { REQUIRE(world.write(4096, 4096, 'a') == 0); });
  std::this_thread::sleep_for(10ms);
  CHECK(world.current().last_ordinal == 2);
  hold.snapshot->release(0, 4096);
  writer.join();
  CHECK(world.current().ordinal == 3);
}

}  // namespace stillpoint::test
