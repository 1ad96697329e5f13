// The cut, with maps and a device in ordinary memory: the kernel's are used in the same way.
#include "core/live/cut.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr uint64_t kGrain = 4096;

UniqueFd memory(uint64_t bytes) {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  REQUIRE(fd);
  REQUIRE(ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return fd;
}

UniqueFd again(int fd) { return UniqueFd(dup(fd)); }

// One device of random bytes, with its maps; of its grains a set is what the cut has to read.
struct World {
  explicit World(const CutGeometry& wanted, Random& random)
      : geometry(wanted),
        area(CutArea::create(wanted)),
        content(random.bytes(wanted.device_bytes)),
        device(memory(wanted.device_bytes)) {
    REQUIRE(pwrite(device.get(), content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()));
  }

  MarkMap map(const UniqueFd& fd) const { return MarkMap(again(fd.get()), geometry.word_count()); }

  const CutResult& cut() {
    Cut cut(CutArea::open(again(area.fd())), {map(done), map(queued), map(kept)}, again(device.get()));
    cut.run();
    return area.result();
  }

  uint64_t grains() const { return (geometry.device_bytes + kGrain - 1) / kGrain; }

  CutGeometry geometry;
  CutArea area;
  std::vector<uint8_t> content;
  UniqueFd device;
  UniqueFd done = memory(geometry.word_count() * 8);
  UniqueFd queued = memory(geometry.word_count() * 8);
  UniqueFd kept = memory(geometry.word_count() * 8);
};

void mark(const MarkMap& map, uint64_t grain) { map.data()[grain / 64] |= uint64_t{1} << (grain % 64); }
bool is_marked(const MarkMap& map, uint64_t grain) { return (map.load(grain / 64) >> (grain % 64) & 1) != 0; }

}  // namespace

TEST_CASE("cut: reads what is pending, done, or queued and never shown; of units that are not staged all") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  for (int round = 0; round < 40; round++) {
    const uint64_t unit = kGrain << random.below(5);
    // The last grain of some devices is not whole.
    const uint64_t bytes =
        (1 + random.below(300)) * kGrain - (random.one_in(2) ? 0 : 512 * (1 + random.below(7)));
    World world({bytes, kGrain, unit, std::max<uint64_t>(unit, 4 << 20)}, random);
    const uint64_t per_unit = unit / kGrain;
    const auto done = world.map(world.done);
    const auto queued = world.map(world.queued);
    std::vector<bool> wanted(world.grains());
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      const bool is_pending = random.one_in(9);
      const bool is_done = random.one_in(9);
      const bool is_queued = random.one_in(5);
      const bool is_shown = random.one_in(2);
      if (is_pending) set_bit(world.area.pending(), grain);
      if (is_done) mark(done, grain);
      if (is_queued) mark(queued, grain);
      if (is_shown) set_bit(world.area.shown(), grain);
      wanted[grain] = is_pending || is_done || (is_queued && !is_shown);
    }
    for (uint64_t i = 0; i < world.geometry.unit_count(); i++) {
      if (random.one_in(2)) set_bit(world.area.staged(), i);
    }
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      const uint64_t first = grain / per_unit * per_unit;
      if (!wanted[grain] || has_bit(world.area.staged(), grain / per_unit)) continue;
      for (uint64_t i = first; i < std::min(first + per_unit, world.grains()); i++) wanted[i] = true;
    }
    const std::vector<bool> was_marked = [&] {
      std::vector<bool> marked(world.grains());
      for (uint64_t i = 0; i < marked.size(); i++) marked[i] = is_marked(done, i) || is_marked(queued, i);
      return marked;
    }();

    const CutResult& result = world.cut();
    REQUIRE(result.state == CutState::complete);
    CHECK(result.written_count == 0);
    std::vector<bool> got(world.grains());
    for (const CutPiece& piece : world.area.pieces().first(result.piece_count)) {
      REQUIRE(piece.byte_offset % kGrain == 0);
      REQUIRE(piece.data_offset % kGrain == 0);
      REQUIRE(piece.byte_offset + piece.byte_length <= bytes);
      CHECK(std::memcmp(world.area.data().data() + piece.data_offset,
                        world.content.data() + piece.byte_offset, piece.byte_length) == 0);
      for (uint64_t at = piece.byte_offset; at < piece.byte_offset + piece.byte_length; at += kGrain) {
        CHECK_FALSE(got[at / kGrain]);
        got[at / kGrain] = true;
      }
    }
    CHECK(got == wanted);
    const auto kept = world.map(world.kept);
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      CHECK(is_marked(kept, grain) == was_marked[grain]);
      CHECK_FALSE(is_marked(done, grain));
      CHECK_FALSE(is_marked(queued, grain));
    }
  }
}

