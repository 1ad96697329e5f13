// A tap as a whole, with a journal: which starts it goes on after, and what keeps it from being opened.
#include "core/tap/tap.h"

#include "test/worlds/nbd_client.h"

namespace stillpoint::test {
namespace {

namespace fs = std::filesystem;
using State = JournalHead::State;

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kSize = 64 * kBlock;

struct WholeTap {
  WholeTap() {
    make_sparse(kSize);
    for (const char* const name : {"spool", "run"}) fs::create_directory(directory / name);
  }
  void make_sparse(uint64_t size) {
    const auto file = TapFile::open_named(directory / "image");
    fs::resize_file(directory / "image", size);
  }

  TapOptions options() const {
    TapOptions options;
    options.path = directory / "image";
    options.block_size = kBlock;
    options.map_path = with_map ? directory / "map" : "";
    options.identity = identity;
    options.distrust = distrust;
    if (!journaled) return options;
    options.journal = {directory / "spool", directory / "run",        16 << 20,
                       directory / "word",  directory / "clock.lock", directory / "reservation"};
    return options;
  }
  void start() {
    tap = std::make_unique<Tap>(options());
    tap->listen("unix:" + directory / "nbd", "disk");
    client = std::make_unique<NbdClient>(directory / "nbd");
    REQUIRE(client->go());
  }
  void end() {
    client.reset();
    tap->stop();
    CHECK(tap->close("").empty());
    tap.reset();
  }
  void kill() {
    client.reset();
    tap.reset();
  }
  void write(uint64_t block) {
    client->ask(NbdCommand::write, block * kBlock, kBlock, ++cookie);
    CHECK(client->answer().second.error == 0);
  }
  std::optional<JournalPosition> hold(bool committed = true) {
    TapExport::HoldOptions options;
    options.snapshot.session_id = {static_cast<uint8_t>(++sessions)};
    options.snapshot.full = true;
    options.preserve_bytes_max = kSize;
    tap->prepare(std::move(options), directory / "run");
    tap->close_gate({});
    const auto position = tap->cut().journal;
    committed ? tap->commit() : tap->abort();
    return position;
  }
  // Of the latest journal, all of it stored.
  JournalHead head() const {
    tap->stamp_journal();
    const auto status = tap->journal_status();
    REQUIRE(status.has_value());
    REQUIRE(!status->heads.empty());
    return status->heads.back();
  }

