// Device, MemoryDevice, openDevice, createMemoryDevice, isOpenForWriting. Opening, reading, writing, flushing
// and closing run on the pool.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/base/aligned_buffer.h"
#include "core/base/error.h"
#include "core/device/block_device.h"
#include "core/device/memory_device.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kClass = "Device";
constexpr uint64_t kReadBytesMax = uint64_t{256} << 20;

const char* type_name(BlockSource::Type type) {
  switch (type) {
    case BlockSource::Type::block:
      return "block";
    case BlockSource::Type::file:
      return "file";
    case BlockSource::Type::snapshot:
      return "snapshot";
    default:
      return "memory";
  }
}

class Device : public Napi::ObjectWrap<Device> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kClass,
        DefineClass(
            env, kClass,
            {InstanceMethod<&Device::read>("read"), InstanceMethod<&Device::write>("write"),
             InstanceMethod<&Device::flush>("flush"), InstanceMethod<&Device::drop_cache>("dropCache"),
             InstanceMethod<&Device::close>("close")}));
  }

  explicit Device(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<BlockSource>>(info)) {
    const Napi::Env env = info.Env();
    Napi::Object self = info.This().As<Napi::Object>();
    tag_object(self, kClass);
    // Plain properties: they stay readable when the device is closed.
    const auto set = [&](const char* name, Napi::Value value) {
      self.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
    };
    set("path", Napi::String::New(env, core_->path()));
    set("type", Napi::String::New(env, type_name(core_->type())));
    set("sizeBytes", Napi::Number::New(env, static_cast<double>(core_->size_bytes())));
    set("logicalSectorSize", Napi::Number::New(env, core_->logical_sector_size()));
    set("direct", Napi::Boolean::New(env, core_->direct()));
  }

  // The last descriptor of a written device flushes it when it is closed: not on this thread.
  ~Device() override {
    if (core_) submit_to_pool([core = std::move(core_)]() mutable { core.reset(); });
  }

  Handle<BlockSource> handle() const {
    gate_->check();
    return {core_, gate_};
  }

 private:
  Napi::Value read(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const uint64_t byte_offset = arg_uint(info[0], "byteOffset");
      const uint64_t byte_length = arg_uint(info[1], "byteLength", kReadBytesMax);
      return run_promise(
          info.Env(), {{gate_}, {}},
          [core = core_, byte_offset, byte_length] {
            auto buffer = std::make_shared<AlignedBuffer>(byte_length);
            core->read(byte_offset, buffer->first(byte_length));
            return buffer;
          },
          [byte_length](Napi::Env env, const std::shared_ptr<AlignedBuffer>& buffer) -> Napi::Value {
            return take_memory(env, buffer->data(), byte_length, buffer);
          });
    });
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const uint64_t byte_offset = arg_uint(info[0], "byteOffset");
      const Bytes bytes = arg_bytes(info[1], "bytes");
      return run_promise(info.Env(), {{gate_}, {info[1]}},
                         [core = core_, byte_offset, bytes] { core->write(byte_offset, bytes); });
    });
  }

  Napi::Value flush(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(info.Env(), {{gate_}, {}}, [core = core_] { core->flush(); });
    });
  }

  Napi::Value drop_cache(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(info.Env(), {{gate_}, {}}, [core = core_] { core->drop_cache(); });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<BlockSource>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<BlockSource> core_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

Napi::Value open_device(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    const auto flag = [&](const char* name) -> std::optional<bool> {
      const Napi::Value value = option(info[1], name);
      return value.IsUndefined() ? std::nullopt : std::optional(arg_bool(value, name));
    };
    OpenOptions options;
    options.write = flag("write").value_or(false);
    options.exclusive = flag("exclusive").value_or(false);
    options.direct = flag("direct");
    options.fresh = flag("fresh").value_or(false);
    options.create = flag("create").value_or(false);
    const Napi::Value size = option(info[1], "sizeBytes");
    if (!size.IsUndefined()) options.size_bytes = arg_uint(size, "sizeBytes", kDeviceSizeMax);
    return run_promise(
        info.Env(), {},
        [path, options]() -> std::shared_ptr<BlockSource> { return BlockDevice::open(path, options); },
        [](Napi::Env env, std::shared_ptr<BlockSource> core) { return wrap(env, kClass, std::move(core)); });
  });
}

