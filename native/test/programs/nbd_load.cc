// Writers at full speed against an NBD server, and the judge of the instants that were taken beside them.
//
//   nbd_load run URI LOG SEED CONNECTIONS DEPTH   until SIGTERM, or the server is gone; goes on with a log
//   that is there nbd_load check IMAGE LOG FROM TO              an image of an instant that lay between two
//   times of CLOCK_MONOTONIC, in ns
//   nbd_load put URI BYTE LENGTH OFFSET...        that byte, at each offset
//
// The first two print one line of JSON. The rule, as in tap/stress_test.cc: let T be the later of FROM and
// the last begin of a write that the image shows. Then every sector shows one whole write that began before
// TO, and no other write to it came wholly after that one and wholly before T. A trim may do nothing.
#include <libnbd.h>
#include <signal.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "test/helpers/load_log.h"

using namespace stillpoint::test;

namespace {

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

// ---- writing ----

constexpr uint64_t kSectorsMax = 512;
constexpr nbd_completion_callback kNoCompletion{};
// For a season, all write to a few windows of the device, then to others: what lies elsewhere stays as it
// was, so that a change that is forgotten is still to be seen in the next point. Within a season, each window
// is written to again and again, also while a session reads what was written before; most of all one, which
// soon is another.
constexpr uint64_t kSeasonNsLog2 = 28;
constexpr uint64_t kMomentNsLog2 = 21;
constexpr uint64_t kWindows = 12;
constexpr uint64_t kWindowSectors = 1024;

class Writer {
 public:
  Writer(LoadLog& log, const std::string& uri, unsigned index, unsigned depth, const std::atomic<bool>& stop)
      : log_(log),
        stop_(stop),
        index_(index),
        random_(mix(log.seed() ^ mix(log.count() ^ index))),
        slots_(depth) {
    nbd_.reset(nbd_create());
    if (!nbd_ || nbd_connect_uri(nbd_.get(), uri.c_str()) != 0) fail(nbd_get_error());
    sectors_ = static_cast<uint64_t>(nbd_get_size(nbd_.get())) / kSectorBytes;
    for (Slot& slot : slots_) slot.bytes.resize(kSectorsMax * kSectorBytes);
  }

  void run() {
    bool alive = true;
    while (alive && (!stop_ || busy_ > 0)) {
      for (Slot& slot : slots_) {
        if (slot.number == 0 && !stop_ && !start(slot)) break;
      }
      alive = busy_ == 0 || nbd_poll(nbd_.get(), 1000) >= 0;
      for (Slot& slot : slots_) finish(slot);
      if (full_ || is_gone()) alive = false;
    }
    unanswered = busy_;
    died = is_gone();
    if (!died) nbd_shutdown(nbd_.get(), 0);
  }

  uint64_t answered = 0;
  uint64_t failed = 0;
  uint64_t unanswered = 0;
  bool died = false;

 private:
  struct Slot {
    uint64_t number = 0;  // 0: free
    int64_t cookie = 0;
    std::vector<uint8_t> bytes;
  };
  struct Close {
    void operator()(nbd_handle* nbd) const { nbd_close(nbd); }
  };

  uint64_t below(uint64_t bound) {
    random_ = mix(random_);
    return random_ % bound;
  }

  bool is_gone() const { return nbd_aio_is_dead(nbd_.get()) == 1 || nbd_aio_is_closed(nbd_.get()) == 1; }

  uint64_t choose_sector() {
    if (below(2000) == 0) return below(sectors_);
    const uint64_t now = monotonic_ns();
    const uint64_t choice =
        below(2) == 0 ? below(kWindows) : mix((now >> kMomentNsLog2) ^ mix(index_ / 2)) % kWindows;
    const uint64_t window = mix(log_.seed() ^ mix((now >> kSeasonNsLog2) * kWindows + choice));
    return (window % sectors_ + below(kWindowSectors)) % sectors_;
  }

  // False: there is no going on.
  bool start(Slot& slot) {
    const uint64_t first = choose_sector();
    const uint64_t count = std::min(1 + below(below(12) == 0 ? kSectorsMax : 16), sectors_ - first);
    const uint64_t choice = below(14);
    const WriteKind kind = choice == 0 ? WriteKind::zero : choice == 1 ? WriteKind::trim : WriteKind::write;
    const uint32_t fua = below(64) == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
    slot.number = log_.begin(kind, first, count, index_);
    if (slot.number == 0) {
      full_ = true;
      return false;
    }
    slot.cookie = send(slot, kind, first, count, fua);
    // Sent or not is not known then: it counts as unanswered.
    busy_++;
    return slot.cookie >= 0;
  }

