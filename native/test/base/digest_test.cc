#include "core/base/digest.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "test/helpers/digesters.h"

using namespace stillpoint;
using stillpoint::test::kPlain;

namespace {

std::string hex(const Digest& digest) {
  std::string text;
  for (uint8_t byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("checksum is BLAKE3, in one part or several") {
  // From BLAKE3's published test vectors: the empty input, and 0x00.
  CHECK(hex(checksum(Bytes{})) == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
  const std::string zero(1, '\0');
  CHECK(hex(checksum(bytes_of(zero))) == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213");
  CHECK(checksum({bytes_of("still"), bytes_of("point")}) == checksum(bytes_of("stillpoint")));
}

TEST_CASE("zero check sees every byte at every length") {
  for (size_t length : {0, 1, 7, 63, 64, 65, 127, 128, 200}) {
    std::vector<uint8_t> bytes(length, 0);
    CHECK(is_all_zero(bytes));
    CHECK(kPlain.leaf_digest(bytes) == kNullDigest);
    for (size_t i = 0; i < length; i++) {
      bytes[i] = 0x80;
      REQUIRE_FALSE(is_all_zero(bytes));
      REQUIRE(kPlain.leaf_digest(bytes) == checksum(bytes));
      bytes[i] = 0;
    }
  }
}

TEST_CASE("a node's digest ignores trailing NULL children and is no leaf digest") {
  std::vector<uint8_t> children(64 * kDigestBytes, 0);
  CHECK(kPlain.node_digest(children) == kNullDigest);
  children[3 * kDigestBytes] = 1;
  const Digest digest = kPlain.node_digest(children);
  CHECK(trim_node_content(children).size() == 4 * kDigestBytes);
  CHECK(kPlain.node_digest(trim_node_content(children)) == digest);
  CHECK(digest != checksum(trim_node_content(children)));
  children[63 * kDigestBytes + 31] = 1;
  CHECK(trim_node_content(children).size() == children.size());
  CHECK(kPlain.node_digest(children) != digest);
}

TEST_CASE("the root covers size, block size and top") {
  const Digest top = checksum(bytes_of("top"));
  const Digest root = kPlain.root_digest(1000, 4096, top);
  CHECK(root == kPlain.root_digest(1000, 4096, top));
  CHECK(root != kPlain.root_digest(1001, 4096, top));
  CHECK(root != kPlain.root_digest(1000, 8192, top));
  CHECK(root != kPlain.root_digest(1000, 4096, kNullDigest));
}

TEST_CASE("parallel_for does every index once, also inside tasks of the pool, and passes exceptions on") {
  std::vector<std::atomic<int>> counts(1000);
  ThreadPool& pool = ThreadPool::shared();
  pool.parallel_for(10, [&](size_t outer) {
    pool.parallel_for(100, [&](size_t inner) { counts[outer * 100 + inner]++; });
  });
  for (const auto& count : counts) REQUIRE(count == 1);
  CHECK_THROWS_WITH(pool.parallel_for(8,
                                      [](size_t i) {
                                        if (i == 5) throw std::runtime_error("five");
                                      }),
                    "five");
  pool.parallel_for(0, [](size_t) { FAIL("no index"); });
}
