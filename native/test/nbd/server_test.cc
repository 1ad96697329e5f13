// The NBD server over real sockets, with a client of few lines.
#include "core/nbd/server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>

#include "core/nbd/exports/device_export.h"
#include "test/helpers/helpers.h"
#include "test/worlds/nbd_client.h"
#include "test/worlds/nbd_world.h"

using namespace stillpoint;
using namespace stillpoint::test;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t kSize = 8 << 20;

using Answer = NbdAnswer;
using Client = NbdClient;

struct World {
  explicit World(const NbdServer::Options& options = {}) : server(options) {
    server.add_export("disk", disk);
    server.listen("unix:" + path);
  }

  TemporaryDirectory directory;
  const std::string path = directory / "socket";
  std::shared_ptr<TestExport> disk = std::make_shared<TestExport>(kSize);
  NbdServer server;
};

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

TEST_CASE("nbd server: each request, at once and by workers, with both kinds of replies") {
  World world;
  for (const bool structured : {true, false}) {
    for (const bool would_wait : {false, true}) {
      CAPTURE(structured);
      CAPTURE(would_wait);
      world.disk->would_wait = would_wait;
      Client client(world.path);
      REQUIRE(client.go("", structured));
      for (const uint32_t length : {512u, 4096u, 65536u, 66048u, 1u << 20, uint32_t{kSize}}) {
        CAPTURE(length);
        CHECK(client.call(NbdCommand::write, kSize - length, length, length / 512 % 251 + 1).error == 0);
        const Answer read = client.call(NbdCommand::read, kSize - length, length);
        CHECK(read.error == 0);
        CHECK(read.bytes == std::vector<uint8_t>(length, static_cast<uint8_t>(length / 512 % 251 + 1)));
      }
      CHECK(client.call(NbdCommand::write_zeroes, 512, 1024).error == 0);
      CHECK(client.call(NbdCommand::read, 512, 1024).bytes == std::vector<uint8_t>(1024));
      CHECK(client.call(NbdCommand::write_zeroes, 512, 1024, 1, kNbdFastZero).error == 95);
      CHECK(client.call(NbdCommand::trim, 512, 1024).error == 0);
      CHECK(client.call(NbdCommand::cache, 0, 4096).error == 0);
      CHECK(client.call(NbdCommand::flush, 0, 0).error == 0);
      for (const NbdCommand command : {NbdCommand::read, NbdCommand::write, NbdCommand::trim,
                                       NbdCommand::cache, NbdCommand::write_zeroes}) {
        CHECK(client.call(command, 0, 0).error == 0);
      }
      const Answer status = client.call(NbdCommand::block_status, 65536, 131072);
      CHECK(status.error == (structured ? 0 : 22));
      // Two contexts: their ids, and two extents each.
      const NbdBytes expected = NbdBytes().be(0u).be(65536u).be(1u).be(65536u).be(0u);
      const NbdBytes other = NbdBytes().be(1u).be(65536u).be(5u).be(65536u).be(4u);
      if (structured) CHECK(std::equal(expected.begin(), expected.end(), status.bytes.begin()));
      if (structured) CHECK(std::equal(other.rbegin(), other.rend(), status.bytes.rbegin()));

      // Errors: of the request, and of the export.
      CHECK(client.call(NbdCommand::read, kSize, 512).error == 22);
      CHECK(client.call(NbdCommand::write, kSize, 512).error == 28);
      CHECK(client.call(NbdCommand::write, kSize - 512, 1 << 20).error == 28);
      CHECK(client.call(NbdCommand::write, 0, kNbdPayloadBytesMax + 512).error != 0);
      CHECK(client.call(static_cast<NbdCommand>(99), 0, 0).error == 22);
      world.disk->read_error = ESTALE;
      world.disk->write_error = ENOSPC;
      world.disk->flush_error = EIO;
      for (const uint32_t length : {512u, 1u << 20}) {
        CHECK(client.call(NbdCommand::read, 0, length).error == 5);
        CHECK(client.call(NbdCommand::write, 0, length).error == 28);
      }
      CHECK(client.call(NbdCommand::flush, 0, 0).error == 5);
      world.disk->read_error = world.disk->write_error = world.disk->flush_error = 0;
      CHECK(client.call(NbdCommand::read, 0, 512).error == 0);
      client.ask(NbdCommand::disc, 0, 0);
      CHECK(client.ended());
    }
  }
  CHECK(world.server.counters().connections == 4);
  CHECK(world.server.counters().flushes == 4);
}

