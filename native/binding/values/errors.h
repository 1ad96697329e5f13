// Exceptions of C++ as errors of JavaScript.
#pragma once

#include <napi.h>

#include <exception>
#include <string>

namespace stillpoint::binding {

// The NativeError of src/native/index.ts: an Error with code and, where known, path and byteOffset.
Napi::Error make_error(Napi::Env env, const std::exception& error);
Napi::Error make_error(Napi::Env env, const std::exception_ptr& error);

[[noreturn]] void throw_argument(const std::string& name, const std::string& expectation);

// Runs the body of a synchronous method or getter; NativeError becomes a JavaScript exception.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw make_error(env, error);
  }
}

// Runs the body of a method that returns a promise; whatever it throws before work starts becomes a
// rejection.
template <class Body>
Napi::Value guarded_promise(Napi::Env env, Body&& body) {
  const auto rejected = [env](const Napi::Error& error) -> Napi::Value {
    Napi::Promise::Deferred deferred(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return rejected(error);
  } catch (const std::exception& error) {
    return rejected(make_error(env, error));
  }
}

}  // namespace stillpoint::binding