TEST_CASE("cut: more than fits is not read, and its size is told") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  World world({100 * kGrain, kGrain, kGrain, 10 * kGrain}, random);
  for (uint64_t grain = 0; grain < 60; grain += 2) set_bit(world.area.pending(), grain);
  mark(world.map(world.done), 99);
  const CutResult& result = world.cut();
  CHECK(result.state == CutState::too_much);
  CHECK(result.wanted_bytes == 31 * kGrain);
  // In case that there is another try.
  CHECK(has_bit(world.area.pending(), 99));
  CHECK(is_marked(world.map(world.kept), 99));
}

TEST_CASE("cut: a device that ends too early, and one that can't be read") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  World world({100 * kGrain, kGrain, kGrain, 100 * kGrain}, random);
  for (const uint64_t grain : {3, 50, 70}) set_bit(world.area.pending(), grain);
  REQUIRE(ftruncate(world.device.get(), 60 * kGrain) == 0);
  const CutResult& result = world.cut();
  CHECK(result.state == CutState::failed);
  CHECK(result.error == ENODATA);
  CHECK(result.error_offset == 70 * kGrain);
  CHECK(has_bit(world.area.pending(), 70));

  world.device = UniqueFd(memfd_create("test", MFD_CLOEXEC));
  const std::string path = "/proc/self/fd/" + std::to_string(world.device.get());
  world.device = UniqueFd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  CHECK(world.cut().state == CutState::failed);
  CHECK(world.area.result().error == EBADF);
}

TEST_CASE("cut: one that is stopped is none, whatever a former one was") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  World world({64 * kGrain, kGrain, kGrain, 64 * kGrain}, random);
  set_bit(world.area.pending(), 5);
  CHECK(world.cut().state == CutState::complete);
  Cut cut(CutArea::open(again(world.area.fd())),
          {world.map(world.done), world.map(world.queued), world.map(world.kept)}, again(world.device.get()));
  CHECK(world.area.result().state == CutState::none);
  cut.stop();
  cut.run();
  CHECK(world.area.result().state == CutState::none);
}

TEST_CASE("cut: memory that is none is refused") {
  CHECK_THROWS_WITH(CutArea::open(memory(100)), doctest::Contains("is not one"));
  CHECK_THROWS_WITH(CutArea::open(memory(1 << 20)), doctest::Contains("is not one"));
  const CutArea area = CutArea::create({kGrain, kGrain, kGrain, kGrain});
  REQUIRE(ftruncate(area.fd(), 8192) == 0);
  CHECK_THROWS_WITH(CutArea::open(again(area.fd())), doctest::Contains("another size"));
  for (const CutGeometry& geometry :
       {CutGeometry{0, kGrain, kGrain, kGrain}, CutGeometry{kGrain, 512, kGrain, kGrain},
        CutGeometry{kGrain, kGrain, 3 * kGrain, 4 * kGrain}, CutGeometry{kGrain, 2 * kGrain, kGrain, kGrain},
        CutGeometry{kGrain, kGrain, kGrain, 0}}) {
    CHECK_THROWS(CutArea::create(geometry));
  }
}