  TemporaryDirectory directory;
  bool journaled = true;
  bool with_map = true;
  std::string identity = "image";
  std::string distrust;
  uint64_t cookie = 0;
  int sessions = 0;
  std::unique_ptr<Tap> tap;
  std::unique_ptr<NbdClient> client;
};

}  // namespace

TEST_CASE("tap with a journal: it goes on after a clean end, and a kill ends it") {
  WholeTap world;
  world.start();
  CHECK(world.tap->journal_status()->heads.empty());
  const auto position = world.hold();
  REQUIRE(position.has_value());
  for (int round = 0; round < 3; round++) {
    world.write(1);
    const JournalHead before = world.head();
    world.end();
    world.start();
    const JournalHead after = world.tap->journal_status()->heads.back();
    CHECK(after.state == State::open);
    CHECK(after.journal == position->journal);
    CHECK(after.ordinal == before.ordinal);
  }
  world.write(2);
  world.kill();
  world.start();
  CHECK(world.head().state == State::broken);
  CHECK(world.head().reason == "the tap did not end cleanly");
  CHECK(world.hold()->journal != position->journal);
}

TEST_CASE("tap with a journal: it goes on only if the map counts after its clean end") {
  WholeTap world;
  std::string reason;
  world.start();
  SUBCASE("no point was committed") {
    world.hold(false);
    reason = "the map was void when the tap ended";
    world.end();
  }
  SUBCASE("the map is void") {
    world.hold();
    world.tap->make_void("for a test");
    // The hold after it begins another journal, and no point.
    world.hold(false);
    reason = "the map was void when the tap ended";
    world.end();
  }
  SUBCASE("the device was written to past its tap") {
    world.hold();
    world.end();
    world.distrust = reason = "it was written to while the tap did not run";
  }
  SUBCASE("another device") {
    world.hold();
    world.end();
    world.identity = "another";
    reason = "the map is of another device";
  }
  SUBCASE("another size") {
    world.hold();
    world.end();
    world.make_sparse(2 * kSize);
    reason = "the map is of another size or block size";
  }
  SUBCASE("the map is gone") {
    world.hold();
    world.end();
    fs::remove(world.directory / "map");
    reason = "there was no map yet";
  }
  SUBCASE("there is no map") {
    world.hold();
    world.end();
    world.with_map = false;
    reason = "changes are not remembered between runs";
  }
  SUBCASE("the map is that of a kill, and the journal of an earlier clean end") {
    world.hold();
    world.end();
    fs::copy(world.directory / "spool", world.directory / "earlier", fs::copy_options::recursive);
    world.start();
    world.write(1);
    world.kill();
    fs::remove_all(world.directory / "spool");
    fs::rename(world.directory / "earlier", world.directory / "spool");
    reason = "the tap did not end cleanly";
  }
  SUBCASE("it ran without a journal in between, and ended cleanly") {
    world.hold();
    world.end();
    world.journaled = false;
    world.start();
    world.write(1);
    world.end();
    world.journaled = true;
    reason = "the tap ran without it";
  }
  SUBCASE("its spool could not be had in between, and it ended cleanly") {
    world.hold();
    world.end();
    fs::rename(world.directory / "spool", world.directory / "away");
    world.start();
    world.write(1);
    world.end();
    fs::rename(world.directory / "away", world.directory / "spool");
    reason = "the tap ran without it";
  }
  world.start();
  CHECK(world.head().state == State::broken);
  CHECK(world.head().reason == reason);
  const Id before = world.head().journal;
  const auto hold = world.hold();
  REQUIRE(hold.has_value());
  CHECK(hold->journal != before);
}

TEST_CASE("tap with a journal: one that can't be opened keeps nobody from anything; a hold tries again") {
  WholeTap world;
  std::string failure;
  std::function<void()> repair;
  std::unique_ptr<SpoolFiles> owner;
  SUBCASE("its directory is missing") {
    fs::remove(world.directory / "spool");
    failure = "No such file or directory";
    repair = [&] { fs::create_directory(world.directory / "spool"); };
  }
  SUBCASE("another tap has it") {
    owner = SpoolFiles::own(world.directory / "spool");
    failure = "another tap has its spool there";
    repair = [&] { owner.reset(); };
  }
  SUBCASE("the write clock is of a newer version") {
    world.start();
    world.end();
    std::vector<uint8_t> before(512);
    const std::shared_ptr<TapFile> file = TapFile::open_named(world.directory / "reservation");
    REQUIRE(file->read(0, before) == 0);
    std::vector<uint8_t> newer = before;
    newer[8] = 2;
    const Digest sum = checksum(Bytes(newer).first(newer.size() - sizeof(Digest)));
    std::copy(sum.begin(), sum.end(), newer.end() - sizeof(Digest));
    REQUIRE(file->write(0, newer) == 0);
    failure = "version 2";
    repair = [file, before] { REQUIRE(file->write(0, before) == 0); };
  }
  world.start();
  CHECK(world.tap->journal_status()->failure.find("the journal can't be opened: ") == 0);
  CHECK(world.tap->journal_status()->failure.find(failure) != std::string::npos);
  world.write(1);
  CHECK_FALSE(world.hold().has_value());
  CHECK_FALSE(world.tap->stamp_journal().has_value());
  world.tap->release_journal(Id{1}, 1);
  world.tap->break_journal(Id{1}, "there is none");
  world.write(2);

  repair();
  const auto hold = world.hold();
  REQUIRE(hold.has_value());
  CHECK(world.tap->journal_status()->failure.empty());
  world.write(3);
  CHECK(world.head().state == State::open);
  // The instant, the write, the stamp.
  CHECK(world.head().ordinal >= 3);
  world.end();
  world.start();
  CHECK(world.head().journal == hold->journal);
  CHECK(world.head().state == State::open);
}

TEST_CASE("tap with a journal: without one it tells of none, and may be asked") {
  WholeTap world;
  world.journaled = false;
  world.start();
  CHECK_FALSE(world.tap->journal_status().has_value());
  CHECK_FALSE(world.hold().has_value());
  world.tap->release_journal(Id{1}, 1);
  world.tap->break_journal(Id{1}, "there is none");
  world.end();
}

TEST_CASE("tap with a journal: what was found when it came late does not go on") {
  WholeTap world;
  world.start();
  const auto before = world.hold();
  world.end();
  fs::rename(world.directory / "spool", world.directory / "away");
  world.start();
  fs::rename(world.directory / "away", world.directory / "spool");
  const auto after = world.hold();
  REQUIRE(after.has_value());
  CHECK(after->journal != before->journal);
  const auto heads = world.tap->journal_status()->heads;
  REQUIRE(heads.size() == 2);
  CHECK(heads[0].state == State::broken);
  CHECK(heads[0].reason == "the tap ran without it");
  world.tap->release_journal(before->journal, heads[0].ordinal);
  CHECK(world.tap->journal_status()->heads.size() == 1);
  world.tap->break_journal(before->journal, "it is not the one");
  CHECK(world.head().state == State::open);
  world.tap->break_journal(after->journal, "for a test");
  CHECK(world.head().reason == "for a test");
}

TEST_CASE("tap with a journal: a small spool takes more than its size, if what it has is released") {
  WholeTap world;
  world.start();
  const Id journal = world.hold()->journal;
  const uint64_t writes = 3 * world.options().journal->bytes_max / kBlock;
  for (uint64_t i = 0; i < writes; i++) {
    world.write(i % (kSize / kBlock));
    if (i % 16 == 0) world.tap->release_journal(journal, world.head().ordinal);
  }
  CHECK(world.head().journal == journal);
  CHECK(world.head().state == State::open);
  world.end();
}

TEST_CASE("tap with a journal: a spool that fails at the end is told of, and the map is closed") {
  WholeTap world;
  world.start();
  const Id journal = world.hold()->journal;
  world.write(1);
  world.head();
  // In the place of what a clean end leaves.
  fs::create_directories(world.directory / ("spool/" + journal_name(journal) + "/closed"));
  world.client.reset();
  world.tap->stop();
  CHECK(world.tap->close("mark").find("closed") != std::string::npos);
  world.tap.reset();
  CHECK(read_map_header(*TapFile::open_named(world.directory / "map")).clean);
}

}  // namespace stillpoint::test
