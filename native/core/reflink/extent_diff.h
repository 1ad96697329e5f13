// Where two files may differ, from their extents alone. Pure.
//
// The same physical bytes have the same content only while nobody can write them in place: both files must be
// kept as they are, so that their extents are shared or theirs alone. So the answer is only right for clones
// that nobody writes to.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/tree/geometry.h"

namespace stillpoint {

struct Extent {
  enum class Kind {
    data,    // at `physical`, byte for byte
    zeros,   // allocated, and reads as zeros
    opaque,  // compressed, encrypted, inline, not on disk yet: where it lies says nothing of its content
  };
  uint64_t logical = 0;
  uint64_t length = 0;
  uint64_t physical = 0;
  Kind kind = Kind::data;

  uint64_t end() const { return logical + length; }
  bool operator==(const Extent&) const = default;
};

// The extents of a file: ascending, apart, none of length 0. What lies between them is a hole.
class ExtentSource {
 public:
  virtual ~ExtentSource() = default;
  ExtentSource(const ExtentSource&) = delete;
  ExtentSource& operator=(const ExtentSource&) = delete;

  virtual std::optional<Extent> next() = 0;

 protected:
  ExtentSource() = default;
};

// Blocks of both files that may differ: too many, never too few. Ascending, apart. An opaque extent differs
// from everything, also from itself. Memory: the answer, and one extent of each.
std::vector<BlockRange> differing_blocks(ExtentSource& one, ExtentSource& other, uint64_t size_bytes,
                                         uint32_t block_size);

}  // namespace stillpoint
