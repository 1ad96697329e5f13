// Many writers, many instants, one rule: a snapshot holds exactly the writes that ended before its instant,
// none that began after it, none in part, and the maps name every block that a session must ship.
//
// Every write gets a ticket when it begins and when it ends, and fills its sectors with its own number. Of a
// view that was taken between the tickets `from` and `to`, let T be the later of `from` and the last begin of
// a write that it shows: then each sector shows a write that began before `to`, and that no other write to it
// came wholly after and wholly before T.
#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <thread>

#include "core/base/little_endian.h"
#include "core/tap/export.h"
#include "core/tap/snapshot/export.h"
#include "test/helpers/helpers.h"
#include "test/helpers/hold_at_once.h"
#include "test/helpers/memory_export.h"
#include "test/helpers/recording_file.h"

namespace stillpoint::test {
namespace {

constexpr uint32_t kBlock = 16384;  // of four cells
constexpr uint64_t kBlocks = 12;
constexpr uint64_t kSector = 512;
constexpr uint64_t kSectors = kBlocks * kBlock / kSector;
const TreeGeometry kGeometry{kBlocks * kBlock, kBlock};
constexpr uint64_t kNotYet = ~uint64_t{0};

enum class Kind { write, zero, trim };

struct Write {
  Kind kind;
  uint64_t begin;
  uint64_t end;
};

class History {
 public:
  uint64_t tick() { return ++clock_; }

  uint64_t started(Kind kind, uint64_t first_sector, uint64_t sector_count) {
    std::lock_guard lock(mutex_);
    const uint64_t number = writes_.size();
    writes_.push_back({kind, tick(), kNotYet});
    for (uint64_t i = first_sector; i < first_sector + sector_count; i++) sectors_[i].push_back(number);
    return number;
  }
  void ended(uint64_t number) {
    std::lock_guard lock(mutex_);
    writes_[number].end = tick();
  }

  // Number 0 is the zeros that were there at first.
  void check(const std::vector<uint8_t>& image, uint64_t from, uint64_t to) {
    std::lock_guard lock(mutex_);
    std::array<uint64_t, kSectors> shown{};
    uint64_t instant = from;
    for (uint64_t i = 0; i < kSectors; i++) {
      const uint8_t* const at = image.data() + i * kSector;
      const auto number = load_le<uint64_t>(at);
      for (uint64_t word = 0; word < kSector; word += 8)
        REQUIRE(load_le<uint64_t>(at + word) == (number == 0 ? 0 : number + (word / 8 << 48)));
      REQUIRE(number < writes_.size());
      shown[i] = number;
      if (number == 0) continue;
      REQUIRE(std::count(sectors_[i].begin(), sectors_[i].end(), number) == 1);
      REQUIRE(writes_[number].begin < to);
      instant = std::max(instant, writes_[number].begin);
    }
    for (uint64_t i = 0; i < kSectors; i++) {
      CAPTURE(i);
      REQUIRE(may_show(i, shown[i], instant, to));
    }
  }

 private:
  bool may_show(uint64_t sector, uint64_t number, uint64_t instant, uint64_t to) const {
    if (number != 0) return is_last(sector, writes_[number], instant);
    // Zeros may be anybody's who writes zeros, or those at first.
    if (is_last(sector, {Kind::zero, 0, 0}, instant)) return true;
    for (const uint64_t other : sectors_[sector]) {
      const Write& write = writes_[other];
      if (write.kind != Kind::write && write.begin < to && is_last(sector, write, instant)) return true;
    }
    return false;
  }

  bool is_last(uint64_t sector, const Write& shown, uint64_t instant) const {
    for (const uint64_t other : sectors_[sector]) {
      const Write& write = writes_[other];
      if (write.kind != Kind::trim && shown.end < write.begin && write.end < instant) return false;
    }
    return true;
  }

