#include "binding/util.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#include "binding/module.h"
#include "core/thread_pool.h"

namespace stillpoint::binding {

// One per napi_env (main thread, each worker), kept as its instance data.
//
// Locking: mutex_ guards queue_ and running_; all else belongs to the JavaScript thread. wake_ is called
// under mutex_, and never after teardown() has seen running_ at 0, so it outlives its callers.
class Environment {
 public:
  explicit Environment(Napi::Env env) : env_(env) {
    wake_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                          "stillpoint", 0, 1);
    wake_.Unref(env);
  }
  ~Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  Operation* start(const Keep& keep, bool holds_loop) {
    for (const auto& gate : keep.gates) gate->check();
    auto* operation = new Operation;
    operation->environment_ = this;
    operation->holds_loop_ = holds_loop;
    operation->gates_ = keep.gates;
    for (const auto& gate : keep.gates) gate->enter();
    for (const Napi::Value& value : keep.values) {
      // Node-API 8 references objects only; primitives need none.
      if (value.IsObject()) operation->values_.push_back(Napi::Reference<Napi::Value>::New(value, 1));
    }
    if (holds_loop && holders_++ == 0) wake_.Ref(env_);
    std::lock_guard lock(mutex_);
    running_++;
    return operation;
  }

  // Any thread.
  void post(Operation* operation, Operation::Settle settle, bool last) {
    std::lock_guard lock(mutex_);
    queue_.push_back({last ? operation : nullptr, std::move(settle)});
    if (!closed_)
      wake_.NonBlockingCall(this, [](Napi::Env, Napi::Function, Environment* self) { self->drain(); });
    if (last && --running_ == 0) idle_.notify_all();
  }

  void drain() {
    for (;;) {
      Item item;
      {
        std::lock_guard lock(mutex_);
        if (queue_.empty()) return;
        item = std::move(queue_.front());
        queue_.pop_front();
      }
      Napi::HandleScope scope(env_);
      if (item.settle) item.settle(env_);
      item.settle = nullptr;
      release(item.operation);
    }
  }

  void release(Operation* operation) {
    if (operation == nullptr) return;
    for (const auto& gate : operation->gates_) gate->leave();
    if (operation->holds_loop_ && --holders_ == 0 && !closed_) wake_.Unref(env_);
    delete operation;
  }

  // Cleanup hook, JavaScript thread: hooks run in reverse order, so wake_'s own comes later.
  void teardown() {
    for (const auto& [id, stop] : stoppers_) stop();
    std::deque<Item> dropped;
    // Gates that become idle here may start their release on the pool: wait again until nothing is left.
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        closed_ = true;
        idle_.wait(lock, [this] { return running_ == 0; });
        dropped.swap(queue_);
      }
      if (dropped.empty()) break;
      for (Item& item : dropped) {
        item.settle = nullptr;
        release(item.operation);
      }
      dropped.clear();
    }
    wake_.Release();
  }

  Napi::Env env_;
  std::map<std::string, Napi::FunctionReference> constructors_;
  std::map<int, std::function<void()>> stoppers_;
  int next_stopper_ = 0;

 private:
  struct Item {
    Operation* operation = nullptr;  // null: a call in between
    Operation::Settle settle;
  };

  Napi::ThreadSafeFunction wake_;
  size_t holders_ = 0;
  bool closed_ = false;  // written under mutex_, by the JavaScript thread
  std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Item> queue_;
  size_t running_ = 0;
};

void init_environment(Napi::Env env) {
  env.SetInstanceData<Environment>(new Environment(env));
  Environment* const self = &Environment::of(env);
  env.AddCleanupHook([self] { self->teardown(); });
}

// ---- errors ----

Napi::Error make_error(Napi::Env env, const std::exception& error) {
  Napi::Error result = Napi::Error::New(env, error.what());
  const auto* native = dynamic_cast<const NativeError*>(&error);
  const bool no_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
  result.Set("code", Napi::String::New(env, native != nullptr ? native->code()
                                            : no_memory       ? "ENOMEM"
                                                              : "internal"));
  if (native != nullptr && !native->path().empty())
    result.Set("path", Napi::String::New(env, native->path()));
  if (native != nullptr && native->byte_offset() != NativeError::kNoOffset) {
    result.Set("byteOffset", Napi::Number::New(env, static_cast<double>(native->byte_offset())));
  }
  return result;
}

Napi::Error make_error(Napi::Env env, std::exception_ptr error) {
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

// ---- arguments ----

std::string arg_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) throw_argument(name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) throw_argument(name, "a string without NUL");
  return text;
}

bool arg_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) throw_argument(name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

uint64_t arg_uint(const Napi::Value& value, const char* name, uint64_t max) {
  const std::string expectation = "a whole number from 0 to " + std::to_string(max);
  if (!value.IsNumber()) throw_argument(name, expectation);
  const double number = value.As<Napi::Number>().DoubleValue();
  // The negated form also refuses NaN.
  if (!(number >= 0 && number <= static_cast<double>(max)) || number != std::floor(number)) {
    throw_argument(name, expectation);
  }
  return static_cast<uint64_t>(number);
}

int64_t arg_int(const Napi::Value& value, const char* name, int64_t min, int64_t max) {
  const std::string expectation = "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
  if (!value.IsNumber()) throw_argument(name, expectation);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      number != std::floor(number)) {
    throw_argument(name, expectation);
  }
  return static_cast<int64_t>(number);
}

