// What a tap says of itself. No I/O.
#pragma once

#include <napi.h>

#include <vector>

#include "core/tap/tap.h"

namespace stillpoint::binding {

Napi::Array hex_list(Napi::Env env, const std::vector<Id>& ids);
Napi::Value tap_status(Napi::Env env, const Tap& tap);

}  // namespace stillpoint::binding
