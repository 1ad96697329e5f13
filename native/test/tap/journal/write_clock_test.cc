#include "core/tap/clock/write_clock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "core/tap/clock/reservation.h"
#include "test/helpers/recording_file.h"

namespace stillpoint::test {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 1'800'000'000 * kSecond;

struct ClockWorld {
  WriteClock::Options options() {
    WriteClock::Options options;
    options.word_path = directory / "word";
    options.lock_path = directory / "lock";
    options.reservation = std::make_unique<RecordingFile>(disk);
    options.new_id = {++ids};
    options.boot = boot;
    options.now = [this] { return time.load(); };
    return options;
  }
  std::unique_ptr<WriteClock> open() { return std::make_unique<WriteClock>(options()); }
  uint64_t reserved() { return read_reservation(*file_of(disk->bytes)).value().stamp; }
  // The machine has started again.
  void reboot(const std::string& name) {
    boot = name;
    std::filesystem::remove(directory / "word");
  }

  TemporaryDirectory directory;
  std::shared_ptr<Recording> disk = std::make_shared<Recording>();
  std::string boot = "first";
  uint8_t ids = 0;
  std::atomic<uint64_t> time{kStart};
};

}  // namespace

TEST_CASE("write clock: stamps are the time, and ascend where it does not") {
  ClockWorld world;
  const auto clock = world.open();
  CHECK(clock->draw() == kStart);
  CHECK(clock->draw() == kStart + 1);
  world.time = kStart + kSecond;
  CHECK(clock->draw() == kStart + kSecond);
  world.time = kStart - 100 * kSecond;
  CHECK(clock->draw() == kStart + kSecond + 1);
  CHECK(clock->ahead() == 101 * kSecond + 1);
}

TEST_CASE("write clock: no stamp is given out that is not reserved on disk") {
  ClockWorld world;
  const auto clock = world.open();
  CHECK(world.reserved() == kStart + WriteClock::kReservedAhead);
  for (int i = 1; i < 200; i++) {
    world.time = kStart + static_cast<uint64_t>(i) * 2 * kSecond;
    if (i % 5 == 0) REQUIRE(clock->keep_ahead() == 0);
    CHECK(clock->draw() == world.time);
    REQUIRE(clock->last() <= world.reserved());
  }
  // Not at every call: it is a sync.
  CHECK(world.disk->steps.size() < 60);
}

TEST_CASE("write clock: past what is reserved, stamps go on within it, and not for ever") {
  ClockWorld world;
  const auto clock = world.open();
  world.disk->write_error = EIO;
  const uint64_t last = clock->draw().value();
  world.time = kStart + 3600 * kSecond;
  CHECK(clock->draw() == last + 1);
  CHECK(clock->draw() == last + 2);
  CHECK(clock->keep_ahead() == EIO);
  CHECK(clock->why().find("can't be reserved") != std::string::npos);
  CHECK(clock->draw() == last + 3);
  world.disk->write_error = 0;
  CHECK(clock->keep_ahead() == 0);
  CHECK(clock->why().empty());
  CHECK(clock->draw() == world.time);
}

TEST_CASE("write clock: what is reserved is used up, and there is none then") {
  ClockWorld world;
  const auto clock = world.open();
  world.time = kStart + WriteClock::kReservedAhead;
  CHECK(clock->draw() == world.time);
  CHECK_FALSE(clock->draw().has_value());
  CHECK_FALSE(clock->why().empty());
  REQUIRE(clock->keep_ahead() == 0);
  CHECK(clock->draw() == world.time + 1);
}

TEST_CASE("write clock: its keeper reserves by itself, and is woken") {
  ClockWorld world;
  const auto clock = world.open();
  clock->start_keeper();
  world.time = kStart + 86400 * kSecond;
  while (clock->draw() != world.time) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(world.reserved() >= world.time);
}

TEST_CASE("write clock: a time that was once far ahead leaves its stamps there") {
  ClockWorld world;
  uint64_t far = 0;
  {
    const auto clock = world.open();
    world.time = kStart + 60 * 365 * 86400 * kSecond;
    REQUIRE(clock->keep_ahead() == 0);
    far = clock->draw().value();
    CHECK(far == world.time);
    world.time = kStart + kSecond;
    CHECK(clock->draw() == far + 1);
  }
  world.reboot("second");
  const auto clock = world.open();
  CHECK(clock->draw().value() > far + 1);
  CHECK(clock->ahead() > 59 * 365 * 86400 * kSecond);
}

TEST_CASE("write clock: after a restart of the machine, stamps are later than all before") {
  ClockWorld world;
  uint64_t last = 0;
  Id id;
  for (int boot = 0; boot < 5; boot++) {
    world.reboot("boot" + std::to_string(boot));
    // Whatever the time is then.
    world.time = kStart + (boot % 2 == 0 ? 10 : 1) * 1000 * kSecond;
    const auto clock = world.open();
    if (boot == 0) id = clock->id();
    CHECK(clock->id() == id);
    const uint64_t next = clock->draw().value();
    CHECK(next > last);
    last = clock->draw().value();
  }
}

