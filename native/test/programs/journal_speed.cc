// How much of its speed a tap keeps with a journal: writes through TapExport, alone, to a file in each of the
// directories that are given, with the spool in the second one.
//   journal_speed DEVICE-DIR SPOOL-DIR RUNTIME-DIR
// Prints each measure without and with a journal, and the ratio: of the time, and of the processor time of
// the threads that write, which other load on the machine does not change. Rounds alternate, the best of
// each counts.
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/nbd/exports/device_export.h"
#include "core/tap/export.h"

using namespace stillpoint;

namespace {

constexpr uint64_t kDeviceBytes = 256 << 20;
constexpr uint32_t kBlock = 65536;
constexpr int kRounds = 7;
constexpr uint64_t kRoundBytes = 256 << 20;

struct Measure {
  const char* name;
  size_t write_bytes;
  bool random;
  unsigned threads;
};

constexpr Measure kMeasures[] = {{"4 KiB random, 1 thread", 4096, true, 1},
                                 {"4 KiB random, 2 threads", 4096, true, 2},
                                 {"64 KiB random, 1 thread", 65536, true, 1},
                                 {"1 MiB sequential, 1 thread", 1 << 20, false, 1}};

Id next_id() {
  static uint8_t number = 0;
  return {++number};
}

struct World {
  World(const std::string& device_path, const std::string& spool, const std::string& runtime, bool journal)
      : device(DeviceExport::open(device_path, false)) {
    const TreeGeometry geometry{kDeviceBytes, kBlock};
    auto map = std::make_unique<ChangeMap>(geometry, std::make_unique<BlockMap>(geometry.block_count()),
                                           nullptr, ChangeMap::Start{{}, ""});
    std::unique_ptr<TapJournal> made;
    if (journal) {
      TapJournal::Options options;
      options.files = SpoolFiles::at(spool);
      WriteClock::Options clock;
      clock.word_path = runtime + "/write-clock";
      clock.lock_path = spool + "/clock.lock";
      clock.reservation = TapFile::open_named(spool + "/clock");
      clock.new_id = next_id();
      options.clock = std::make_unique<WriteClock>(std::move(clock));
      options.clock->start_keeper();
      options.head_directory = runtime;
      options.bytes_max = uint64_t{8} << 30;
      options.random_id = next_id;
      made = std::make_unique<TapJournal>(std::move(options));
    }
    tap = std::make_unique<TapExport>(device, geometry, std::move(map), std::move(made));
    if (!journal) return;
    TapExport::HoldOptions hold;
    hold.preserve_file = TapFile::open_unnamed(spool);
    tap->prepare(std::move(hold));
    tap->close_gate({});
    if (!tap->cut().journal) std::abort();
    tap->abort();
  }

  struct Round {
    double seconds;
    double writers_cpu;
  };

  // For kRoundBytes.
  Round run(const Measure& measure) {
    std::atomic<int64_t> cpu{0};
    const auto began = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < measure.threads; i++) {
      threads.emplace_back([&, i] {
        std::mt19937_64 random(i);
        const std::vector<uint8_t> bytes(measure.write_bytes, static_cast<uint8_t>('a' + i));
        const uint64_t places = kDeviceBytes / measure.write_bytes;
        const uint64_t count = kRoundBytes / measure.write_bytes / measure.threads;
        for (uint64_t n = 0; n < count; n++) {
          const uint64_t place = measure.random ? random() % places : n % places;
          if (tap->write(place * measure.write_bytes, bytes, false, Patience::may_wait) != 0) std::abort();
        }
        timespec used;
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
        cpu += used.tv_sec * 1'000'000'000 + used.tv_nsec;
      });
    }
    for (std::thread& thread : threads) thread.join();
    // All of it is stored.
    if (tap->journal() && !tap->journal()->settle()) std::abort();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    // As if all was shipped.
    if (TapJournal* const journal = tap->journal()) {
      const JournalHead head = journal->heads().back();
      if (head.state != JournalHead::State::open) std::abort();
      journal->release(head.journal, head.ordinal);
    }
    return {took.count(), static_cast<double>(cpu) / 1e9};
  }

  std::shared_ptr<DeviceExport> device;
  std::unique_ptr<TapExport> tap;
};

void make_device(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) std::abort();
  const std::vector<uint8_t> bytes(1 << 20, 'x');
  for (uint64_t at = 0; at < kDeviceBytes; at += bytes.size()) {
    if (::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)) < 0) std::abort();
  }
  ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: journal_speed DEVICE-DIR SPOOL-DIR RUNTIME-DIR\n");
    return 2;
  }
  const std::string paths[2] = {argv[1] + std::string("/plain.img"), argv[1] + std::string("/journaled.img")};
  const std::string spool = argv[2] + std::string("/spool");
  for (const std::string& path : paths) make_device(path);
  {
    World plain(paths[0], spool, argv[3], false), journaled(paths[1], spool, argv[3], true);
    for (const Measure& measure : kMeasures) {
      World::Round best[2] = {{1e9, 1e9}, {1e9, 1e9}};
      for (int round = 0; round < kRounds; round++) {
        for (World* const world : {&plain, &journaled}) {
          const World::Round now = world->run(measure);
          World::Round& least = best[world == &journaled];
          least = {std::min(least.seconds, now.seconds), std::min(least.writers_cpu, now.writers_cpu)};
        }
      }
      const double writes = static_cast<double>(kRoundBytes) / static_cast<double>(measure.write_bytes);
      const auto each = [&](double seconds) { return seconds / writes * 1e6; };
      std::printf(
          "%-27s time %7.2f, with a journal %7.2f us, ratio %.2f; cpu of writers %7.2f, %7.2f us, ratio "
          "%.2f\n",
          measure.name, each(best[0].seconds), each(best[1].seconds), best[0].seconds / best[1].seconds,
          each(best[0].writers_cpu), each(best[1].writers_cpu), best[0].writers_cpu / best[1].writers_cpu);
    }
  }
  for (const std::string& path : paths) ::unlink(path.c_str());
  std::filesystem::remove_all(spool);
  return 0;
}
