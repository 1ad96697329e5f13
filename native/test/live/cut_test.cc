// The cut, with maps and a device in ordinary memory: the kernel's are used in the same way.
#include "core/live/cut.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
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

TEST_CASE("cut: reads what is pending, done, or queued and never done; of units that are not staged all") {
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
    const auto kept = world.map(world.kept);
    std::vector<bool> wanted(world.grains());
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      const bool is_pending = random.one_in(9);
      const bool is_done = random.one_in(9);
      const bool is_queued = random.one_in(5);
      const bool is_kept = random.one_in(2);
      if (is_pending) set_bit(world.area.pending(), grain);
      if (is_done) mark(done, grain);
      if (is_queued) mark(queued, grain);
      if (is_kept) mark(kept, grain);
      wanted[grain] = is_pending || is_done || (is_queued && !is_kept);
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
      for (uint64_t i = 0; i < marked.size(); i++)
        marked[i] = is_marked(done, i) || is_marked(queued, i) || is_marked(kept, i);
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
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      CHECK(is_marked(kept, grain) == was_marked[grain]);
      CHECK_FALSE(is_marked(done, grain));
      CHECK_FALSE(is_marked(queued, grain));
    }
  }
}

TEST_CASE("cut: what was read ahead and is written again is read again, the grains alone") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  for (int round = 0; round < 40; round++) {
    const uint64_t unit = kGrain << random.below(5);
    World world({(1 + random.below(300)) * kGrain, kGrain, unit, 8 << 20}, random);
    const uint64_t per_unit = unit / kGrain;
    std::vector<bool> is_held(world.geometry.unit_count());
    for (uint64_t i = 0; i < is_held.size(); i++) {
      is_held[i] = random.one_in(2);
      if (is_held[i]) set_bit(world.area.staged(), i);
    }
    Cut cut(CutArea::open(again(world.area.fd())),
            {world.map(world.done), world.map(world.queued), world.map(world.kept)},
            again(world.device.get()));
    const CutResult& result = world.area.result();
    std::vector<bool> wanted(world.grains());
    const auto done = world.map(world.done);
    const auto queued = world.map(world.queued);
    const auto kept = world.map(world.kept);
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      if (!random.one_in(9)) continue;
      wanted[grain] = true;
      if (random.one_in(2)) {
        set_bit(world.area.pending(), grain);
      } else {
        mark(done, grain);
      }
    }
    cut.read_ahead();
    const uint64_t ahead = result.ahead_bytes;
    CHECK((ahead == 0) == std::none_of(wanted.begin(), wanted.end(), [](bool is) { return is; }));
    for (uint64_t grain = 0; grain < wanted.size(); grain++) {
      if (wanted[grain]) is_held[grain / per_unit] = true;
    }

    uint64_t again_bytes = 0;
    std::vector<bool> is_planned(is_held.size());
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      if (!random.one_in(9)) continue;
      const auto bytes = random.bytes(kGrain);
      std::copy(bytes.begin(), bytes.end(), world.content.begin() + static_cast<long>(grain * kGrain));
      REQUIRE(pwrite(world.device.get(), bytes.data(), kGrain, static_cast<off_t>(grain * kGrain)) == kGrain);
      const bool is_in_flight = !is_marked(kept, grain) && random.one_in(2);
      mark(is_in_flight ? queued : done, grain);
      const uint64_t its_unit = grain / per_unit;
      const uint64_t first = its_unit * per_unit;
      const uint64_t end = is_held[its_unit] ? 0 : std::min(first + per_unit, world.grains());
      for (uint64_t i = first; i < end; i++) wanted[i] = true;
      wanted[grain] = true;
      if (is_held[its_unit]) again_bytes += kGrain;
      if (!is_held[its_unit] && !is_planned[its_unit]) again_bytes += (end - first) * kGrain;
      is_planned[its_unit] = true;
    }
    cut.run();
    REQUIRE(result.state == CutState::complete);
    CHECK(result.ahead_bytes == ahead);
    CHECK(result.wanted_bytes - ahead == again_bytes);
    std::vector<uint8_t> image(world.content.size());
    for (const CutPiece& piece : world.area.pieces().first(result.piece_count)) {
      const uint8_t* const data = world.area.data().data() + piece.data_offset;
      std::copy(data, data + piece.byte_length, image.begin() + static_cast<long>(piece.byte_offset));
    }
    for (uint64_t grain = 0; grain < world.grains(); grain++) {
      if (!wanted[grain]) continue;
      INFO("grain " << grain);
      CHECK(std::memcmp(&image[grain * kGrain], &world.content[grain * kGrain], kGrain) == 0);
      // In case that it is not accepted.
      CHECK(is_marked(kept, grain) <= has_bit(world.area.pending(), grain));
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

  World limited({100 * kGrain, kGrain, kGrain, 100 * kGrain}, random);
  limited.area.limit_data(10 * kGrain);
  for (uint64_t grain = 0; grain < 20; grain += 2) set_bit(limited.area.pending(), grain);
  CHECK(limited.cut().state == CutState::complete);
  set_bit(limited.area.pending(), 20);
  CHECK(limited.cut().state == CutState::too_much);
  limited.area.limit_data(uint64_t{1} << 40);
  CHECK(limited.cut().state == CutState::complete);
  CHECK(limited.cut().wanted_bytes == 11 * kGrain);
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

TEST_CASE("cut: one process at a time, and the agent knows of it") {
  const CutArea area = CutArea::create({kGrain, kGrain, kGrain, kGrain});
  CHECK_FALSE(area.has_cutter());
  {
    const CutArea opened = CutArea::open(again(area.fd()));
    CHECK(area.has_cutter());
    CHECK(area.has_cutter());
    CHECK_THROWS_WITH(CutArea::open(again(area.fd())), doctest::Contains("another process"));
  }
  CHECK_FALSE(area.has_cutter());
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