Bytes arg_bytes(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw_argument(name, "a Uint8Array");
  }
  const auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

Digest arg_digest(const Napi::Value& value, const char* name) {
  const Bytes bytes = arg_bytes(value, name);
  if (bytes.size() != kDigestBytes) throw_argument(name, "32 bytes");
  Digest digest;
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

Napi::Object arg_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) throw_argument(name, "an object");
  return value.As<Napi::Object>();
}

Napi::Function arg_function(const Napi::Value& value, const char* name) {
  if (!value.IsFunction()) throw_argument(name, "a function");
  return value.As<Napi::Function>();
}

namespace {

template <size_t size>
std::array<uint8_t, size> arg_hex(const Napi::Value& value, const char* name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  const auto nibble = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (text.size() != 2 * size ||
      std::any_of(text.begin(), text.end(), [&](char c) { return nibble(c) < 0; })) {
    throw_argument(name, std::to_string(2 * size) + " hex digits");
  }
  std::array<uint8_t, size> bytes;
  for (size_t i = 0; i < size; i++) {
    bytes[i] = static_cast<uint8_t>(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
  }
  return bytes;
}

}  // namespace

Id arg_id(const Napi::Value& value, const char* name) { return arg_hex<16>(value, name); }
Digest arg_digest_hex(const Napi::Value& value, const char* name) { return arg_hex<32>(value, name); }

Napi::Value option(const Napi::Value& options, const char* name) {
  if (options.IsUndefined()) return options;
  return arg_object(options, "options").Get(name);
}

std::string to_hex(Bytes bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Napi::Value to_buffer(Napi::Env env, Bytes bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value take_buffer(Napi::Env env, std::vector<uint8_t>&& bytes) {
  const auto owner = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  return take_memory(env, owner->data(), owner->size(), owner);
}

Napi::Value take_memory(Napi::Env env, uint8_t* data, size_t size, std::shared_ptr<void> owner) {
  if (size == 0) return Napi::Buffer<uint8_t>::New(env, 0);
  // V8 counts the memory of its array buffers itself, external ones included.
  return Napi::Buffer<uint8_t>::New(
      env, data, size, [](Napi::Env, uint8_t*, std::shared_ptr<void>* kept) { delete kept; },
      new std::shared_ptr<void>(std::move(owner)));
}

// ---- classes ----

void register_class(Napi::Env env, const char* name, const Napi::Function& constructor) {
  Environment::of(env).constructors_[name] = Napi::Persistent(constructor);
}

Napi::Object construct(Napi::Env env, const char* name, napi_value external) {
  return Environment::of(env).constructors_.at(name).New({external});
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

// ---- lifetime of handles ----

void Gate::check() const {
  if (closing_) throw NativeError("closed", "the handle is closed");
}

void Gate::enter() {
  check();
  in_flight_++;
}

void Gate::leave() {
  if (--in_flight_ == 0 && when_idle_) std::exchange(when_idle_, nullptr)();
}

bool Gate::close(std::function<void()> when_idle) {
  if (closing_) return false;
  closing_ = true;
  for (const auto& [id, stop] : stoppers_) stop();
  if (in_flight_ == 0) {
    when_idle();
  } else {
    when_idle_ = std::move(when_idle);
  }
  return true;
}

int Gate::add_stopper(std::function<void()> stop) {
  stoppers_[next_stopper_] = std::move(stop);
  return next_stopper_++;
}

Napi::Value close_handle(Napi::Env env, const std::shared_ptr<Gate>& gate,
                         const std::shared_ptr<Closer>& closer, std::function<void()> release) {
  Napi::Promise::Deferred deferred(env);
  if (closer->done) {
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  closer->waiting.push_back(deferred);
  gate->close([env, closer, release = std::move(release)] {
    Operation* const operation = Operation::start(env, {});
    submit_to_pool([operation, closer, release] {
      std::exception_ptr failure;
      try {
        release();
      } catch (...) {
        failure = std::current_exception();
      }
      operation->finish([closer, failure](Napi::Env e) {
        closer->done = true;
        for (const auto& waiting : std::exchange(closer->waiting, {})) {
          if (failure) {
            waiting.Reject(make_error(e, failure).Value());
          } else {
            waiting.Resolve(e.Undefined());
          }
        }
      });
    });
  });
  return deferred.Promise();
}

// ---- operations ----

Operation* Operation::start(Napi::Env env, const Keep& keep, bool holds_loop) {
  return Environment::of(env).start(keep, holds_loop);
}

void Operation::finish(Settle settle) { environment_->post(this, std::move(settle), true); }
void Operation::post(Settle call) { environment_->post(this, std::move(call), false); }

int add_teardown_stopper(Napi::Env env, std::function<void()> stop) {
  Environment& environment = Environment::of(env);
  environment.stoppers_[environment.next_stopper_] = std::move(stop);
  return environment.next_stopper_++;
}

void remove_teardown_stopper(Napi::Env env, int id) { Environment::of(env).stoppers_.erase(id); }

void submit_to_pool(std::function<void()> task) { ThreadPool::shared().submit(std::move(task)); }

}  // namespace stillpoint::binding