TEST_CASE("nbd server: slow requests don't hold up fast ones, and are answered before the end") {
  World world;
  world.disk->slow_read_ms = world.disk->slow_write_ms = 1000;
  Client client(world.path);
  REQUIRE(client.go());
  const auto began = std::chrono::steady_clock::now();
  // More writes than there are threads for them; reads still are served.
  for (uint64_t i = 0; i < 20; ++i) client.ask(NbdCommand::write, 0, 512, 100 + i);
  client.ask(NbdCommand::read, 0, 512, 50);
  for (uint64_t i = 1; i <= 40; ++i) client.ask(NbdCommand::read, 8192, 512, i);
  for (uint64_t i = 1; i <= 40; ++i) CHECK(client.answer().first == i);
  CHECK(client.answer().first >= 50);
  client.ask(NbdCommand::disc, 0, 0);
  for (int i = 0; i < 20; ++i) CHECK(client.answer().second.error == 0);
  CHECK(client.ended());
  CHECK(seconds_since(began) < 10);
}

TEST_CASE("nbd server: a client that doesn't read its answers holds up itself only") {
  NbdServer::Options options;
  options.memory = {4 << 20, 8 << 20};
  options.threads_max = 2;
  options.grace = 100ms;
  World world(options);
  for (const bool would_wait : {false, true}) {
    world.disk->would_wait = would_wait;
    std::vector<std::unique_ptr<Client>> deaf;
    for (int i = 0; i < 4; ++i) {
      deaf.push_back(std::make_unique<Client>(world.path));
      REQUIRE(deaf.back()->go());
      for (uint64_t cookie = 0; cookie < 32; ++cookie) deaf.back()->ask(NbdCommand::read, 0, 1 << 20, cookie);
    }
    std::this_thread::sleep_for(100ms);
    Client client(world.path);
    REQUIRE(client.go());
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < 50; ++i) {
      REQUIRE(client.call(NbdCommand::write, 4096, 8192, 7).error == 0);
      REQUIRE(client.call(NbdCommand::read, 4096, 1 << 20).error == 0);
    }
    CHECK(seconds_since(began) < 5);
    // What they didn't read is still theirs.
    for (int i = 0; i < 32; ++i) CHECK(deaf[0]->answer().second.bytes.size() == 1 << 20);
  }
  world.server.remove_export("disk");
}

TEST_CASE("nbd server: connections that end anywhere, or say nonsense, leave nothing behind") {
  World world;
  const NbdBytes whole = NbdBytes()
                             .be(uint32_t{3})
                             .option(8)
                             .option(7, NbdBytes().info("disk"))
                             .request(NbdCommand::read, 0, 1, 0, 4096)
                             .request(NbdCommand::write, 0, 2, 0, 2048);
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    Client client(world.path);
    client.send({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut)});
  }
  for (const uint32_t length : {2048u, 1u << 20, 40u << 20}) {
    Client client(world.path);
    REQUIRE(client.go());
    NbdBytes half;
    client.send(half.request(NbdCommand::write, 0, 2, 0, length).text(std::string(1000, 'x')));
  }
  Client nonsense(world.path);
  REQUIRE(nonsense.go());
  nonsense.send(NbdBytes().text(std::string(28, 'x')));
  CHECK(nonsense.ended());
  Client too_much(world.path);
  REQUIRE(too_much.go());
  too_much.send(NbdBytes().request(NbdCommand::write, 0, 1, 0, kNbdDrainBytesMax + 512));
  CHECK(too_much.ended());
  Client client(world.path);
  REQUIRE(client.go());
  // Nothing of an incomplete write was written.
  CHECK(client.call(NbdCommand::read, 0, 1 << 20).bytes == std::vector<uint8_t>(1 << 20));
  world.server.stop();
  CHECK(world.server.counters().writes == 0);
}

TEST_CASE("nbd server: an export is removed under load, and nothing of it runs any more") {
  NbdServer::Options options;
  options.grace = 200ms;
  World world(options);
  Client other(world.path);
  world.server.add_export("other", std::make_shared<TestExport>(kSize));
  REQUIRE(other.go("other"));
  for (int round = 0; round < 6; ++round) {
    world.disk->would_wait = round % 2 == 0;
    std::vector<std::thread> users;
    std::atomic<int> started{0};
    for (int i = 0; i < 4; ++i) {
      users.emplace_back([&, i] {
        Client client(world.path);
        if (!client.go()) return;
        ++started;
        // Answers are not looked at; the last client doesn't even take them.
        std::vector<uint8_t> sink(16 + 28 + 4096);
        for (uint64_t cookie = 0;; ++cookie) {
          client.ask(NbdCommand::read, 4096, 4096, cookie);
          client.ask(NbdCommand::write, 8192, 4096, cookie);
          if (i < 3 && !client.receive(sink)) return;
          if (i == 3 && cookie == 200) {
            while (client.receive(sink)) {
            }
            return;
          }
        }
      });
    }
    while (started < 4) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(20ms);
    world.server.remove_export("disk");
    world.disk.reset();  // aborts if something runs
    for (std::thread& user : users) user.join();
    world.disk = std::make_shared<TestExport>(kSize);
    world.server.add_export("disk", world.disk);
    CHECK(other.call(NbdCommand::read, 0, 4096).error == 0);
  }
  world.server.remove_export("never was");
  world.server.remove_export("disk");
  Client late(world.path);
  CHECK_FALSE(late.go("disk"));
}

