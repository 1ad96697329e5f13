// Ends and starts of a journal: clean ones, kills and faults at every step of its I/O, restarts of the
// machine.
#include "test/worlds/journaled_tap.h"

namespace stillpoint::test {
namespace {

using State = JournalHead::State;
namespace fs = std::filesystem;

// One tap's life, and what the device had at each ordinal of each journal.
struct Life : JournaledTap {
  Life() : JournaledTap(16) { segment_bytes = 8000; }

  void note() {
    if (tap->journal()->heads().empty()) return;
    const JournalHead head = current();
    images.try_emplace({head.journal, head.last_ordinal}, content());
  }

  void live() {
    hold();
    note();
    tap->commit();
    for (int i = 0; i < 12; i++) {
      REQUIRE(write(static_cast<uint64_t>(i % 5) * 3000, 2500, static_cast<uint8_t>('a' + i)) == 0);
      note();
      if (i == 8 && !tap->journal()->heads().empty()) {
        try {
          tap->journal()->release(current().journal, 4);
        } catch (const NativeError&) {
        }
      }
    }
    hold();
    note();
    tap->abort();
    REQUIRE(tap->zero(100, 20000, {}, false) == 0);
    note();
    tap->stamp();
    note();
  }

  // What may be read leads from one state of the device to another.
  void check_readable(const Life& in, const JournalHead& head) const {
    const auto records = in.read_to(head);
    if (records.empty()) return;
    // The first record of all is the instant, which changes nothing.
    const uint64_t before = std::max<uint64_t>(1, records.front().record.ordinal - 1);
    std::vector<uint8_t> image = images.at({head.journal, before});
    for (const StoredRecord& stored : records) replay(stored, image);
    CHECK(image == images.at({head.journal, head.ordinal}));
  }

