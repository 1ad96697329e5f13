// Patches on the receiver's side: digests of pieces, and whole blocks from patches. All but the list of
// patched blocks runs on the pool.
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/base/thread_pool.h"
#include "core/codec/patched_batch.h"
#include "core/tree/tree_file.h"

namespace stillpoint::binding {
namespace {

// `keep` gets the bodies.
BaseBlocks arg_base(const Napi::Value& value, const Digester& digester, Keep& keep) {
  const Napi::Object object = arg_object(value, "base");
  BaseBlocks base{{},
                  {arg_id(object.Get("pointId"), "pointId"), 0,
                   arg_geometry(object.Get("sizeBytes"), object.Get("blockSize")), digester}};
  if (!object.Get("bodies").IsArray()) throw_argument("bodies", "an array");
  const Napi::Array bodies = object.Get("bodies").As<Napi::Array>();
  for (uint32_t i = 0; i < bodies.Length(); i++) {
    keep.values.push_back(bodies.Get(i));
    base.bodies.push_back(arg_bytes(keep.values.back(), "bodies"));
  }
  return base;
}

Napi::Value patched_blocks_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::vector<uint64_t> indexes =
        patched_blocks(arg_bytes(info[0], "body"), arg_uint(info[1], "blockCount"));
    Napi::Float64Array array = Napi::Float64Array::New(info.Env(), indexes.size());
    for (size_t i = 0; i < indexes.size(); i++) array[i] = static_cast<double>(indexes[i]);
    return array;
  });
}

Napi::Value piece_digests_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    Keep keep;
    const BaseBlocks base = arg_base(info[0], arg_digester(info[2], "digester"), keep);
    return run_promise(
        info.Env(), keep,
        [base, session_id = arg_id(info[1], "sessionId")] {
          return piece_digests(base, session_id, ThreadPool::shared());
        },
        [](Napi::Env env, std::vector<uint8_t> digests) { return take_buffer(env, std::move(digests)); });
  });
}

Napi::Value resolve_patches_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    Keep keep{{}, {info[0]}};
    const Bytes body = arg_bytes(info[0], "body");
    const Napi::Object object = arg_object(info[1], "bounds");
    const BatchBounds bounds{arg_id(object.Get("sessionId"), "sessionId"),
                             arg_uint(object.Get("sequence"), "sequence"),
                             arg_geometry(object.Get("sizeBytes"), object.Get("blockSize")),
                             arg_digester(object.Get("digester"), "digester")};
    const BaseBlocks base = arg_base(info[2], bounds.digester, keep);
    return run_promise(
        info.Env(), keep,
        [body, bounds, base] { return resolve_patches(body, bounds, base, ThreadPool::shared()); },
        [](Napi::Env env, ByteVector whole) { return take_buffer(env, std::move(whole)); });
  });
}

}  // namespace

void init_patch(Napi::Env env, Napi::Object exports) {
  exports.Set("patchedBlocks", Napi::Function::New(env, patched_blocks_of, "patchedBlocks"));
  exports.Set("pieceDigests", Napi::Function::New(env, piece_digests_of, "pieceDigests"));
  exports.Set("resolvePatches", Napi::Function::New(env, resolve_patches_of, "resolvePatches"));
}

}  // namespace stillpoint::binding