TEST_CASE("nbd server: stop lets requests end") {
  World world;
  world.disk->slow_write_ms = 200;
  Client client(world.path);
  REQUIRE(client.go());
  client.ask(NbdCommand::write, 0, 4096, 9);
  while (world.disk->operations == 0) std::this_thread::sleep_for(1ms);
  Client undecided(world.path);
  std::this_thread::sleep_for(20ms);
  std::thread stopping([&] { world.server.stop(); });
  CHECK(client.answer().second.error == 0);
  CHECK(client.ended());
  stopping.join();
  CHECK_FALSE(std::filesystem::exists(world.path));
  CHECK_FALSE(Client(world.path).connected());
  CHECK(code_of([&] { world.server.listen("unix:" + world.path); }) == "ESHUTDOWN");
}

TEST_CASE("nbd server: handshakes end in time, and connections are bounded") {
  NbdServer::Options options;
  options.handshake_timeout = 500ms;
  options.connections_max = 2;
  World world(options);
  Client served(world.path);
  REQUIRE(served.go());
  const auto began = std::chrono::steady_clock::now();
  Client idle(world.path);
  Client queued(world.path);
  REQUIRE(queued.go());  // after the idle one was ended
  CHECK(seconds_since(began) < 5);
  uint8_t greeting[18];
  CHECK(idle.receive(greeting));
  CHECK(idle.ended());
  std::this_thread::sleep_for(800ms);
  CHECK(served.call(NbdCommand::read, 0, 512).error == 0);
}

TEST_CASE("nbd server: addresses") {
  World world;
  struct stat status;
  REQUIRE(::stat(world.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  NbdServer second;
  CHECK(code_of([&] { second.listen("unix:" + world.path); }) == "EADDRINUSE");
  CHECK(Client(world.path).connected());

  // The file of a server that was killed.
  const std::string stale = world.directory / "stale";
  {
    const FileDescriptor dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, stale.data(), stale.size());
    REQUIRE(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  CHECK(second.listen("unix:" + stale) == "unix:" + stale);
  CHECK(Client(stale).connected());
  // What is no socket is not ours to replace.
  const std::string file = world.directory / "file";
  std::ofstream(file) << "precious";
  CHECK(code_of([&] { second.listen("unix:" + file); }) == "EADDRINUSE");
  CHECK(std::filesystem::file_size(file) == 8);

  const std::string v4 = second.listen("tcp:127.0.0.1:0");
  CHECK(v4.starts_with("tcp:127.0.0.1:"));
  CHECK(code_of([&] { world.server.listen(v4); }) == "EADDRINUSE");
  for (const char* bad : {"", "unix:", "tcp:", "tcp:1", "tcp::1", "tcp:::1:5",
                          "tcp:127.0.0.1:", "tcp:127.0.0.1:x", "udp:127.0.0.1:5", "/tmp/path"}) {
    CAPTURE(bad);
    CHECK(code_of([&] { second.listen(bad); }) == "argument");
  }
  CHECK(code_of([&] { second.listen("unix:" + std::string(200, 'x')); }) == "argument");
  CHECK(code_of([&] { second.listen("unix:/nowhere/at/all"); }) == "ENOENT");
  CHECK(code_of([&] { world.server.add_export("disk", world.disk); }) == "EEXIST");
}

TEST_CASE("nbd server: several connections under load see their own bytes") {
  NbdServer::Options options;
  options.memory = {256 << 10, 512 << 10};
  World world(options);
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=" << seed);
  std::atomic<int> wrong{0};
  std::vector<std::thread> users;
  for (uint64_t user = 0; user < 4; ++user) {
    users.emplace_back([&, user] {
      Client client(world.path);
      if (!client.go()) return void(++wrong);
      Random random(seed + user);
      const uint64_t base = user * (kSize / 4);
      for (int round = 0; round < 60; ++round) {
        if (random.one_in(4)) world.disk->would_wait = random.one_in(2);
        const auto length = static_cast<uint32_t>(512 * (1 + random.below(random.one_in(8) ? 2048 : 16)));
        const uint64_t offset = base + 512 * random.below((kSize / 4 - length) / 512);
        const uint64_t fill = 1 + random.below(255);
        if (client.call(NbdCommand::write, offset, length, fill, random.one_in(3) ? kNbdFua : 0).error != 0)
          ++wrong;
        for (uint64_t i = 0; i < 8; ++i) client.ask(NbdCommand::read, offset, length, i);
        for (uint64_t i = 0; i < 8; ++i) {
          if (client.answer().second.bytes != std::vector<uint8_t>(length, static_cast<uint8_t>(fill)))
            ++wrong;
        }
      }
    });
  }
  for (std::thread& user : users) user.join();
  CHECK(wrong == 0);
  CHECK(world.server.counters().reads == 4 * 60 * 8);
}