  int64_t send(Slot& slot, WriteKind kind, uint64_t first, uint64_t count, uint32_t fua) {
    const uint64_t offset = first * kSectorBytes;
    const uint64_t length = count * kSectorBytes;
    if (kind == WriteKind::trim) return nbd_aio_trim(nbd_.get(), length, offset, kNoCompletion, fua);
    if (kind == WriteKind::zero) {
      const uint32_t hole = below(2) == 0 ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
      return nbd_aio_zero(nbd_.get(), length, offset, kNoCompletion, fua | hole);
    }
    for (uint64_t i = 0; i < count; i++) {
      const SectorWords words = sector_words(log_.seed(), slot.number, first + i, index_);
      std::memcpy(slot.bytes.data() + i * kSectorBytes, words.data(), kSectorBytes);
    }
    return nbd_aio_pwrite(nbd_.get(), slot.bytes.data(), length, offset, kNoCompletion, fua);
  }

  void finish(Slot& slot) {
    if (slot.number == 0 || slot.cookie < 0) return;
    const int done = nbd_aio_command_completed(nbd_.get(), static_cast<uint64_t>(slot.cookie));
    if (done == 0 || (done < 0 && is_gone())) return;
    if (done == 1) {
      log_.end(slot.number);
      answered++;
    } else {
      failed++;
    }
    slot.number = 0;
    busy_--;
  }

  LoadLog& log_;
  const std::atomic<bool>& stop_;
  const unsigned index_;
  uint64_t random_;
  std::unique_ptr<nbd_handle, Close> nbd_;
  uint64_t sectors_ = 0;
  std::vector<Slot> slots_;
  uint64_t busy_ = 0;
  bool full_ = false;
};

int run(const std::string& uri, const std::string& log_path, uint64_t seed, unsigned connections,
        unsigned depth) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);
  LoadLog log(log_path, &seed);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> running{connections};
  std::vector<std::unique_ptr<Writer>> writers;
  for (unsigned i = 0; i < connections; i++)
    writers.push_back(std::make_unique<Writer>(log, uri, i, depth, stop));
  std::puts("writing");
  std::fflush(stdout);
  std::vector<std::thread> threads;
  for (const auto& writer : writers) {
    threads.emplace_back([&writer, &running] {
      writer->run();
      running--;
    });
  }
  const timespec moment{0, 5'000'000};
  while (running > 0 && sigtimedwait(&ends, nullptr, &moment) < 0) continue;
  stop = true;
  for (std::thread& thread : threads) thread.join();
  uint64_t answered = 0, failed = 0, unanswered = 0;
  bool died = false;
  for (const auto& writer : writers) {
    answered += writer->answered;
    failed += writer->failed;
    unanswered += writer->unanswered;
    died = died || writer->died;
  }
  std::printf("{\"answered\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"unanswered\":%" PRIu64 ",\"died\":%s}\n",
              answered, failed, unanswered, died ? "true" : "false");
  if (log.count() == LoadLog::kRecordsMax) fail(log_path + ": it is full");
  return 0;
}

int put(const std::string& uri, uint64_t byte, uint64_t length, char** offsets) {
  const std::unique_ptr<nbd_handle, decltype(&nbd_close)> nbd(nbd_create(), nbd_close);
  if (!nbd || nbd_connect_uri(nbd.get(), uri.c_str()) != 0) fail(nbd_get_error());
  const std::vector<uint8_t> bytes(length, static_cast<uint8_t>(byte));
  for (; *offsets != nullptr; offsets++) {
    if (nbd_pwrite(nbd.get(), bytes.data(), length, std::strtoull(*offsets, nullptr, 10), 0) != 0)
      fail(nbd_get_error());
  }
  nbd_shutdown(nbd.get(), 0);
  return 0;
}

// ---- judging ----

std::vector<uint8_t> read_file(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail(path + ": " + std::strerror(errno));
  std::vector<uint8_t> bytes;
  size_t length = 0;
  do {
    bytes.resize(length + (size_t{8} << 20));
    bytes.resize(length + std::fread(bytes.data() + length, 1, bytes.size() - length, file));
  } while (std::exchange(length, bytes.size()) != bytes.size());
  std::fclose(file);
  return bytes;
}