Napi::Value create_memory_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const uint64_t size_bytes = arg_uint(info[0], "sizeBytes", kDeviceSizeMax);
    const Napi::Value sector = option(info[1], "logicalSectorSize");
    const uint64_t sector_size = sector.IsUndefined() ? 512 : arg_uint(sector, "logicalSectorSize", 4096);
    if (sector_size != 512 && sector_size != 4096) throw_argument("logicalSectorSize", "512 or 4096");
    const auto memory = std::make_shared<MemoryDevice>(size_bytes, static_cast<uint32_t>(sector_size));
    Napi::Object device = wrap(env, kClass, std::shared_ptr<BlockSource>(memory));
    // They outlive close(): setting faults is harmless then, and reads in flight can still be counted.
    const auto method = [&](const char* name, auto body) {
      device.Set(name, Napi::Function::New(
                           env,
                           [memory, body](const Napi::CallbackInfo& call) {
                             guarded(call.Env(), [&] { body(*memory, call); });
                           },
                           name));
    };
    method("addBadRange", [](MemoryDevice& d, const Napi::CallbackInfo& call) {
      d.add_bad_range(arg_uint(call[0], "byteOffset"), arg_uint(call[1], "byteLength"),
                      call[2].IsUndefined() ? MemoryDevice::kForever : arg_uint(call[2], "failures"));
    });
    method("addBadWriteRange", [](MemoryDevice& d, const Napi::CallbackInfo& call) {
      d.add_bad_write_range(arg_uint(call[0], "byteOffset"), arg_uint(call[1], "byteLength"));
    });
    method("clearFaults", [](MemoryDevice& d, const Napi::CallbackInfo&) { d.clear_faults(); });
    method("setReadDelayMs", [](MemoryDevice& d, const Napi::CallbackInfo& call) {
      d.set_read_delay_ms(static_cast<uint32_t>(arg_uint(call[0], "delayMs", 60'000)));
    });
    device.Set("readsInFlight", Napi::Function::New(
                                    env,
                                    [memory](const Napi::CallbackInfo& call) {
                                      return Napi::Number::New(call.Env(), memory->reads_in_flight());
                                    },
                                    "readsInFlight"));
    return device;
  });
}

// Synchronous: one open and one fcntl, no wait (the lease is asked for with nobody to break one).
Napi::Value is_open_for_writing_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Boolean::New(info.Env(), is_open_for_writing(arg_string(info[0], "path")));
  });
}

Napi::Value sync_filesystem(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    return run_promise(info.Env(), {}, [path] {
      const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
      if (fd < 0) throw_errno(errno, "open", path);
      const int error = syncfs(fd) == 0 ? 0 : errno;
      close(fd);
      if (error != 0) throw_errno(error, "syncfs", path);
    });
  });
}

// Synchronous, for a path where something has failed: what chattr has set. A link is asked itself.
Napi::Value path_flags(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    struct statx status {};
    if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) != 0) {
      throw_errno(errno, "statx", path);
    }
    Napi::Object flags = Napi::Object::New(info.Env());
    flags.Set("isImmutable", (status.stx_attributes & STATX_ATTR_IMMUTABLE) != 0);
    flags.Set("isAppendOnly", (status.stx_attributes & STATX_ATTR_APPEND) != 0);
    return flags;
  });
}

}  // namespace

Napi::Object wrap_device(Napi::Env env, std::shared_ptr<BlockSource> core) {
  return wrap(env, kClass, std::move(core));
}

Handle<BlockSource> arg_device(const Napi::Value& value, const char* name) {
  return arg_wrap<Device>(value, kClass, name)->handle();
}

void init_device(Napi::Env env, Napi::Object exports) {
  Device::define(env);
  exports.Set("openDevice", Napi::Function::New(env, open_device, "openDevice"));
  exports.Set("createMemoryDevice", Napi::Function::New(env, create_memory_device, "createMemoryDevice"));
  exports.Set("pathFlags", Napi::Function::New(env, path_flags, "pathFlags"));
  exports.Set("syncFilesystem", Napi::Function::New(env, sync_filesystem, "syncFilesystem"));
  exports.Set("isOpenForWriting", Napi::Function::New(env, is_open_for_writing_of, "isOpenForWriting"));
}

}  // namespace stillpoint::binding
