// Digesters, checksums and the constants of the format. Synchronous: inputs are at most one block.
#include "core/base/digest.h"

#include <zstd.h>

#include <algorithm>
#include <memory>

#include "binding/async/classes.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kDigesterClass = "Digester";

// Holds memory alone, and never changes: it needs no close().
class DigesterWrap : public Napi::ObjectWrap<DigesterWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(env, kDigesterClass,
                   DefineClass(env, kDigesterClass,
                               {InstanceMethod<&DigesterWrap::leaf_digest>("leafDigest"),
                                InstanceMethod<&DigesterWrap::node_digest>("nodeDigest"),
                                InstanceMethod<&DigesterWrap::root_digest>("rootDigest"),
                                InstanceMethod<&DigesterWrap::zero_digest>("zeroDigest")}));
  }

  explicit DigesterWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<Digester>(info)) {
    tag_object(info.This().As<Napi::Object>(), kDigesterClass);
  }

  const Digester& core() const { return core_; }

 private:
  Napi::Value leaf_digest(const Napi::CallbackInfo& info) {
    return guarded(info.Env(),
                   [&] { return to_buffer(info.Env(), core_.leaf_digest(arg_bytes(info[0], "bytes"))); });
  }

  Napi::Value node_digest(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const Bytes children = arg_bytes(info[0], "children");
      if (children.size() % kDigestBytes != 0 || children.size() > kNodeBytesMax) {
        throw_argument("children", "up to 64 digests of 32 bytes");
      }
      return to_buffer(info.Env(), core_.node_digest(children));
    });
  }

  Napi::Value root_digest(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto block_size = static_cast<uint32_t>(arg_uint(info[1], "blockSize", kBlockSizeMax));
      return to_buffer(info.Env(), core_.root_digest(arg_uint(info[0], "sizeBytes", kDeviceSizeMax),
                                                     block_size, arg_digest(info[2], "top")));
    });
  }

  Napi::Value zero_digest(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return to_buffer(info.Env(), core_.zero_digest(arg_uint(info[0], "byteLength", kBlockSizeMax)));
    });
  }

  const Digester core_;
};

Napi::Value plain_digester(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return wrap_digester(info.Env(), Digester::plain()); });
}

Napi::Value keyed_digester(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Bytes bytes = arg_bytes(info[0], "key");
    Digester::Key key;
    if (bytes.size() != key.size()) throw_argument("key", "32 bytes");
    std::copy(bytes.begin(), bytes.end(), key.begin());
    return wrap_digester(info.Env(), Digester(key));
  });
}

Napi::Value checksum_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Checksum hasher;
    for (size_t i = 0; i < info.Length(); i++) hasher.update(arg_bytes(info[i], "part"));
    return to_buffer(info.Env(), hasher.finish());
  });
}

}  // namespace

Napi::Object wrap_digester(Napi::Env env, const Digester& core) { return wrap(env, kDigesterClass, core); }

const Digester& arg_digester(const Napi::Value& value, const char* name) {
  return arg_wrap<DigesterWrap>(value, kDigesterClass, name)->core();
}

void init_digest(Napi::Env env, Napi::Object exports) {
  Napi::Object constants = Napi::Object::New(env);
  const auto set = [&](const char* name, size_t value) {
    constants.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  set("digestBytes", kDigestBytes);
  set("treeFanout", kTreeFanout);
  constants.Set("zstdVersion", ZSTD_versionString());
  constants.Set("blake3Version", blake3_library_version());
  constants.Set("sanitizer", STILLPOINT_SANITIZER);
  // init_codec adds the sizes of records, packs and batches.
  exports.Set("constants", constants);

  DigesterWrap::define(env);
  exports.Set("plainDigester", Napi::Function::New(env, plain_digester, "plainDigester"));
  exports.Set("keyedDigester", Napi::Function::New(env, keyed_digester, "keyedDigester"));
  exports.Set("checksum", Napi::Function::New(env, checksum_of, "checksum"));
}

}  // namespace stillpoint::binding
