// TreeFile, LeafOverlay and the functions that make them. Opening, verify, rootWith, apply, seal and close
// run on the pool; the rest reads a mapping or writes a few pages, and returns at once.
#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/codec/batch.h"
#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kTreeClass = "TreeFile";
constexpr const char* kOverlayClass = "LeafOverlay";
// Digests that leaves() copies at most: 256 MiB.
constexpr uint64_t kLeavesMax = uint64_t{8} << 20;

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value generation_object(Napi::Env env, const Generation& generation) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("pointId", to_hex(generation.point_id));
  object.Set("root", to_hex(generation.root));
  return object;
}

Generation arg_generation(const Napi::Value& value, const char* name) {
  const Napi::Object object = arg_object(value, name);
  return {arg_id(object.Get("pointId"), "pointId"), arg_digest_hex(object.Get("root"), "root")};
}

// A plain property: it stays readable when the handle is closed.
void define_constant(Napi::Object self, const char* name, Napi::Value value) {
  self.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
}

class TreeWrap : public Napi::ObjectWrap<TreeWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kTreeClass,
        DefineClass(
            env, kTreeClass,
            {InstanceAccessor<&TreeWrap::generation>("generation"), InstanceAccessor<&TreeWrap::top>("top"),
             InstanceMethod<&TreeWrap::leaves>("leaves"), InstanceMethod<&TreeWrap::digests>("digests"),
             InstanceMethod<&TreeWrap::next_non_null>("nextNonNull"),
             InstanceMethod<&TreeWrap::next_null>("nextNull"), InstanceMethod<&TreeWrap::verify>("verify"),
             InstanceMethod<&TreeWrap::root_with>("rootWith"),
             InstanceMethod<&TreeWrap::differing_bytes>("differingBytes"),
             InstanceMethod<&TreeWrap::apply>("apply"), InstanceMethod<&TreeWrap::close>("close")}));
  }

  explicit TreeWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<TreeFile>>(info)) {
    const Napi::Env env = info.Env();
    Napi::Object self = info.This().As<Napi::Object>();
    tag_object(self, kTreeClass);
    define_constant(self, "path", Napi::String::New(env, core_->path()));
    define_constant(self, "sizeBytes", number(env, core_->geometry().size_bytes));
    define_constant(self, "blockSize", number(env, core_->geometry().block_size));
    define_constant(self, "blockCount", number(env, core_->block_count()));
    define_constant(self, "digester", wrap_digester(env, core_->digester()));
  }

  Handle<TreeFile> handle() const {
    gate_->check();
    return {core_, gate_};
  }

 private:
  Napi::Value generation(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return generation_object(info.Env(), handle().core->generation()); });
  }

  Napi::Value top(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return to_buffer(info.Env(), handle().core->top()); });
  }

  Napi::Value leaves(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return copy_digests(info.Env(), 0, info[0], info[1]); });
  }

  Napi::Value digests(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto level =
          static_cast<unsigned>(arg_uint(info[0], "level", handle().core->geometry().height()));
      return copy_digests(info.Env(), level, info[1], info[2]);
    });
  }

  Napi::Value copy_digests(Napi::Env env, unsigned level, const Napi::Value& index, const Napi::Value& size) {
    const TreeFile& tree = *handle().core;
    const uint64_t first = arg_uint(index, level == 0 ? "blockIndex" : "index");
    const uint64_t count = arg_uint(size, "count", kLeavesMax);
    const uint64_t level_count = tree.geometry().level_count(level);
    if (first > level_count || count > level_count - first) {
      throw NativeError("bad-index", tree.path() + ": block or node index beyond the device", tree.path());
    }
    std::vector<uint8_t> digests(count * kDigestBytes);
    tree.read_digests(level, first, count, reinterpret_cast<Digest*>(digests.data()));
    return take_buffer(env, std::move(digests));
  }

  Napi::Value next_non_null(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return number(info.Env(), handle().core->next_non_null(arg_uint(info[0], "blockIndex")));
    });
  }

  Napi::Value next_null(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return number(info.Env(), handle().core->next_null(arg_uint(info[0], "blockIndex")));
    });
  }

  Napi::Value verify(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}}, [core = core_] { return core->verify(); },
          [](Napi::Env env, bool good) { return Napi::Boolean::New(env, good); });
    });
  }

  Napi::Value root_with(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Handle<LeafOverlay> overlay = arg_overlay(info[0], "overlay");
      return run_promise(
          info.Env(), {{gate_, overlay.gate}, {}},
          [core = core_, changes = overlay.core] { return core->root_with(*changes); },
          [](Napi::Env env, const Digest& root) { return to_buffer(env, root); });
    });
  }

  Napi::Value differing_bytes(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Handle<LeafOverlay> overlay = arg_overlay(info[0], "overlay");
      return run_promise(
          info.Env(), {{gate_, overlay.gate}, {}},
          [core = core_, changes = overlay.core] { return core->differing_bytes(*changes); }, number);
    });
  }

  Napi::Value apply(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Handle<LeafOverlay> overlay = arg_overlay(info[0], "overlay");
      return run_promise(info.Env(), {{gate_, overlay.gate}, {}},
                         [core = core_, changes = overlay.core] { core->apply(*changes); });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<TreeFile>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<TreeFile> core_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

class OverlayWrap : public Napi::ObjectWrap<OverlayWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kOverlayClass,
        DefineClass(
            env, kOverlayClass,
            {InstanceAccessor<&OverlayWrap::present_count>("presentCount"),
             InstanceAccessor<&OverlayWrap::generation>("generation"),
             InstanceMethod<&OverlayWrap::put_batch>("putBatch"), InstanceMethod<&OverlayWrap::put>("put"),
             InstanceMethod<&OverlayWrap::get>("get"), InstanceMethod<&OverlayWrap::next_node>("nextNode"),
             InstanceMethod<&OverlayWrap::node>("node"), InstanceMethod<&OverlayWrap::seal>("seal"),
             InstanceMethod<&OverlayWrap::close>("close")}));
  }

  explicit OverlayWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<LeafOverlay>>(info)) {
    const Napi::Env env = info.Env();
    Napi::Object self = info.This().As<Napi::Object>();
    tag_object(self, kOverlayClass);
    define_constant(self, "path", Napi::String::New(env, core_->path()));
    define_constant(self, "blockCount", number(env, core_->block_count()));
    define_constant(self, "baseRoot", Napi::String::New(env, to_hex(core_->base_root())));
  }

  Handle<LeafOverlay> handle() const {
    gate_->check();
    return {core_, gate_};
  }

 private:
  Napi::Value present_count(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return number(info.Env(), handle().core->present_count()); });
  }

  Napi::Value generation(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto& generation = handle().core->generation();
      return generation ? generation_object(info.Env(), *generation) : info.Env().Null();
    });
  }

  void put_batch(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { put_batch_entries(*handle().core, arg_bytes(info[0], "body")); });
  }

  void put(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const Handle<LeafOverlay> overlay = handle();
      const uint64_t first = arg_uint(info[0], "blockIndex");
      const Bytes digests = arg_bytes(info[1], "digests");
      if (digests.size() % kDigestBytes != 0) throw_argument("digests", "whole digests of 32 bytes");
      overlay.core->put(first, reinterpret_cast<const Digest*>(digests.data()),
                        digests.size() / kDigestBytes);
    });
  }

  Napi::Value get(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::optional<Digest> digest = handle().core->get(arg_uint(info[0], "blockIndex"));
      return digest ? to_buffer(info.Env(), *digest) : info.Env().Null();
    });
  }

  Napi::Value next_node(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const uint64_t node = handle().core->next_node(arg_uint(info[0], "nodeIndex"));
      return node == LeafOverlay::kNoNode ? Napi::Number::New(info.Env(), -1) : number(info.Env(), node);
    });
  }

  Napi::Value node(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const LeafOverlay::Node node = handle().core->node(arg_uint(info[0], "nodeIndex"));
      std::vector<uint8_t> bytes(sizeof node.present + kNodeBytesMax);
      store_le(bytes.data(), node.present);
      std::memcpy(bytes.data() + sizeof node.present, node.digests.data(), kNodeBytesMax);
      return to_buffer(info.Env(), bytes);
    });
  }

  Napi::Value seal(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Generation generation = arg_generation(info[0], "generation");
      return run_promise(info.Env(), {{gate_}, {}}, [core = core_, generation] { core->seal(generation); });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<LeafOverlay>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<LeafOverlay> core_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

// Makes or opens a core object on the pool and wraps it.
template <class Core, class Open>
Napi::Value run_opening(Napi::Env env, const Keep& keep, const char* class_name, Open open) {
  return run_promise(
      env, keep, [open = std::move(open)]() -> std::shared_ptr<Core> { return open(); },
      [class_name](Napi::Env e, std::shared_ptr<Core> core) { return wrap(e, class_name, std::move(core)); });
}

Napi::Value create_tree(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    const TreeGeometry geometry = arg_geometry(info[1], info[2]);
    const Digester digester = arg_digester(info[3], "digester");
    return run_opening<TreeFile>(info.Env(), {}, kTreeClass, [path, geometry, digester] {
      return TreeFile::create(path, geometry, digester);
    });
  });
}