class Judge {
 public:
  Judge(const std::vector<uint8_t>& image, const LoadLog& log, uint64_t from, uint64_t to)
      : log_(log), count_(log.count()), from_(from), to_(to), sectors_(image.size() / kSectorBytes) {
    shown_.resize(sectors_);
    for (uint64_t sector = 0; sector < sectors_; sector++) shown_[sector] = number_in(image, sector);
  }

  // Throws what is wrong.
  void judge() {
    uint64_t instant = from_;
    for (uint64_t sector = 0; sector < sectors_; sector++) {
      if (shown_[sector] == 0) continue;
      const LoadRecord& record = log_[shown_[sector]];
      if (record.begin >= to_) wrong(sector, "shows a write that began after the instant");
      instant = std::max(instant, record.begin.load());
      data_sectors_++;
    }
    // Of each sector: the last begin of what must be there or have been overwritten; the last end of what may
    // show as zeros.
    std::vector<uint64_t> last_begin(sectors_), last_zero(sectors_);
    for (uint64_t number = 1; number < count_; number++) {
      const LoadRecord& record = log_[number];
      const uint64_t begin = record.begin, end = record.end;
      if (begin == 0) continue;
      const bool before = end != 0 && end < instant;
      if (!before) open_or_later_++;
      const bool zeroes = record.kind != WriteKind::write && begin < to_;
      for (uint64_t i = record.first_sector; i < uint64_t{record.first_sector} + record.sector_count; i++) {
        if (before && record.kind != WriteKind::trim) last_begin[i] = std::max(last_begin[i], begin);
        if (zeroes) last_zero[i] = std::max(last_zero[i], end == 0 ? ~uint64_t{0} : end);
      }
    }
    for (uint64_t sector = 0; sector < sectors_; sector++) {
      const uint64_t number = shown_[sector];
      uint64_t end = last_zero[sector];
      if (number != 0 && (end = log_[number].end) == 0) end = ~uint64_t{0};
      if (end < last_begin[sector]) wrong(sector, "lacks a write that had ended before the instant");
    }
    std::printf("{\"dataSectors\":%" PRIu64 ",\"writes\":%" PRIu64 ",\"openOrLater\":%" PRIu64 "}\n",
                data_sectors_, count_ - 1, open_or_later_);
  }

 private:
  // Of the write that the sector shows; 0: zeros.
  uint64_t number_in(const std::vector<uint8_t>& image, uint64_t sector) const {
    SectorWords words;
    std::memcpy(words.data(), image.data() + sector * kSectorBytes, kSectorBytes);
    if (words == SectorWords{}) return 0;
    const uint64_t number = words[1];
    if (number == 0 || number >= count_) wrong(sector, "shows no write of this load");
    const LoadRecord& record = log_[number];
    if (record.kind != WriteKind::write || sector < record.first_sector ||
        sector >= uint64_t{record.first_sector} + record.sector_count)
      wrong(sector, "shows a write that was not to it");
    if (words != sector_words(log_.seed(), number, sector, record.writer)) wrong(sector, "is torn");
    return number;
  }

  [[noreturn]] static void wrong(uint64_t sector, const char* what) {
    fail("sector " + std::to_string(sector) + " " + what);
  }

  const LoadLog& log_;
  const uint64_t count_;
  const uint64_t from_;
  const uint64_t to_;
  const uint64_t sectors_;
  std::vector<uint64_t> shown_;
  uint64_t data_sectors_ = 0;
  uint64_t open_or_later_ = 0;
};

uint64_t number(const char* text) { return std::strtoull(text, nullptr, 10); }

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  try {
    if (mode == "run" && argc == 7)
      return run(argv[2], argv[3], number(argv[4]), static_cast<unsigned>(number(argv[5])),
                 static_cast<unsigned>(number(argv[6])));
    if (mode == "put" && argc > 5) return put(argv[2], number(argv[3]), number(argv[4]), argv + 5);
    if (mode == "check" && argc == 6) {
      const LoadLog log(argv[3]);
      Judge(read_file(argv[2]), log, number(argv[4]), number(argv[5])).judge();
      return 0;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nbd_load: %s\n", error.what());
    return 1;
  }
  std::fprintf(stderr,
               "usage: nbd_load run URI LOG SEED CONNECTIONS DEPTH | put URI BYTE LENGTH OFFSET... | check "
               "IMAGE LOG FROM TO\n");
  return 2;
}
