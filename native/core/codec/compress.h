// zstd on byte ranges. Each thread keeps its contexts until it ends: a context costs more to make than to use
// on a block.
#pragma once

#include <cstddef>
#include <span>

#include "core/base/digest.h"

namespace stillpoint {

inline constexpr int kCompressionLevelMax = 19;

// Compresses into `into`; 0 if it does not fit, so the caller's bound decides what counts as shrunk. `prefix`
// is what decompress() must be given too: bytes to refer to. ENOMEM.
size_t compress(Bytes raw, int level, std::span<uint8_t> into, Bytes prefix = {});

// True if `compressed` is whole zstd frames that give exactly into.size() bytes; never writes more. ENOMEM.
bool decompress(Bytes compressed, std::span<uint8_t> into, Bytes prefix = {});

}  // namespace stillpoint
