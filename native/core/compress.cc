#include "core/compress.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <memory>
#include <new>

namespace stillpoint {
namespace {

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

size_t compress(Bytes raw, int level, std::span<uint8_t> into) {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeCompressor> context(ZSTD_createCCtx());
  if (!context) throw std::bad_alloc();
  const size_t size =
      ZSTD_compressCCtx(context.get(), into.data(), into.size(), raw.data(), raw.size(), level);
  if (!ZSTD_isError(size)) return size;
  if (ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation) throw std::bad_alloc();
  return 0;
}

bool decompress(Bytes compressed, std::span<uint8_t> into) {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context(ZSTD_createDCtx());
  if (!context) throw std::bad_alloc();
  const size_t size =
      ZSTD_decompressDCtx(context.get(), into.data(), into.size(), compressed.data(), compressed.size());
  if (!ZSTD_isError(size)) return size == into.size();
  if (ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation) throw std::bad_alloc();
  return false;
}

}  // namespace stillpoint
