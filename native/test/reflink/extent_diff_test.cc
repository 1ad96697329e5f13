#include "core/reflink/extent_diff.h"

#include <algorithm>
#include <vector>

#include "test/helpers/helpers.h"

namespace stillpoint::test {
namespace {

constexpr uint64_t kSector = 512;

class ExtentList : public ExtentSource {
 public:
  explicit ExtentList(std::vector<Extent> extents) : extents_(std::move(extents)) {}
  std::optional<Extent> next() override {
    return used_ < extents_.size() ? std::optional(extents_[used_++]) : std::nullopt;
  }

 private:
  std::vector<Extent> extents_;
  size_t used_ = 0;
};

std::vector<BlockRange> differences(std::vector<Extent> one, std::vector<Extent> other, uint64_t size_bytes,
                                    uint32_t block_size = 4096) {
  ExtentList left(std::move(one)), right(std::move(other));
  return differing_blocks(left, right, size_bytes, block_size);
}

void require_ranges(const std::vector<BlockRange>& found, const std::vector<BlockRange>& wanted) {
  REQUIRE(found.size() == wanted.size());
  for (size_t i = 0; i < found.size(); i++) {
    CHECK(found[i].begin == wanted[i].begin);
    CHECK(found[i].end == wanted[i].end);
  }
}

constexpr auto kData = Extent::Kind::data;
constexpr auto kZeros = Extent::Kind::zeros;
constexpr auto kOpaque = Extent::Kind::opaque;

// What each sector of a file is: no extent, or a kind and where it lies.
struct Sector {
  bool is_hole = true;
  Extent::Kind kind = kData;
  uint64_t physical = 0;
};

// As a kernel might tell it: neighbours in one extent or in several.
std::vector<Extent> extents_of(const std::vector<Sector>& sectors, Random& random) {
  std::vector<Extent> extents;
  for (uint64_t i = 0; i < sectors.size(); i++) {
    const Sector& sector = sectors[i];
    if (sector.is_hole) continue;
    const Extent extent{i * kSector, kSector, sector.physical, sector.kind};
    const bool follows = !extents.empty() && extents.back().end() == extent.logical &&
                         extents.back().kind == extent.kind &&
                         extents.back().physical + extents.back().length == extent.physical;
    if (follows && !random.one_in(3)) {
      extents.back().length += kSector;
    } else {
      extents.push_back(extent);
    }
  }
  return extents;
}

}  // namespace

TEST_CASE("extent difference: what may differ is told, in whole blocks") {
  const uint64_t size = 16 * 4096;
  const std::vector<Extent> one = {{0, size, 1 << 20, kData}};
  require_ranges(differences({}, {}, size), {});
  require_ranges(differences(one, one, size), {});
  require_ranges(differences(one, {}, size), {{0, 16}});
  require_ranges(differences({}, {{4096, 512, 7 << 20, kData}}, size), {{1, 2}});
  // Split otherwise, shared or not: the same.
  require_ranges(
      differences(one, {{0, 4096, 1 << 20, kData}, {4096, size - 4096, (1 << 20) + 4096, kData}}, size), {});
  // A sector in the middle was written elsewhere; a block of 64 KiB has it.
  const std::vector<Extent> rewritten = {{0, 8192, 1 << 20, kData},
                                         {8192, 4096, 5 << 20, kData},
                                         {12288, size - 12288, (1 << 20) + 12288, kData}};
  require_ranges(differences(one, rewritten, size), {{2, 3}});
  require_ranges(differences(one, rewritten, size, 65536), {{0, 1}});
  // Swapped: the same extents in other places.
  require_ranges(differences({{0, 4096, 4096, kData}, {4096, 4096, 0, kData}}, {{0, 8192, 0, kData}}, 8192),
                 {{0, 2}});
}

TEST_CASE("extent difference: allocated zeros are a hole; what is compressed differs from itself") {
  require_ranges(differences({{0, 8192, 4096, kZeros}}, {}, 8192), {});
  require_ranges(differences({{0, 8192, 4096, kZeros}}, {{0, 8192, 65536, kZeros}}, 8192), {});
  require_ranges(differences({{0, 8192, 4096, kZeros}}, {{0, 8192, 4096, kData}}, 8192), {{0, 2}});
  require_ranges(differences({{0, 4096, 4096, kOpaque}}, {{0, 4096, 4096, kOpaque}}, 8192), {{0, 1}});
  require_ranges(differences({{0, 4096, 4096, kOpaque}}, {}, 8192), {{0, 1}});
  require_ranges(differences({{0, 4096, 4096, kOpaque}}, {{0, 4096, 4096, kData}}, 8192), {{0, 1}});
}

TEST_CASE("extent difference: an extent that goes on behind the end of the file does not count there") {
  require_ranges(differences({{0, 8192, 4096, kData}}, {{0, 4096, 4096, kData}}, 4000), {});
  require_ranges(differences({{0, 8192, 4096, kData}}, {{0, 4096, 4096, kData}}, 4097), {{1, 2}});
  require_ranges(differences({{0, 8192, 4096, kData}}, {}, 0), {});
}

TEST_CASE("extent difference: random files against sector by sector") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  const auto random_sector = [&] {
    Sector sector;
    sector.is_hole = random.one_in(4);
    sector.kind = random.one_in(6) ? kOpaque : random.one_in(4) ? kZeros : kData;
    sector.physical = random.below(40) * kSector;
    return sector;
  };
  for (int round = 0; round < 2000; round++) {
    std::vector<Sector> one(1 + random.below(60));
    for (uint64_t i = 0; i < one.size(); i++) {
      one[i] = random_sector();
      // Long extents, too.
      if (i > 0 && !random.one_in(4))
        one[i] = {one[i - 1].is_hole, one[i - 1].kind, one[i - 1].physical + kSector};
    }
    std::vector<Sector> other = one;
    for (uint64_t changes = random.below(6); changes > 0; changes--) {
      other[random.below(other.size())] = random_sector();
    }
    const uint64_t size = one.size() * kSector - random.below(kSector);
    const auto block_size = static_cast<uint32_t>(kSector << random.below(5));
    std::vector<bool> wanted((size + block_size - 1) / block_size);
    for (uint64_t i = 0; i < one.size(); i++) {
      const auto zeros = [](const Sector& sector) { return sector.is_hole || sector.kind == kZeros; };
      const auto data = [](const Sector& sector) { return !sector.is_hole && sector.kind == kData; };
      const bool is_same = (zeros(one[i]) && zeros(other[i])) ||
                           (data(one[i]) && data(other[i]) && one[i].physical == other[i].physical);
      if (!is_same) wanted[i * kSector / block_size] = true;
    }
    std::vector<bool> found(wanted.size());
    uint64_t last = 0;
    for (const BlockRange& range :
         differences(extents_of(one, random), extents_of(other, random), size, block_size)) {
      REQUIRE((range.begin > last || (range.begin == 0 && last == 0)));
      REQUIRE(range.begin < range.end);
      for (uint64_t block = range.begin; block < range.end; block++) found.at(block) = true;
      last = range.end;
    }
    REQUIRE(found == wanted);
  }
}

}  // namespace stillpoint::test
