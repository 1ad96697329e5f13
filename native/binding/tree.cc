// Placeholder; owner: B.
#include "binding/module.h"

namespace stillpoint::binding {
void init_tree(Napi::Env, Napi::Object) {}
}  // namespace stillpoint::binding
