#include "core/tap/maps/block_map.h"

#include <algorithm>
#include <vector>

#include "test/helpers/helpers.h"

namespace stillpoint::test {

TEST_CASE("block map: against a vector of bools") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  for (const uint64_t count : {1u, 63u, 64u, 65u, 1000u, 4096u}) {
    BlockMap map(count);
    BlockMap other(count);
    std::vector<bool> model(count);
    std::vector<bool> other_model(count);
    for (int step = 0; step < 200; step++) {
      const uint64_t begin = random.below(count);
      const uint64_t end = begin + random.below(count - begin) % 130 + 1;
      if (random.one_in(2)) {
        map.mark(begin, end);
        for (uint64_t i = begin; i < end; i++) model[i] = true;
      } else {
        other.mark(begin, end);
        for (uint64_t i = begin; i < end; i++) other_model[i] = true;
      }
      if (random.one_in(40)) {
        map.merge(other);
        for (uint64_t i = 0; i < count; i++) model[i] = model[i] || other_model[i];
      }
      if (random.one_in(20)) {
        map.clear();
        model.assign(count, false);
      }
      const uint64_t from = random.below(count);
      uint64_t set = from;
      while (set < count && !model[set]) set++;
      uint64_t clear = from;
      while (clear < count && model[clear]) clear++;
      REQUIRE(map.next_set(from) == set);
      REQUIRE(map.next_clear(from) == clear);
      const uint64_t limit = random.below(count + 1);
      REQUIRE(map.next_set(from, limit) == std::min(set, limit));
      REQUIRE(map.next_clear(from, limit) == std::min(clear, limit));
      REQUIRE(map.any(from, limit) == (set < limit));
      REQUIRE(map.test(from) == model[from]);
      REQUIRE(map.count() == static_cast<uint64_t>(std::count(model.begin(), model.end(), true)));
    }
    REQUIRE(map.next_set(count) == count);
  }
}

}  // namespace stillpoint::test
