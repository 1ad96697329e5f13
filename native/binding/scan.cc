#include "binding/module.h"

namespace stillpoint::binding {
void init_scan(Napi::Env, Napi::Object) {}
}  // namespace stillpoint::binding
