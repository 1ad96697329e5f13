// Patches: the changed pieces of a block, relative to the block of the base point, which both sides have
// (docs/format.md section 4). No I/O, no trust.
//
// The receiver digests the pieces of its block. The agent compares the digests with its own, and sends the
// pieces that differ. Both sides have the other pieces, which serve as dictionary.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/byte_vector.h"
#include "core/base/digest.h"
#include "core/base/id.h"
#include "core/codec/record.h"

namespace stillpoint {

inline constexpr uint32_t kPieceBytes = 4096;
inline constexpr size_t kPieceDigestBytes = 8;
inline constexpr size_t kPatchHeaderBytes = 12;
// Of the blocks that the patches of one batch make: what a small body can make a receiver do stays bounded.
inline constexpr uint64_t kPatchedBytesMax = uint64_t{8} << 20;

constexpr size_t piece_count(uint64_t block_length) {
  return static_cast<size_t>((block_length + kPieceBytes - 1) / kPieceBytes);
}

// Short digests, keyed by the session: two pieces that collide in one do not in the next, and nobody can make
// them beforehand.
class PieceHasher {
 public:
  explicit PieceHasher(const Id& session_id);

  // kPieceDigestBytes for each piece; `into` has room for all.
  void digest(Bytes block, uint8_t* into) const;

 private:
  std::array<uint8_t, BLAKE3_KEY_LEN> key_;
};

// A bit for each piece of a block, LSB first.
using PieceBits = std::vector<uint8_t>;

// Which pieces of the block differ from those that `base_digests` digests.
PieceBits changed_pieces(const PieceHasher& hasher, Bytes block, Bytes base_digests);

// Empty if a patch does not pay: nothing seems to have changed (then a digest must be believed less than the
// whole block), or more than three quarters of the pieces have.
ByteVector encode_patch(Bytes block, const PieceBits& changed, int compression_level);

// A patch whose header is within bounds and whose bytes are all there. Nothing else is proven yet.
struct PatchView {
  Codec codec;
  uint32_t raw_length;  // of the changed pieces
  Bytes bits;
  Bytes stored;
  Bytes bytes;  // all of it
};

// The patch at the start of `bytes`, which may go on after it. `truncated`, `bad-magic`, `bad-version`,
// `bad-codec`, `bad-length`.
PatchView parse_patch(Bytes bytes, uint64_t block_length);

// `block` holds the base's content, then the patched one. `bad-patch` if the changed pieces can't be had:
// then it holds neither.
void apply_patch(const PatchView& patch, std::span<uint8_t> block);

}  // namespace stillpoint
