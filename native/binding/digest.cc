// Digests and the constants of the format. Synchronous: inputs are at most one block.
#include "core/base/digest.h"

#include <zstd.h>

#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {
namespace {

Napi::Value leaf_digest_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return to_buffer(info.Env(), leaf_digest(arg_bytes(info[0], "bytes"))); });
}

Napi::Value checksum_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Checksum hasher;
    for (size_t i = 0; i < info.Length(); i++) hasher.update(arg_bytes(info[i], "part"));
    return to_buffer(info.Env(), hasher.finish());
  });
}

Napi::Value node_digest_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Bytes children = arg_bytes(info[0], "children");
    if (children.size() % kDigestBytes != 0 || children.size() > kNodeBytesMax) {
      throw_argument("children", "up to 64 digests of 32 bytes");
    }
    return to_buffer(info.Env(), node_digest(children));
  });
}

Napi::Value root_digest_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return to_buffer(info.Env(),
                     root_digest(arg_uint(info[0], "sizeBytes", kDeviceSizeMax),
                                 static_cast<uint32_t>(arg_uint(info[1], "blockSize", kBlockSizeMax)),
                                 arg_digest(info[2], "top")));
  });
}

}  // namespace

void init_digest(Napi::Env env, Napi::Object exports) {
  Napi::Object constants = Napi::Object::New(env);
  const auto set = [&](const char* name, size_t value) {
    constants.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  set("digestBytes", kDigestBytes);
  set("treeFanout", kTreeFanout);
  constants.Set("zstdVersion", ZSTD_versionString());
  constants.Set("blake3Version", blake3_library_version());
  constants.Set("sanitizer", STILLPOINT_SANITIZER);
  // init_codec adds the sizes of records, packs and batches.
  exports.Set("constants", constants);

  exports.Set("leafDigest", Napi::Function::New(env, leaf_digest_of, "leafDigest"));
  exports.Set("checksum", Napi::Function::New(env, checksum_of, "checksum"));
  exports.Set("nodeDigest", Napi::Function::New(env, node_digest_of, "nodeDigest"));
  exports.Set("rootDigest", Napi::Function::New(env, root_digest_of, "rootDigest"));
}

}  // namespace stillpoint::binding
