// Memory of Buffers given back before the garbage collector comes round.
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/errors.h"

namespace stillpoint::binding {
namespace {

void free_buffer(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    arg_bytes(info[0], "buffer");
    const auto view = info[0].As<Napi::Uint8Array>();
    Napi::ArrayBuffer memory = view.ArrayBuffer();
    // Others may look at the rest of a larger one.
    if (memory.ByteLength() != view.ByteLength() || memory.IsDetached()) return;
    memory.Detach();
  });
}

}  // namespace

void init_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("freeBuffer", Napi::Function::New(env, free_buffer, "freeBuffer"));
}

}  // namespace stillpoint::binding
