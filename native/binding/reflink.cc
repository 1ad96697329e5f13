// Clones of files, and where two clones may differ. Each function works on copies of the descriptors that it
// is given: the caller may close its own at any time.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/base/error.h"
#include "core/reflink/clone.h"
#include "core/reflink/extent_map.h"

namespace stillpoint::binding {
namespace {

// Not the name of a file: JavaScript knows which one it was.
constexpr const char* kNoPath = "";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
    if (fd_ < 0) throw_errno(errno, "use the descriptor");
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd_); }

  int get() const { return fd_; }

 private:
  int fd_;
};

std::shared_ptr<Descriptor> arg_descriptor(const Napi::Value& value, const char* name) {
  return std::make_shared<Descriptor>(
      static_cast<int>(arg_uint(value, name, static_cast<uint64_t>(std::numeric_limits<int>::max()))));
}

Napi::Value clone_support_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {}, [fd = arg_descriptor(info[0], "fd")] { return clone_support(fd->get(), kNoPath); },
        [](Napi::Env env, const CloneSupport& support) {
          const char* const name = support.file_system == CloneSupport::FileSystem::xfs     ? "xfs"
                                   : support.file_system == CloneSupport::FileSystem::btrfs ? "btrfs"
                                                                                            : nullptr;
          Napi::Object result = Napi::Object::New(env);
          result.Set("fileSystem",
                     name == nullptr ? env.Null() : Napi::String::New(env, name).As<Napi::Value>());
          result.Set("withoutReflink", Napi::Boolean::New(env, support.without_reflink));
          result.Set("realtime", Napi::Boolean::New(env, support.realtime));
          return result;
        });
  });
}

Napi::Value count_extents_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {}, [fd = arg_descriptor(info[0], "fd")] { return count_extents(fd->get(), kNoPath); },
        [](Napi::Env env, uint64_t count) { return Napi::Number::New(env, static_cast<double>(count)); });
  });
}

Napi::Value shared_bytes_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {}, [fd = arg_descriptor(info[0], "fd")] { return shared_bytes(fd->get(), kNoPath); },
        [](Napi::Env env, uint64_t count) { return Napi::Number::New(env, static_cast<double>(count)); });
  });
}

Napi::Value liken_for_clone_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {},
        [source = arg_descriptor(info[0], "sourceFd"), target = arg_descriptor(info[1], "targetFd")] {
          liken_for_clone(source->get(), target->get(), kNoPath);
        });
  });
}

Napi::Value clone_file_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {},
        [source = arg_descriptor(info[0], "sourceFd"), target = arg_descriptor(info[1], "targetFd")] {
          return clone_file(source->get(), target->get(), kNoPath);
        },
        [](Napi::Env env, double ms) { return Napi::Number::New(env, ms); });
  });
}

Napi::Value differing_blocks_between(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const uint64_t size_bytes = arg_uint(info[2], "sizeBytes", kDeviceSizeMax);
    const auto block_size = static_cast<uint32_t>(arg_uint(info[3], "blockSize", kBlockSizeMax));
    if (!TreeGeometry{size_bytes, block_size}.valid())
      throw_argument("blockSize", "a power of two in bounds");
    return run_promise(
        info.Env(), {},
        [one = arg_descriptor(info[0], "oneFd"), other = arg_descriptor(info[1], "otherFd"), size_bytes,
         block_size] {
          return differing_blocks_of(one->get(), other->get(), size_bytes, block_size, kNoPath);
        },
        [](Napi::Env env, const FileDifference& difference) {
          Napi::Object result = Napi::Object::New(env);
          result.Set("ranges", block_ranges(env, difference.ranges));
          result.Set("extentCount", Napi::Number::New(env, static_cast<double>(difference.extent_count)));
          return result;
        });
  });
}

Napi::Value get_attribute_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {},
        [fd = arg_descriptor(info[0], "fd"), name = arg_string(info[1], "name")] {
          return get_attribute(fd->get(), name, kNoPath);
        },
        [](Napi::Env env, const std::optional<std::vector<uint8_t>>& value) -> Napi::Value {
          return value ? to_buffer(env, *value) : env.Null();
        });
  });
}

Napi::Value set_attribute_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Bytes value = arg_bytes(info[2], "value");
    return run_promise(info.Env(), {{}, {info[2]}},
                       [fd = arg_descriptor(info[0], "fd"), name = arg_string(info[1], "name"), value] {
                         set_attribute(fd->get(), name, value, kNoPath);
                       });
  });
}

}  // namespace

void init_reflink(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto* function) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("cloneSupport", clone_support_of);
  add("countExtents", count_extents_of);
  add("sharedBytes", shared_bytes_of);
  add("likenForClone", liken_for_clone_of);
  add("cloneFile", clone_file_of);
  add("differingBlocks", differing_blocks_between);
  add("getAttribute", get_attribute_of);
  add("setAttribute", set_attribute_of);
}

}  // namespace stillpoint::binding
