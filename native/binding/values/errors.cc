#include "binding/values/errors.h"

#include <cstring>
#include <system_error>

#include "core/base/error.h"

namespace stillpoint::binding {

namespace {

// Of what the standard library throws: no memory, no thread.
std::string foreign_code(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "ENOMEM";
  const auto* refused = dynamic_cast<const std::system_error*>(&error);
  const char* const name = refused == nullptr ? nullptr : strerrorname_np(refused->code().value());
  return name == nullptr ? "internal" : name;
}

}  // namespace

Napi::Error make_error(Napi::Env env, const std::exception& error) {
  Napi::Error result = Napi::Error::New(env, error.what());
  const auto* native = dynamic_cast<const NativeError*>(&error);
  result.Set("code", Napi::String::New(env, native != nullptr ? native->code() : foreign_code(error)));
  if (native != nullptr && !native->path().empty())
    result.Set("path", Napi::String::New(env, native->path()));
  if (native != nullptr && native->byte_offset() != NativeError::kNoOffset) {
    result.Set("byteOffset", Napi::Number::New(env, static_cast<double>(native->byte_offset())));
  }
  return result;
}

Napi::Error make_error(Napi::Env env, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Napi::Error& thrown) {
    return thrown;
  } catch (const std::exception& thrown) {
    return make_error(env, thrown);
  }
}

void throw_argument(const std::string& name, const std::string& expectation) {
  throw NativeError("argument", name + ": expected " + expectation);
}

}  // namespace stillpoint::binding