Napi::Value open_tree(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    const Digester digester = arg_digester(info[1], "digester");
    return run_opening<TreeFile>(info.Env(), {}, kTreeClass,
                                 [path, digester] { return TreeFile::open(path, digester); });
  });
}

Napi::Value resize_tree(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Handle<TreeFile> from = arg_tree(info[0], "from");
    const std::string path = arg_string(info[1], "path");
    const uint64_t size_bytes = arg_uint(info[2], "sizeBytes", kDeviceSizeMax);
    return run_opening<TreeFile>(
        info.Env(), {{from.gate}, {}}, kTreeClass,
        [source = from.core, path, size_bytes] { return TreeFile::resize(*source, path, size_bytes); });
  });
}

Napi::Value create_overlay(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    const TreeGeometry geometry = arg_geometry(info[1], info[2]);
    const Digest base_root = arg_digest_hex(info[3], "baseRoot");
    return run_opening<LeafOverlay>(info.Env(), {}, kOverlayClass, [path, geometry, base_root] {
      return LeafOverlay::create(path, geometry, base_root);
    });
  });
}

Napi::Value open_overlay(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    return run_opening<LeafOverlay>(info.Env(), {}, kOverlayClass,
                                    [path] { return LeafOverlay::open(path); });
  });
}

}  // namespace

Handle<TreeFile> arg_tree(const Napi::Value& value, const char* name) {
  return arg_wrap<TreeWrap>(value, kTreeClass, name)->handle();
}

Handle<LeafOverlay> arg_overlay(const Napi::Value& value, const char* name) {
  return arg_wrap<OverlayWrap>(value, kOverlayClass, name)->handle();
}

void init_tree(Napi::Env env, Napi::Object exports) {
  TreeWrap::define(env);
  OverlayWrap::define(env);
  exports.Set("createTree", Napi::Function::New(env, create_tree, "createTree"));
  exports.Set("openTree", Napi::Function::New(env, open_tree, "openTree"));
  exports.Set("resizeTree", Napi::Function::New(env, resize_tree, "resizeTree"));
  exports.Set("createOverlay", Napi::Function::New(env, create_overlay, "createOverlay"));
  exports.Set("openOverlay", Napi::Function::New(env, open_overlay, "openOverlay"));
}

}  // namespace stillpoint::binding
