// Placeholder; owner: B.
#include "binding/module.h"

namespace stillpoint::binding {
void init_codec(Napi::Env, Napi::Object) {}
}  // namespace stillpoint::binding
