// Digests of docs/format.md section 1. Everything here is thread-safe.
#pragma once

#include <blake3.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace stillpoint {

constexpr size_t kDigestBytes = 32;
constexpr uint64_t kTreeFanout = 64;
constexpr size_t kNodeBytesMax = kTreeFanout * kDigestBytes;

using Digest = std::array<uint8_t, kDigestBytes>;
using Bytes = std::span<const uint8_t>;

// Stands for zero content at every level of the tree.
constexpr Digest kNullDigest{};

inline bool is_null(const Digest& digest) { return digest == kNullDigest; }

// True for an empty range. Stops at the first non-zero cache line, so it costs next to nothing on data.
bool is_all_zero(Bytes bytes);

// How content is digested. A value, made once and passed to whoever digests or proves: trees keep theirs, and
// scans and restores go by the tree that they work with. Never changes.
class Digester {
 public:
  using Key = std::array<uint8_t, BLAKE3_KEY_LEN>;

  // BLAKE3 without a key: what the formats have today.
  static Digester plain();
  // With a key of its own for leaves, nodes and roots, each derived from this one.
  explicit Digester(const Key& key);

  // zero_digest() if all bytes are zero.
  Digest leaf_digest(Bytes bytes) const;
  // Up to 64 concatenated child digests, trimmed or not; NULL if all are NULL.
  Digest node_digest(Bytes children) const;
  Digest root_digest(uint64_t size_bytes, uint32_t block_size, const Digest& top) const;
  // The leaf of so many zeros. NULL, with a key too: trees are sparse, and holes must be known without it.
  Digest zero_digest(uint64_t /*byte_length*/) const { return kNullDigest; }

 private:
  // What a fresh hasher has set: not the 1.8 KB of its stack.
  struct State {
    std::array<uint32_t, 8> key;
    blake3_chunk_state chunk;
  };

  Digester(const blake3_hasher& leaf, const blake3_hasher& node, const blake3_hasher& root);
  static State state_of(const blake3_hasher& fresh);
  static Digest digest(const State& state, std::initializer_list<Bytes> parts);

  State leaf_;
  State node_;
  State root_;
};

// Plain BLAKE3, also for zeros, of bytes that come in parts: it finds damage, and proves no content.
class Checksum {
 public:
  Checksum() { blake3_hasher_init(&hasher_); }
  void update(Bytes bytes) { blake3_hasher_update(&hasher_, bytes.data(), bytes.size()); }
  Digest finish() const {
    Digest digest;
    blake3_hasher_finalize(&hasher_, digest.data(), digest.size());
    return digest;
  }

 private:
  blake3_hasher hasher_;
};

// Of the concatenation of the parts.
Digest checksum(std::initializer_list<Bytes> parts);
inline Digest checksum(Bytes bytes) { return checksum({bytes}); }

// Children without their trailing NULLs: the content of a node.
Bytes trim_node_content(Bytes children);

const char* blake3_library_version();

}  // namespace stillpoint
