// Both ends of a patched batch: what the receiver tells about its blocks, and how a batch with patches
// becomes one without (docs/format.md section 4). Only whole blocks are stored.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/codec/batch.h"

namespace stillpoint {

// Blocks of the base point as the store answers them: restore's batches, and what they must be.
struct BaseBlocks {
  std::vector<Bytes> bodies;
  BatchBounds bounds;
};

// The digests of the pieces of all blocks, in the order of the bodies; every block is proven.
std::vector<uint8_t> piece_digests(const BaseBlocks& base, const Id& session_id, ThreadPool& pool);

// The batch with whole blocks in place of its patches: they are put over the base's blocks, and what comes
// out has the digest that the agent named. `bad-patch` if not, or if the base lacks a block of that length;
// else what parse_batch refuses with. Its other records are not decoded.
ByteVector resolve_patches(Bytes body, BatchBounds bounds, const BaseBlocks& base, ThreadPool& pool);

}  // namespace stillpoint
