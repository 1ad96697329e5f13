// Loads everything into one environment. Order of destruction: cleanup hook (waits for work in flight), then
// the wraps' finalizers, then the instance data.
#include "binding/module.h"

#include "binding/async/environment.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace stillpoint::binding;
  init_environment(env);
  init_digest(env, exports);
  init_memory(env, exports);
  init_device(env, exports);
  init_scan(env, exports);
  init_tree(env, exports);
  init_codec(env, exports);
  init_patch(env, exports);
  init_restore(env, exports);
  init_journal(env, exports);
  init_tap(env, exports);
  init_reflink(env, exports);
  init_track(env, exports);
  init_live(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(stillpoint, init)
