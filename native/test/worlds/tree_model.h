// The digest tree of docs/format.md section 1 as plainly as it can be said: maps from index to digest, no
// NULL in them.
#pragma once

#include <map>
#include <vector>

#include "core/tree/geometry.h"
#include "test/helpers/digesters.h"

namespace stillpoint::test {

using Level = std::map<uint64_t, Digest>;

inline void set(Level& level, uint64_t index, const Digest& digest) {
  if (is_null(digest)) {
    level.erase(index);
  } else {
    level[index] = digest;
  }
}

inline Level level_above(const Level& below, const Digester& digester) {
  std::map<uint64_t, std::vector<uint8_t>> contents;
  for (const auto& [index, digest] : below) {
    std::vector<uint8_t>& content = contents[index / 64];
    content.resize(index % 64 * 32);
    content.insert(content.end(), digest.begin(), digest.end());
  }
  Level level;
  for (const auto& [index, content] : contents) level[index] = digester.node_digest(content);
  return level;
}

inline Digest model_root(uint64_t size_bytes, uint32_t block_size, Level level,
                         const Digester& digester = kPlain) {
  const uint64_t block_count = size_bytes / block_size + (size_bytes % block_size == 0 ? 0 : 1);
  uint64_t reach = 1;
  do {
    level = level_above(level, digester);
    reach *= 64;
  } while (reach < block_count);
  return digester.root_digest(size_bytes, block_size, level.empty() ? kNullDigest : level.at(0));
}

}  // namespace stillpoint::test
