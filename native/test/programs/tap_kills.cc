// Kills the process of a tap at random moments, under writes and sessions, again and again; each next one
// asks its map for what changed, and finds out whether that was all.
//
//   tap_kills IMAGE MAP SEED KILLS     makes both files; prints one line of JSON
//
// The parent is one thread that forks, waits and kills. The child is a tap over a real image and a real map
// file, three writers, and a session after the other: hold, read what the map names, have the receiver commit
// it, commit. The receiver is in memory that all share, so that it survives: two contents and a switch, a
// commit all at once or not at all. What a killed child has written is in the page cache, and so on the
// image.
//
// Only small parts of the image are written, each across the border of a MiB, at most two at a time: most
// regions of the map stay clean, so that one whose mark is missing is missed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/nbd/exports/device_export.h"
#include "core/tap/export.h"
#include "core/tap/snapshot/export.h"
#include "core/tap/start.h"
#include "test/helpers/hold_at_once.h"
#include "test/helpers/load_log.h"

using namespace stillpoint;
using stillpoint::test::mix;
using stillpoint::test::monotonic_ns;

namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kParts = 127;
constexpr uint64_t kPartBlocks = 4;
constexpr uint64_t kPartBytes = kPartBlocks * kBlock;
constexpr TreeGeometry kGeometry{(kParts + 1) * kMiB, kBlock};
constexpr uint64_t kWindowNsLog2 = 20;

uint64_t part_offset(uint64_t part) { return (part + 1) * kMiB - kPartBytes / 2; }

using Content = std::array<uint8_t, kParts * kPartBytes>;

// All of it is shared with every child.
struct World {
  std::atomic<uint32_t> current{0};  // of the two contents
  std::atomic<uint64_t> ids[2] = {1, 0};
  Content contents[2] = {};
  std::atomic<uint64_t> sessions{1};
  std::atomic<uint64_t> started{0};  // children whose check is done
  std::atomic<uint64_t> maps_used{0};
  std::atomic<uint64_t> named_blocks{0};
  std::atomic<uint64_t> differing_blocks{0};
  std::atomic<uint64_t> commits{0};
  std::atomic<bool> stop{false};
  char failure[256] = {};
};

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(mix(seed)) {}
  uint64_t below(uint64_t bound) { return (state_ = mix(state_)) % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

Id id_of(uint64_t number) {
  Id id{};
  std::memcpy(id.data(), &number, sizeof number);
  return id;
}

// ---- the child ----

class Child {
 public:
  Child(World& world, const char* image, const char* map, uint64_t seed)
      : world_(world),
        dice_(seed),
        directory_(std::filesystem::path(map).parent_path()),
        device_(DeviceExport::open(image, false)),
        tap_(device_, kGeometry, start_maps(TapFile::open_named(map), "device", kGeometry, "").map) {}

  void run() {
    check();
    world_.started++;
    std::vector<std::thread> writers;
    for (unsigned i = 0; i < 3; i++)
      writers.emplace_back([this, seed = dice_.below(~0u) + i] { write(seed); });
    while (!world_.stop) session();
    for (std::thread& writer : writers) writer.join();
    if (tap_.close_clean("") != 0) throw std::runtime_error("the map could not be closed");
  }

 private:
  // Nobody writes yet: the last point, with what the map names read anew, is the device.
  void check() {
    const auto session = hold(false);
    if (session.map_used) {
      const Content& point = world_.contents[world_.current];
      auto read = std::make_unique<Content>(point);
      uint64_t named = 0;
      ship(session, *read, named);
      auto now = std::make_unique<Content>();
      for (uint64_t part = 0; part < kParts; part++) {
        if (device_->read(part_offset(part), {now->data() + part * kPartBytes, kPartBytes},
                          Patience::may_wait) != 0)
          throw std::runtime_error("the image can't be read");
      }
      for (uint64_t at = 0; at < now->size(); at += kBlock) {
        if (std::memcmp(now->data() + at, read->data() + at, kBlock) != 0)
          throw std::runtime_error("a change is missing in the map: byte " + std::to_string(at % kPartBytes) +
                                   " of part " + std::to_string(at / kPartBytes));
        if (std::memcmp(now->data() + at, point.data() + at, kBlock) != 0) world_.differing_blocks++;
      }
      world_.maps_used++;
      world_.named_blocks += named;
    }
    tap_.abort();
  }

  TapExport::Hold hold(bool full) {
    TapExport::HoldOptions options;
    session_ = ++world_.sessions;
    options.base_point = id_of(world_.ids[world_.current]);
    options.snapshot.full = full;
    options.snapshot.session_id = id_of(session_);
    options.preserve_file = TapFile::open_unnamed(directory_);
    options.preserve_bytes_max = kGeometry.size_bytes;
    return test::hold_at_once(tap_, std::move(options), {std::chrono::seconds(20), std::chrono::seconds(30)});
  }

  void session() {
    const auto held = hold(dice_.one_in(12));
    const uint32_t next = 1 - world_.current;
    world_.contents[next] = world_.contents[world_.current];
    uint64_t named = 0;
    ship(held, world_.contents[next], named);
    if (dice_.one_in(6)) return tap_.abort();
    world_.ids[next] = session_;
    world_.current = next;
    world_.commits++;
    if (dice_.one_in(6)) return tap_.abort();  // did not hear of it
    tap_.commit();
    if (dice_.one_in(3)) std::this_thread::sleep_for(std::chrono::milliseconds(dice_.below(8)));
  }

  // Of what the map names, only the parts are read: nobody writes elsewhere.
  static void ship(const TapExport::Hold& held, Content& content, uint64_t& named) {
    SnapshotExport view(held.snapshot);
    std::vector<NbdExtent> extents;
    for (uint64_t part = 0; part < kParts; part++) {
      for (uint64_t block = 0; block < kPartBlocks; block++) {
        const uint64_t offset = part_offset(part) + block * kBlock;
        extents.clear();
        if (view.block_status(1, offset, kBlock, 1, extents) != 0 || extents.empty())
          throw std::runtime_error("the snapshot can't say what changed");
        if (extents[0].flags != 1) continue;
        named++;
        uint8_t* const into = content.data() + part * kPartBytes + block * kBlock;
        if (view.read(offset, {into, kBlock}, Patience::may_wait) != 0)
          throw std::runtime_error("the snapshot can't be read");
        view.trim(offset, kBlock, false);
      }
    }
  }

  void write(uint64_t seed) {
    Dice dice(seed);
    std::vector<uint8_t> bytes(kPartBytes);
    while (!world_.stop) {
      const uint64_t window = mix(world_.started ^ mix(monotonic_ns() >> kWindowNsLog2));
      const uint64_t part = (window >> (dice.one_in(2) ? 8 : 32)) % kParts;
      const uint64_t first = dice.below(kPartBytes / 512);
      const uint64_t length = std::min(kPartBytes - first * 512, 512 * (1 + dice.below(12)));
      std::fill_n(bytes.begin(), length, static_cast<uint8_t>(dice.below(256)));
      if (write_one(part_offset(part) + first * 512, {bytes.data(), length}, dice.below(10)) != 0)
        std::abort();
      if (dice.one_in(4)) std::this_thread::sleep_for(std::chrono::microseconds(dice.below(300)));
    }
  }

  int write_one(uint64_t offset, Bytes bytes, uint64_t kind) {
    if (kind == 0) return tap_.zero(offset, bytes.size(), {}, false);
    if (kind == 1) return tap_.trim(offset, bytes.size(), false);
    const int error = tap_.write(offset, bytes, false, Patience::immediate);
    return error == kWouldWait ? tap_.write(offset, bytes, false, Patience::may_wait) : error;
  }

  World& world_;
  Dice dice_;
  const std::string directory_;
  const std::shared_ptr<DeviceExport> device_;
  TapExport tap_;
  uint64_t session_ = 0;
};

[[noreturn]] void be_child(World& world, const char* image, const char* map, uint64_t seed) {
  try {
    Child(world, image, map, seed).run();
    _exit(0);
  } catch (const std::exception& error) {
    std::snprintf(world.failure, sizeof world.failure, "%s", error.what());
    _exit(1);
  }
}

// ---- the parent ----

void make_sparse(const char* path) {
  const int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, static_cast<off_t>(kGeometry.size_bytes)) != 0)
    throw std::runtime_error(std::string(path) + ": " + std::strerror(errno));
  close(file);
}

