#include "binding/values/buffers.h"

namespace stillpoint::binding {

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

Napi::Value block_ranges(Napi::Env env, const std::vector<BlockRange>& ranges) {
  Napi::Array list = Napi::Array::New(env, ranges.size());
  for (uint32_t i = 0; i < ranges.size(); i++) {
    const Napi::HandleScope scope(env);
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, Napi::Number::New(env, static_cast<double>(ranges[i].begin)));
    pair.Set(1u, Napi::Number::New(env, static_cast<double>(ranges[i].end)));
    list.Set(i, pair);
  }
  return list;
}

Napi::Value to_buffer(Napi::Env env, Bytes bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value take_memory(Napi::Env env, uint8_t* data, size_t size, std::shared_ptr<void> owner) {
  if (size == 0) return Napi::Buffer<uint8_t>::New(env, 0);
  // V8 counts the memory of its array buffers itself, external ones included.
  return Napi::Buffer<uint8_t>::New(
      env, data, size, [](Napi::Env, uint8_t*, std::shared_ptr<void>* kept) { delete kept; },
      new std::shared_ptr<void>(std::move(owner)));
}

}  // namespace stillpoint::binding
