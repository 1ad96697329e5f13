#include "core/codec/patch.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/codec/compress.h"

namespace stillpoint {
namespace {

constexpr uint8_t kMagic[4] = {'S', 'P', 'D', '1'};

bool has_bit(Bytes bits, size_t piece) { return (bits[piece / 8] >> (piece % 8) & 1) != 0; }

Bytes piece_of(Bytes block, size_t piece) {
  const size_t offset = piece * kPieceBytes;
  return block.subspan(offset, std::min<size_t>(kPieceBytes, block.size() - offset));
}

// The pieces whose bit is `value`, back to back. Valid until the thread's next call for the same value.
Bytes join_pieces(Bytes block, Bytes bits, bool value) {
  thread_local std::vector<uint8_t> joined_of[2];
  std::vector<uint8_t>& joined = joined_of[value ? 1 : 0];
  joined.clear();
  for (size_t piece = 0; piece < piece_count(block.size()); piece++) {
    if (has_bit(bits, piece) != value) continue;
    const Bytes bytes = piece_of(block, piece);
    joined.insert(joined.end(), bytes.begin(), bytes.end());
  }
  return joined;
}

}  // namespace

PieceHasher::PieceHasher(const Id& session_id) {
  blake3_hasher hasher;
  blake3_hasher_init_derive_key(&hasher, "stillpoint 2026 piece digest v1");
  blake3_hasher_update(&hasher, session_id.data(), session_id.size());
  blake3_hasher_finalize(&hasher, key_.data(), key_.size());
}

void PieceHasher::digest(Bytes block, uint8_t* into) const {
  for (size_t piece = 0; piece < piece_count(block.size()); piece++) {
    const Bytes bytes = piece_of(block, piece);
    blake3_hasher hasher;
    blake3_hasher_init_keyed(&hasher, key_.data());
    blake3_hasher_update(&hasher, bytes.data(), bytes.size());
    blake3_hasher_finalize(&hasher, into + piece * kPieceDigestBytes, kPieceDigestBytes);
  }
}

PieceBits changed_pieces(const PieceHasher& hasher, Bytes block, Bytes base_digests) {
  const size_t count = piece_count(block.size());
  if (base_digests.size() != count * kPieceDigestBytes) {
    throw NativeError("argument", "pieces: expected " + std::to_string(count) + " digests");
  }
  std::vector<uint8_t> digests(base_digests.size());
  hasher.digest(block, digests.data());
  PieceBits bits((count + 7) / 8);
  for (size_t piece = 0; piece < count; piece++) {
    const size_t at = piece * kPieceDigestBytes;
    if (std::memcmp(&digests[at], &base_digests[at], kPieceDigestBytes) == 0) continue;
    bits[piece / 8] = static_cast<uint8_t>(bits[piece / 8] | 1 << piece % 8);
  }
  return bits;
}

ByteVector encode_patch(Bytes block, const PieceBits& changed, int compression_level) {
  size_t changed_count = 0;
  for (const uint8_t byte : changed) changed_count += static_cast<size_t>(std::popcount(byte));
  if (changed_count == 0 || changed_count * 4 > piece_count(block.size()) * 3) return {};
  const Bytes raw = join_pieces(block, changed, true);
  const Bytes known = join_pieces(block, changed, false);
  const size_t stored_offset = kPatchHeaderBytes + changed.size();
  ByteVector patch(stored_offset + raw.size());
  uint8_t* const stored = patch.data() + stored_offset;
  size_t stored_length =
      compression_level == 0 ? 0 : compress(raw, compression_level, {stored, raw.size() - 1}, known);
  const Codec codec = stored_length == 0 ? Codec::raw : Codec::zstd;
  if (codec == Codec::raw) {
    stored_length = raw.size();
    std::memcpy(stored, raw.data(), raw.size());
  }
  patch.resize(stored_offset + stored_length);
  std::memcpy(patch.data(), kMagic, sizeof kMagic);
  store_le<uint32_t>(patch.data() + 4, static_cast<uint32_t>(codec));
  store_le<uint32_t>(patch.data() + 8, static_cast<uint32_t>(stored_length));
  std::copy(changed.begin(), changed.end(), patch.begin() + kPatchHeaderBytes);
  return patch;
}

PatchView parse_patch(Bytes bytes, uint64_t block_length) {
  const size_t count = piece_count(block_length);
  const size_t stored_offset = kPatchHeaderBytes + (count + 7) / 8;
  if (bytes.size() < stored_offset) throw NativeError("truncated", "patch: shorter than its header");
  if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    throw NativeError("bad-magic", "patch: does not begin with its magic number");
  }
  if (bytes[4] > 1) throw NativeError("bad-codec", "patch: unknown codec " + std::to_string(bytes[4]));
  if ((bytes[5] | bytes[6] | bytes[7]) != 0)
    throw NativeError("bad-version", "patch: reserved bytes are set");
  PatchView patch{static_cast<Codec>(bytes[4]), 0, bytes.subspan(kPatchHeaderBytes, (count + 7) / 8), {}, {}};
  for (size_t piece = 0; piece < patch.bits.size() * 8; piece++) {
    if (!has_bit(patch.bits, piece)) continue;
    if (piece >= count) throw NativeError("bad-length", "patch: names a piece beyond its block");
    const uint64_t end = std::min<uint64_t>(block_length, (piece + 1) * uint64_t{kPieceBytes});
    patch.raw_length += static_cast<uint32_t>(end - piece * uint64_t{kPieceBytes});
  }
  const size_t stored_length = load_le<uint32_t>(bytes.data() + 8);
  const bool fits =
      patch.codec == Codec::raw ? stored_length == patch.raw_length : stored_length <= patch.raw_length;
  if (patch.raw_length == 0 || !fits) throw NativeError("bad-length", "patch: impossible lengths");
  if (bytes.size() - stored_offset < stored_length) {
    throw NativeError("truncated", "patch: its stored bytes are not all there");
  }
  patch.stored = bytes.subspan(stored_offset, stored_length);
  patch.bytes = bytes.first(stored_offset + stored_length);
  return patch;
}

void apply_patch(const PatchView& patch, std::span<uint8_t> block) {
  Bytes raw = patch.stored;
  if (patch.codec == Codec::zstd) {
    thread_local std::vector<uint8_t> scratch;
    if (scratch.size() < patch.raw_length) scratch.resize(patch.raw_length);
    const Bytes known = join_pieces(block, patch.bits, false);
    if (!decompress(patch.stored, {scratch.data(), patch.raw_length}, known)) {
      throw NativeError("bad-patch", "patch: does not decompress to its pieces");
    }
    raw = {scratch.data(), patch.raw_length};
  }
  for (size_t piece = 0; piece < piece_count(block.size()); piece++) {
    if (!has_bit(patch.bits, piece)) continue;
    const size_t length = piece_of(block, piece).size();
    std::memcpy(block.data() + piece * kPieceBytes, raw.data(), length);
    raw = raw.subspan(length);
  }
}

}  // namespace stillpoint
