#include "core/live/staging.h"

#include <doctest/doctest.h>

#include <map>

#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

TEST_CASE("staging: a slot for each unit, until there is none left; a dropped one is used again, and empty") {
  constexpr uint64_t kUnit = 8192;
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  Staging staging(kUnit, 10 * kUnit + 100);
  std::map<uint64_t, uint8_t> model;
  for (int i = 0; i < 2000; i++) {
    const uint64_t unit = random.below(15);
    if (random.one_in(3)) {
      staging.drop(unit);
      model.erase(unit);
    } else if (uint8_t* const slot = staging.slot(unit); slot != nullptr) {
      const auto byte = static_cast<uint8_t>(1 + random.below(255));
      if (!model.contains(unit)) CHECK(slot[kUnit - 1] == 0);
      slot[0] = slot[kUnit - 1] = byte;
      model[unit] = byte;
    } else {
      CHECK(model.size() == 10);
      CHECK_FALSE(model.contains(unit));
    }
    CHECK(staging.used_bytes() == model.size() * kUnit);
    CHECK(staging.used_bytes() + staging.free_bytes() == 10 * kUnit);
    for (uint64_t one = 0; one < 15; one++) {
      const uint8_t* const found = staging.find(one);
      CHECK((found != nullptr) == model.contains(one));
      if (found != nullptr) CHECK((found[0] == model[one] && found[kUnit - 1] == model[one]));
    }
  }
}

TEST_CASE("staging: without memory there are no slots") {
  Staging staging(4096, 4095);
  CHECK(staging.slot(0) == nullptr);
  CHECK(staging.free_bytes() == 0);
}
