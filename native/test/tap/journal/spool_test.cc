#include "core/tap/journal/spool.h"

#include "test/worlds/journal_world.h"

namespace stillpoint::test {

using namespace std::chrono_literals;

namespace {

// A spool with nothing around it.
struct SpoolWorld : JournalWorld {
  explicit SpoolWorld(uint64_t bytes = 100'000) : room_bytes(bytes) { spool = Spool::create(world, {1}); }

  std::optional<Spool::Ticket> draw(size_t length = 100) {
    return spool->draw(JournalKind::write, 4096, length, static_cast<uint32_t>(length));
  }
  void fill(const Spool::Ticket& ticket, size_t length = 100) {
    spool->fill(ticket, std::vector<uint8_t>(length, 'p'));
  }
  // Stored before the next one.
  bool put(size_t length = 936) {
    const auto ticket = draw(length);
    if (!ticket) return false;
    fill(*ticket, length);
    return spool->settle(ticket->ordinal);
  }
  JournalHead head() { return published({1}).value(); }

  const uint64_t room_bytes;
  std::unique_ptr<SpoolFiles> files = std::make_unique<FaultySpoolFiles>(directory / "spool", faults);
  std::unique_ptr<WriteClock> clock = make_clock();
  SpoolRoom room{room_bytes};
  Spool::World world{*files, *clock, room, directory / "run", boot, 10'000, 400'000};
  std::unique_ptr<Spool> spool;
};

}  // namespace

TEST_CASE("spool: the head moves in the order of ordinals, whatever is filled first") {
  SpoolWorld world;
  const auto a = world.draw().value(), b = world.draw().value(), c = world.draw().value();
  CHECK(a.ordinal == 1);
  CHECK(a.stamp < b.stamp);
  world.fill(b);
  CHECK_FALSE(world.spool->settle(2, 20ms));
  CHECK(world.spool->head().ordinal == 0);
  CHECK_FALSE(world.published({1}).has_value());
  world.fill(a);
  CHECK(world.spool->settle(2));
  CHECK(world.head().ordinal == 2);
  CHECK(world.head().stamp == b.stamp);
  CHECK(world.read_to(world.head()).size() == 2);
  world.fill(c);
  CHECK(world.spool->settle(3));
  for (const StoredRecord& stored : world.read_to(world.head()))
    CHECK(stored.payload == std::vector<uint8_t>(100, 'p'));
  CHECK(world.head() == world.spool->head());
}

TEST_CASE("spool: it is woken whenever there is something to store") {
  SpoolWorld world;
  for (int i = 0; i < 3; i++) {
    const auto ticket = world.draw().value();
    // Longer than it looks by itself.
    std::this_thread::sleep_for(60ms);
    world.fill(ticket);
    while (world.spool->head().ordinal != ticket.ordinal) std::this_thread::yield();
  }
}

TEST_CASE("spool: a record that can't be stored breaks it there, and the head stays before it") {
  SpoolWorld world;
  REQUIRE(world.put());
  const auto a = world.draw().value(), b = world.draw().value();
  world.faults->fail_at = world.faults->steps.load();
  world.fill(b);
  world.fill(a);
  CHECK_FALSE(world.spool->settle(2));
  CHECK_FALSE(world.spool->is_open());
  CHECK_FALSE(world.draw().has_value());
  const JournalHead head = world.head();
  CHECK(head.state == JournalHead::State::broken);
  CHECK(head.ordinal == 1);
  CHECK(head.last_ordinal == 1);
  CHECK(head.broken_stamp == a.stamp);
  CHECK(head.reason.find("Input/output error") != std::string::npos);
  CHECK(world.read_to(head).size() == 1);
}

TEST_CASE("spool: what breaks it from outside does not lose what was drawn before") {
  SpoolWorld world;
  const auto a = world.draw().value(), b = world.draw().value();
  world.spool->break_off("a test");
  CHECK_FALSE(world.draw().has_value());
  CHECK(world.head().last_ordinal == 2);
  CHECK(world.head().broken_stamp > b.stamp);
  world.fill(b);
  world.fill(a);
  CHECK(world.spool->settle(2));
  CHECK(world.read_to(world.head()).size() == 2);
  CHECK(world.head().reason == "a test");
}

TEST_CASE("spool: segments are begun when one is full, and go when the receiver has them") {
  SpoolWorld world;
  for (int i = 0; i < 40; i++) REQUIRE(world.put());
  CHECK(world.room.used == 40'000);
  const auto segments = world.files->segments({1});
  REQUIRE(segments.size() == 4);
  CHECK(segments[0].bytes == 10'000);
  CHECK(world.read_to(world.head()).size() == 40);
  world.spool->release(9);
  CHECK(world.room.used == 40'000);
  world.spool->release(10);
  CHECK(world.room.used == 30'000);
  CHECK(world.head().oldest_segment == 2);
  CHECK(world.read_to(world.head()).front().record.ordinal == 11);
  // Whatever it is told: the last record stays.
  world.spool->release(1'000'000);
  CHECK(world.read_to(world.head()).back().record.ordinal == 40);
  CHECK(world.files->segments({1}).size() == 1);
  CHECK(world.room.used == 10'000);
  for (int i = 0; i < 90; i++) REQUIRE(world.put());
  CHECK(world.spool->is_open());
}

TEST_CASE("spool: what has no room breaks it, and what is there can be read") {
  SpoolWorld world;
  while (world.put()) {
  }
  const JournalHead head = world.head();
  CHECK(head.state == JournalHead::State::broken);
  CHECK(head.reason == "its spool is full");
  CHECK(head.broken_stamp > head.stamp);
  CHECK(head.ordinal == 100);
  CHECK(head.last_ordinal == 100);
  CHECK(world.room.used == 100'000);
  CHECK(world.read_to(head).size() == 100);
  CHECK_FALSE(world.spool->is_done());
  world.spool->release(100);
  CHECK(world.spool->is_done());
  world.spool->drop();
  CHECK(world.room.used == 0);
  CHECK(world.files->journals().empty());
  CHECK_FALSE(world.published({1}).has_value());
}

TEST_CASE("spool: memory that is full is waited for, and not for ever") {
  SpoolWorld world(10'000'000);
  const auto blocker = world.draw().value();
  std::atomic<int> drawn{0};
  std::thread writer([&] {
    while (const auto ticket = world.draw(20'000)) {
      world.fill(*ticket, 20'000);
      if (++drawn == 40) break;
    }
  });
  while (!world.spool->is_crowded()) std::this_thread::yield();
  bool ends = false;
  SUBCASE("until it is stored") { world.fill(blocker); }
  SUBCASE("for ever") { ends = true; }
  writer.join();
  if (ends) {
    CHECK(drawn < 40);
    CHECK(world.head().reason == "its spool is too slow");
    world.fill(blocker);
  }
  CHECK(world.spool->settle(static_cast<uint64_t>(drawn) + 1));
  CHECK(world.read_to(world.head()).size() == static_cast<size_t>(drawn) + 1);
}

TEST_CASE("spool: a segment that can't be begun breaks it") {
  SpoolWorld world;
  for (int i = 0; i < 10; i++) REQUIRE(world.put());
  world.faults->fail_at = world.faults->steps.load();
  CHECK_FALSE(world.put());
  CHECK(world.head().reason.find("its spool can't be written") == 0);
  CHECK(world.head().ordinal == 10);
}

TEST_CASE("spool: it is given up while a record is being filled") {
  SpoolWorld world;
  REQUIRE(world.put());
  const auto ticket = world.draw().value();
  world.spool->drop();
  CHECK(world.room.used == 0);
  world.fill(ticket);
  CHECK(world.files->journals().empty());
}

TEST_CASE("spool: a head that is read while it moves is one of those that were") {
  SpoolWorld world;
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; i < 3000; i++) {
      world.spool->release(static_cast<uint64_t>(i / 2));
      const size_t length = 10 + static_cast<size_t>(i % 7);
      if (const auto ticket = world.draw(length)) world.fill(*ticket, length);
      if (i % 3 == 0) world.spool->settle(static_cast<uint64_t>(i));
    }
    stop = true;
  });
  JournalHead before;
  while (!stop) {
    const auto head = world.published({1});
    if (!head) continue;
    CHECK(head->ordinal >= before.ordinal);
    CHECK(head->stamp >= before.stamp);
    CHECK((head->ordinal == before.ordinal) == (head->stamp == before.stamp));
    const uint64_t bytes = head->end_offset - head->record_offset;
    CHECK(bytes == kJournalHeaderBytes + 10 + (head->ordinal - 1) % 7);
    before = *head;
  }
  writer.join();
}

TEST_CASE("journal head: what is damaged, of another boot or another size is not believed") {
  JournalHead head;
  head.journal = {3};
  head.ordinal = head.last_ordinal = 9;
  head.reason = std::string(JournalHead::kReasonBytesMax, 'r');
  auto bytes = encode_head(head);
  CHECK(decode_head(bytes) == head);
  bytes[100] ^= 1;
  CHECK(code_of([&] { decode_head(bytes); }) == "bad-checksum");
  bytes[0] = 0;
  CHECK(code_of([&] { decode_head(bytes); }) == "bad-magic");

  const TemporaryDirectory directory;
  const std::string path = directory / "head";
  CHECK_FALSE(read_head(path, "boot").has_value());
  {
    HeadFile file(path, "boot");
    CHECK_FALSE(read_head(path, "boot").has_value());
    file.publish(head);
  }
  CHECK(read_head(path, "boot") == head);
  CHECK_FALSE(read_head(path, "other").has_value());
  std::filesystem::resize_file(path, 100);
  CHECK(code_of([&] { read_head(path, "boot"); }) == "bad-length");
  std::filesystem::resize_file(path, 0);
  std::filesystem::resize_file(path, 4096);
  CHECK(code_of([&] { read_head(path, "boot"); }) == "bad-magic");
}

}  // namespace stillpoint::test
