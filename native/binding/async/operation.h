// Work on native threads that settles on the JavaScript thread.
//
// Threads: everything here runs on the JavaScript thread, but for the `work` of run_promise (a thread of the
// pool, no Napi:: anything) and Operation::finish (any thread). Results travel back through one queue per
// environment.
//
// Teardown (worker.terminate(), natural exit): a cleanup hook stops what can be stopped (Gate::add_stopper),
// waits until no operation is running on any thread, then drops the results. process.exit() runs no hooks;
// then native threads run on until the process is gone and touch nothing that is destroyed, for pool and
// environments are never freed by static destructors.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <vector>

#include "binding/async/gate.h"

namespace stillpoint::binding {

// What an operation keeps alive until it settles: values (input Buffers, callbacks) and the handles that it
// uses.
struct Keep {
  std::vector<std::shared_ptr<Gate>> gates;
  std::vector<Napi::Value> values;
};

// One piece of native work in flight. Made and settled on the JavaScript thread; finish() is called exactly
// once, from any thread.
class Operation {
 public:
  using Settle = std::function<void(Napi::Env)>;

  // Throws `closed` if a gate is. With `holds_loop` the process does not exit by itself before this settles.
  static Operation* start(Napi::Env env, const Keep& keep, bool holds_loop = true);
  // `settle` runs later on the JavaScript thread (never, if the environment ends first), is destroyed there
  // too, and frees this.
  void finish(Settle settle);

  // Called from any thread: runs `call` on the JavaScript thread while the operation is in flight (progress
  // callbacks). Unordered with nothing: calls and the settling come in the order in which they were posted.
  void post(Settle call);

 private:
  friend class Environment;
  Operation() = default;

  class Environment* environment_ = nullptr;
  std::vector<std::shared_ptr<Gate>> gates_;
  std::vector<Napi::Reference<Napi::Value>> values_;
  bool holds_loop_ = true;
};

// Called at environment teardown on the JavaScript thread, before waiting for operations; for work that would
// otherwise not end.
int add_teardown_stopper(Napi::Env env, std::function<void()> stop);
void remove_teardown_stopper(Napi::Env env, int id);

void submit_to_pool(std::function<void()> task);

}  // namespace stillpoint::binding