  std::map<std::pair<Id, uint64_t>, std::vector<uint8_t>> images;
};

}  // namespace

TEST_CASE("journal restart: after a clean end it goes on, under the same id") {
  JournaledTap world;
  world.segment_bytes = 8000;
  world.start();
  world.hold();
  world.tap->commit();
  for (int round = 0; round < 3; round++) {
    for (uint8_t i = 0; i < 5; i++)
      REQUIRE(world.write(i * 4096u, 3000, static_cast<uint8_t>(round * 7 + i)) == 0);
    const JournalHead before = world.current();
    REQUIRE(world.end() == 0);
    CHECK(world.published(before.journal)->state == State::closed);
    world.tap.reset();
    if (round == 1) world.boot = "boot-2";
    world.start();
    const JournalHead after = world.current();
    CHECK(after.state == State::open);
    CHECK(after.journal == before.journal);
    CHECK(after.ordinal == before.ordinal);
    REQUIRE(world.write(50000, 3000, 'n') == 0);
    CHECK(world.current().ordinal == before.ordinal + 1);
    CHECK(world.current().stamp > before.stamp);
    CHECK(world.replayed(world.current()) == world.content());
  }
}

TEST_CASE("journal restart: an end counts once: a tap that went on and was killed has not ended cleanly") {
  for (const bool machine_too : {false, true}) {
    JournaledTap world;
    world.start();
    world.hold();
    world.tap->commit();
    REQUIRE(world.end() == 0);
    world.start();
    REQUIRE(world.write(0, 3000, 'a') == 0);
    const JournalHead before = world.current();
    REQUIRE(before.state == State::open);
    world.tap.reset();
    if (machine_too) world.boot = "boot-2";
    world.start();
    const auto heads = world.tap->journal()->heads();
    CHECK(heads.empty() == machine_too);
    if (machine_too) continue;
    CHECK(heads.back().state == State::broken);
    CHECK(heads.back().ordinal == before.ordinal);
  }
}

TEST_CASE("journal restart: it does not go on if that is not sure, and what it has can be shipped") {
  JournaledTap world;
  world.start();
  world.hold();
  world.tap->commit();
  REQUIRE(world.write(0, 3000, 'a') == 0);
  const JournalHead before = world.current();
  std::string reason;
  SUBCASE("killed") { reason = "the tap did not end cleanly"; }
  SUBCASE("the device was changed meanwhile") {
    REQUIRE(world.end() == 0);
    world.distrust = reason = "the device was written to past its tap";
  }
  SUBCASE("the write clock is another") {
    REQUIRE(world.end() == 0);
    world.reservation->bytes.clear();
    world.boot = "boot-2";
    reason = "the write clock it had is lost";
  }
  world.tap.reset();
  for (int starts = 0; starts < 3; starts++) {
    world.start();
    const JournalHead after = world.current();
    CHECK(after.state == State::broken);
    CHECK(after.reason == reason);
    CHECK(after.journal == before.journal);
    CHECK(after.ordinal == 2);
    CHECK(after.broken_stamp == before.stamp + 1);
    CHECK(world.read_to(after).size() == 2);
    REQUIRE(world.write(9000, 3000, 'b') == 0);
    CHECK(world.current() == after);
    // Also over clean ends, and so over restarts of the machine.
    if (starts == 1) {
      REQUIRE(world.end() == 0);
      world.boot = "boot-3";
    }
    world.tap.reset();
    world.distrust.clear();
  }
  world.start();
  CHECK(world.hold().journal->journal != before.journal);
}

TEST_CASE("journal restart: after a power cut, what was not shipped is gone") {
  JournaledTap world;
  world.start();
  world.hold();
  world.tap.reset();
  world.boot = "boot-2";
  world.start();
  CHECK(world.tap->journal()->heads().empty());
  CHECK(SpoolFiles::at(world.directory / "spool")->journals().empty());
  // Nor is there a head that nothing belongs to.
  for (const auto& entry : fs::directory_iterator(world.directory / "run"))
    CHECK(entry.path().extension() != ".head");
}

TEST_CASE("journal restart: one whose end is damaged or missing is given up") {
  for (const bool missing : {false, true}) {
    JournaledTap world;
    world.start();
    const Id journal = world.hold().journal->journal;
    world.tap->commit();
    REQUIRE(world.write(0, 3000, 'a') == 0);
    REQUIRE(world.end() == 0);
    world.tap.reset();
    const std::string path = world.directory / ("spool/" + journal_name(journal) + "/0000000001.segment");
    if (missing) {
      fs::remove(path);
    } else {
      const auto file = TapFile::open_named(path);
      REQUIRE(file->write(64 + 16 + 64 + 1000, std::vector<uint8_t>{0xff}) == 0);
    }
    world.start();
    CHECK(world.tap->journal()->heads().empty());
  }
}

TEST_CASE("journal restart: killed at any step, it never goes on, and what it published is true") {
  Life life;
  struct Kill {
    std::string directory;
    std::vector<uint8_t> reservation;
    bool closing;
  };
  std::vector<Kill> kills;
  bool closing = false;
  life.faults->before_step = [&] {
    const std::string to = life.directory / ("kill-" + std::to_string(kills.size()));
    fs::create_directory(to);
    for (const char* const name : {"spool", "run"})
      fs::copy(life.directory / name, fs::path(to) / name, fs::copy_options::recursive);
    kills.push_back({to, life.reservation->bytes, closing});
  };
  life.start();
  life.live();
  const JournalHead last = life.current();
  closing = true;
  REQUIRE(life.end() == 0);
  life.faults->before_step();
  CHECK(kills.size() > 25);

  int went_on = 0;
  for (const bool machine_too : {false, true}) {
    for (const Kill& kill : kills) {
      CAPTURE(kill.directory);
      Life after;
      for (const char* const name : {"spool", "run"}) {
        fs::remove_all(after.directory / name);
        fs::copy(fs::path(kill.directory) / name, after.directory / name, fs::copy_options::recursive);
      }
      after.reservation->bytes = kill.reservation;
      after.ids = 100;
      if (machine_too) after.boot = "boot-2";
      const auto published = after.published(last.journal);
      after.start();
      const auto heads = after.tap->journal()->heads();
      if (heads.empty()) {
        CHECK_FALSE(published.has_value());
      } else if (heads.back().state == State::open) {
        went_on++;
        CHECK(kill.closing);
        CHECK(heads.back().ordinal == last.ordinal);
        life.check_readable(after, heads.back());
      } else {
        CHECK(heads.back().ordinal == published->ordinal);
        CHECK(heads.back().oldest_segment >= published->oldest_segment);
        life.check_readable(after, heads.back());
        CHECK(after.hold().journal->journal != last.journal);
      }
    }
  }
  // Both the last step, whose sync is all that was missing, and the end itself.
  CHECK(went_on == 4);
}

TEST_CASE("journal restart: a fault at any step costs the journal at most") {
  for (const bool once : {true, false}) {
    for (int step = 0;; step++) {
      CAPTURE(step);
      Life life;
      life.start();
      life.faults->fail_at = step;
      life.faults->fails_once = once;
      life.live();
      for (const JournalHead& head : life.tap->journal()->heads()) {
        if (head.ordinal > 0) life.check_readable(life, head);
        CHECK((head.state == State::open || !head.reason.empty()));
      }
      try {
        life.end();
      } catch (const NativeError& error) {
        CHECK(error.code() == "EIO");
      }
      const bool all_done = life.faults->steps <= step;
      life.tap.reset();
      life.faults->fail_at = -1;
      life.start();
      for (const JournalHead& head : life.tap->journal()->heads()) life.check_readable(life, head);
      CHECK(life.hold().journal.has_value());
      if (all_done) break;
    }
  }
}

}  // namespace stillpoint::test
