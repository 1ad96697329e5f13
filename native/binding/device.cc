#include "binding/module.h"

namespace stillpoint::binding {
void init_device(Napi::Env, Napi::Object) {}
}  // namespace stillpoint::binding