TEST_CASE("write clock: a word of an earlier boot counts for nothing") {
  ClockWorld world;
  { CHECK(world.open()->draw() == kStart); }
  world.boot = "second";  // the word file is still there, and may be older than its last stamp
  const auto clock = world.open();
  CHECK(clock->draw().value() > kStart + WriteClock::kReservedAhead);
}

TEST_CASE("write clock: a tap that starts again joins the others") {
  ClockWorld world;
  const auto first = world.open();
  CHECK(first->draw() == kStart);
  {
    const auto second = world.open();
    CHECK(second->id() == first->id());
    CHECK(second->draw() == kStart + 1);
  }
  CHECK(first->draw() == kStart + 2);
  CHECK(world.open()->draw() == kStart + 3);
}

TEST_CASE("write clock: without its reservation it is another clock, but not while its word is there") {
  for (const bool damaged : {false, true}) {
    ClockWorld world;
    Id id;
    {
      const auto clock = world.open();
      id = clock->id();
      CHECK(clock->draw() == kStart);
    }
    const auto lose = [&] {
      if (damaged) {
        world.disk->bytes[40] ^= 1;
      } else {
        world.disk->bytes.clear();
      }
    };
    lose();
    {
      const auto clock = world.open();
      CHECK(clock->id() == id);
      CHECK(clock->draw() == kStart + 1);
      CHECK(world.reserved() >= kStart + WriteClock::kReservedAhead);
    }
    lose();
    world.reboot("second");
    world.time = kStart - 1000 * kSecond;
    const auto clock = world.open();
    CHECK(clock->id() != id);
    CHECK(clock->draw() == world.time);
  }
}

TEST_CASE("write clock: nobody makes a new word while others use the old one") {
  ClockWorld world;
  auto first = world.open();
  std::filesystem::remove(world.directory / "word");
  CHECK(code_of([&] { world.open(); }) == "EBUSY");
  CHECK(first->draw() == kStart);
  REQUIRE(first->keep_ahead() == 0);
  first.reset();
  CHECK(world.open()->draw().value() > kStart);
}

TEST_CASE("write clock: what a newer program reserved is left alone; what can't be reserved is said") {
  ClockWorld world;
  world.disk->write_error = ENOSPC;
  CHECK(code_of([&] { world.open(); }) == "ENOSPC");
  world.disk->write_error = 0;
  world.open();
  auto& bytes = world.disk->bytes;
  bytes[8] = 2;
  const Digest sum = checksum(Bytes(bytes).first(480));
  std::copy(sum.begin(), sum.end(), bytes.begin() + 480);
  const auto before = bytes;
  world.reboot("second");
  CHECK(code_of([&] { world.open(); }) == "bad-version");
  CHECK(world.disk->bytes == before);
}

TEST_CASE("write clock: a power cut while it reserves loses no stamp") {
  ClockWorld world;
  Random random(random_seed());
  const auto clock = world.open();
  for (int i = 1; i < 20; i++) {
    const uint64_t last = clock->draw().value();
    world.time += 30 * kSecond;
    const size_t from = world.disk->steps.size();
    REQUIRE(clock->keep_ahead() == 0);
    for (size_t cut = from; cut <= world.disk->steps.size(); cut++) {
      const auto found = read_reservation(*file_of(world.disk->after_power_cut(cut, random)));
      REQUIRE(found.has_value());
      CHECK(found->stamp >= last);
    }
  }
}

TEST_CASE("write clock: processes and threads that draw at once never draw the same") {
  ClockWorld world;
  world.time = 0;  // all by counting
  const auto clock = world.open();
  constexpr size_t kDraws = 20000;
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<uint64_t> drawn;
    for (size_t i = 0; i < kDraws; i++) drawn.push_back(clock->draw().value_or(0));
    const auto* at = reinterpret_cast<const uint8_t*>(drawn.data());
    for (size_t left = kDraws * 8; left > 0;) {
      const ssize_t put = ::write(pipe_ends[1], at, left);
      if (put <= 0) break;
      at += put;
      left -= static_cast<size_t>(put);
    }
    ::_exit(0);
  }
  ::close(pipe_ends[1]);
  std::vector<uint64_t> mine[2];
  const auto other = world.open();
  std::thread thread([&] {
    for (size_t i = 0; i < kDraws; i++) mine[1].push_back(other->draw().value_or(0));
  });
  for (size_t i = 0; i < kDraws; i++) mine[0].push_back(clock->draw().value_or(0));
  thread.join();
  std::vector<uint64_t> theirs(kDraws);
  auto* at = reinterpret_cast<uint8_t*>(theirs.data());
  for (size_t left = kDraws * 8; left > 0;) {
    const ssize_t got = ::read(pipe_ends[0], at, left);
    REQUIRE(got > 0);
    at += got;
    left -= static_cast<size_t>(got);
  }
  ::close(pipe_ends[0]);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  for (const auto& drawn : {mine[0], mine[1], theirs}) {
    CHECK(std::is_sorted(drawn.begin(), drawn.end()));
    CHECK(drawn.front() != 0);
  }
  std::vector<uint64_t> all = theirs;
  for (const auto& drawn : mine) all.insert(all.end(), drawn.begin(), drawn.end());
  std::sort(all.begin(), all.end());
  CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
}

}  // namespace stillpoint::test
