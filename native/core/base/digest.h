// Digests of docs/format.md section 1. Everything here is thread-safe and keeps no state.
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

// NULL if all bytes are zero, else BLAKE3.
Digest leaf_digest(Bytes bytes);

// Plain BLAKE3, also for zeros, of bytes that come in parts.
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

// Up to 64 concatenated child digests, trimmed or not; NULL if all are NULL.
Digest node_digest(Bytes children);

Digest root_digest(uint64_t size_bytes, uint32_t block_size, const Digest& top);

const char* blake3_library_version();

}  // namespace stillpoint
