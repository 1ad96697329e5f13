// How a handle is closed.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <vector>

#include "binding/async/gate.h"

namespace stillpoint::binding {

// close() of a handle: waits for work in flight, runs `release` (may block: destructors, fsync) on the pool,
// resolves. Repeated calls resolve at the same time. `closer` is a member of the wrap.
struct Closer {
  std::vector<Napi::Promise::Deferred> waiting;
  bool done = false;
};
Napi::Value close_handle(Napi::Env env, const std::shared_ptr<Gate>& gate,
                         const std::shared_ptr<Closer>& closer, std::function<void()> release);

}  // namespace stillpoint::binding