  std::mutex mutex_;
  std::atomic<uint64_t> clock_{0};
  std::vector<Write> writes_{{Kind::zero, 0, 0}};
  std::array<std::vector<uint64_t>, kSectors> sectors_;
};

class Load {
 public:
  Load(TapExport& tap, History& history, uint64_t seed) {
    for (int i = 0; i < 3; i++) {
      threads_.emplace_back([this, &tap, &history, seed, i] {
        Random random(seed + static_cast<uint64_t>(i));
        while (!stop_) one(tap, history, random);
      });
    }
  }
  ~Load() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  static void one(TapExport& tap, History& history, Random& random) {
    const uint64_t first = random.below(kSectors);
    const uint64_t count = std::min(kSectors - first, 1 + random.below(random.one_in(5) ? 60 : 12));
    const uint64_t kind = random.below(12);
    const uint64_t number = history.started(kind == 0   ? Kind::zero
                                            : kind == 1 ? Kind::trim
                                                        : Kind::write,
                                            first, count);
    int error = 0;
    if (kind == 0) {
      error = tap.zero(first * kSector, count * kSector, {}, false);
    } else if (kind == 1) {
      error = tap.trim(first * kSector, count * kSector, false);
    } else {
      std::vector<uint8_t> bytes(count * kSector);
      for (uint64_t at = 0; at < bytes.size(); at += 8)
        store_le(bytes.data() + at, number + (at % kSector / 8 << 48));
      error = tap.write(first * kSector, bytes, false, Patience::immediate);
      if (error == kWouldWait) error = tap.write(first * kSector, bytes, false, Patience::may_wait);
    }
    history.ended(number);
    if (error != 0) std::abort();
  }

  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// A session: reads what the maps name, in any order, beside the writers. False if the snapshot was given up.
bool ship(const TapExport::Hold& hold, std::vector<uint8_t>& image, Random& random) {
  SnapshotExport view(hold.snapshot);
  std::vector<uint64_t> blocks;
  std::vector<NbdExtent> extents;
  uint64_t offset = 0;
  while (offset < kGeometry.size_bytes) {
    extents.clear();
    const int error = view.block_status(1, offset, kGeometry.size_bytes - offset, 3, extents);
    if (error == ESHUTDOWN) return false;
    REQUIRE(error == 0);
    for (const NbdExtent& extent : extents) {
      for (const uint64_t end = offset + extent.byte_length; offset < end; offset += kBlock) {
        if (extent.flags == 1) blocks.push_back(offset / kBlock);
      }
    }
  }
  for (size_t i = blocks.size(); i > 1; i--) std::swap(blocks[i - 1], blocks[random.below(i)]);
  for (const uint64_t block : blocks) {
    if (view.read(block * kBlock, {image.data() + block * kBlock, kBlock}, Patience::may_wait) != 0)
      return false;
    if (random.one_in(3)) std::this_thread::yield();
    REQUIRE(view.trim(block * kBlock, kBlock, false) == 0);
  }
  return true;
}

void run_world(uint64_t seed, unsigned instants) {
  Random random(seed);
  const auto device = std::make_shared<MemoryExport>(kGeometry.size_bytes);
  device->not_cached = random.one_in(2);
  device->writes_would_wait = random.one_in(2);
  device->slow_one_in = random.one_in(3) ? 0 : 5;
  History history;
  const auto recording = std::make_shared<Recording>();
  Id base{1};
  auto changed = std::make_unique<BlockMap>(kBlocks);
  auto file = std::make_unique<MapFile>(std::make_unique<RecordingFile>(recording), "device", kGeometry,
                                        std::vector<Id>{base}, *changed);
  auto map = std::make_unique<ChangeMap>(kGeometry, std::move(changed), std::move(file),
                                         ChangeMap::Start{{base}, ""});
  TapExport tap(device, kGeometry, std::move(map));
  std::vector<uint8_t> receiver(kGeometry.size_bytes);
  const Load load(tap, history, seed * 10);
  for (unsigned i = 0; i < instants; i++) {
    TapExport::HoldOptions options;
    options.base_point = base;
    options.snapshot.full = random.one_in(6);
    options.snapshot.throttle = random.one_in(4);
    options.snapshot.session_id = {static_cast<uint8_t>(i + 2), static_cast<uint8_t>(seed)};
    options.preserve_file = std::make_unique<RecordingFile>(std::make_shared<Recording>());
    options.preserve_bytes_max = (random.one_in(4) ? 8 : kBlocks) * kBlock;
    const Id session = options.snapshot.session_id;
    const uint64_t from = history.tick();
    const auto hold =
        hold_at_once(tap, std::move(options), {std::chrono::seconds(20), std::chrono::seconds(30)});
    const uint64_t to = history.tick();
    std::vector<uint8_t> capture = receiver;
    const bool whole = ship(hold, capture, random);
    if (whole) history.check(capture, from, to);
    if (!whole || random.one_in(5)) {
      tap.abort();
      // The answer to the commit was lost: the receiver has the point, the tap does not know.
      if (whole && random.one_in(2)) {
        receiver = capture;
        base = session;
      }
      continue;
    }
    tap.commit();
    receiver = capture;
    base = session;
  }
  tap.abort();
}

}  // namespace

TEST_CASE("tap stress: every instant is one instant, whatever is written beside it") {
  const uint64_t seed = random_seed() % 100000;
  INFO("seed " << seed);
  // Short worlds: what is checked grows with their history.
  for (uint64_t world = 0; world < 20; world++) run_world(seed + world, 15);
}

}  // namespace stillpoint::test
