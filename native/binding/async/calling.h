// run_promise for work that also calls back into JavaScript: progress, findings.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "binding/async/promises.h"

namespace stillpoint::binding {

// Runs work(call) on the pool, then settles with convert(env, result). call(make) may be used on that thread
// only: it has the callback called on the JavaScript thread with the argument make(env), before the promise
// settles. If the callback throws, it isn't called again and the promise is rejected with what it threw.
template <class Work, class Convert>
Napi::Value run_calling(Napi::Env env, const Keep& keep, const Napi::Function& callback, Work work,
                        Convert convert) {
  struct State {  // belongs to the JavaScript thread
    Napi::FunctionReference callback;
    std::optional<Napi::Error> thrown;
  };
  auto state = std::make_shared<State>();
  state->callback = Napi::Persistent(callback);
  Operation* const operation = Operation::start(env, keep);
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  submit_to_pool([operation, deferred, state = std::move(state), work = std::move(work), convert]() mutable {
    using Make = std::function<Napi::Value(Napi::Env)>;
    // The settling, which comes last, owns the state: it is destroyed on the JavaScript thread.
    const std::function<void(Make)> call = [operation, at = state.get()](Make make) {
      operation->post([at, make = std::move(make)](Napi::Env e) {
        if (at->thrown) return;
        try {
          at->callback.Call({make(e)});
        } catch (const Napi::Error& error) {
          at->thrown = error;
        }
      });
    };
    std::exception_ptr failure;
    auto result = std::make_shared<std::optional<decltype(work(call))>>();
    try {
      result->emplace(work(call));
    } catch (...) {
      failure = std::current_exception();
    }
    operation->finish([deferred, state = std::move(state), convert, failure, result](Napi::Env e) {
      if (state->thrown) return deferred->Reject(state->thrown->Value());
      settle_promise(e, *deferred, failure, [&] { return convert(e, std::move(**result)); });
    });
  });
  return deferred->Promise();
}

}  // namespace stillpoint::binding
