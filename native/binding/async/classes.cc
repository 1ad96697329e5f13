#include "binding/async/classes.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "binding/async/environment.h"
#include "binding/values/errors.h"

namespace stillpoint::binding {

void register_class(Napi::Env env, const char* name, const Napi::Function& constructor) {
  Environment::of(env).set_constructor(name, constructor);
}

Napi::Object construct(Napi::Env env, const char* name, napi_value external) {
  return Environment::of(env).constructor(name).New({external});
}

namespace {

// The tag is the address-free name of the class: padded or cut to 16 bytes, which our class names are within.
napi_type_tag type_tag(const char* class_name) {
  napi_type_tag tag{};
  char bytes[16] = {};
  std::memcpy(bytes, class_name, std::min<size_t>(std::strlen(class_name), sizeof bytes));
  std::memcpy(&tag.lower, bytes, 8);
  std::memcpy(&tag.upper, bytes + 8, 8);
  // No other addon's names.
  tag.upper ^= 0x7374696c6c706f69;
  return tag;
}

}  // namespace

void tag_object(Napi::Object object, const char* class_name) {
  const napi_type_tag tag = type_tag(class_name);
  object.TypeTag(&tag);
}

void check_tag(const Napi::Value& value, const char* class_name, const char* name) {
  const napi_type_tag tag = type_tag(class_name);
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag)) {
    throw_argument(name, std::string("a ") + class_name);
  }
}

}  // namespace stillpoint::binding