int run(const char* image, const char* map, uint64_t seed, uint64_t kills) {
  void* const memory =
      mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory");
  World& world = *new (memory) World;
  make_sparse(image);
  Dice dice(seed);
  uint64_t early = 0, stops = 0;
  for (uint64_t killed = 0; killed < kills;) {
    const uint64_t before = world.started;
    world.stop = false;
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("fork failed");
    if (child == 0) be_child(world, image, map, seed ^ mix(killed + stops));
    int status = 0;
    pid_t ended = 0;
    // Some die while they start.
    const bool waits = !dice.one_in(8);
    while (waits && world.started == before && (ended = waitpid(child, &status, WNOHANG)) == 0) usleep(200);
    if (ended == 0) {
      usleep(static_cast<useconds_t>(dice.below(waits ? 20'000 : 4'000)));
      const bool stops_cleanly = waits && dice.one_in(10);
      if (stops_cleanly) {
        world.stop = true;
      } else {
        kill(child, SIGKILL);
      }
      waitpid(child, &status, 0);
      if (!WIFEXITED(status)) killed++;
      if (!WIFEXITED(status) && world.started == before) early++;
    }
    if (WIFEXITED(status)) {
      if (WEXITSTATUS(status) != 0) throw std::runtime_error(world.failure);
      stops++;
    } else if (WTERMSIG(status) != SIGKILL) {
      throw std::runtime_error("the tap crashed: signal " + std::to_string(WTERMSIG(status)));
    }
  }
  std::printf("{\"kills\":%" PRIu64 ",\"early\":%" PRIu64 ",\"stops\":%" PRIu64 ",\"mapsUsed\":%" PRIu64
              ",\"commits\":%" PRIu64 ",\"namedBlocks\":%" PRIu64 ",\"differingBlocks\":%" PRIu64
              ",\"blocks\":%" PRIu64 "}\n",
              kills, early, stops, world.maps_used.load(), world.commits.load(), world.named_blocks.load(),
              world.differing_blocks.load(), world.started * kParts * kPartBlocks);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: tap_kills IMAGE MAP SEED KILLS\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10), std::strtoull(argv[4], nullptr, 10));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tap_kills: %s\n", error.what());
    return 1;
  }
}
