// Classes of JavaScript around objects of the core.
#pragma once

#include <napi.h>

#include <utility>

namespace stillpoint::binding {

// Constructors of the wrapped classes are not exported; factories find them by name. `wrap` passes the shared
// core object on.
void register_class(Napi::Env env, const char* name, const Napi::Function& constructor);
Napi::Object construct(Napi::Env env, const char* name, napi_value external);

template <class Core>
Napi::Object wrap(Napi::Env env, const char* class_name, Core core) {
  return construct(env, class_name, Napi::External<Core>::New(env, &core));
}

// For the constructor of an ObjectWrap made by wrap(): takes the core object out again. Throws if JavaScript
// called `new` itself.
template <class Core>
Core take_wrapped(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "illegal constructor");
  return std::move(*info[0].As<Napi::External<Core>>().Data());
}

// The ObjectWrap behind an argument; tagged so that another class's object is an `argument` error, not a
// crash. The wrap's constructor calls tag().
void tag_object(Napi::Object object, const char* class_name);
void check_tag(const Napi::Value& value, const char* class_name, const char* name);
template <class Wrap>
Wrap* arg_wrap(const Napi::Value& value, const char* class_name, const char* name) {
  check_tag(value, class_name, name);
  return Wrap::Unwrap(value.As<Napi::Object>());
}

}  // namespace stillpoint::binding
