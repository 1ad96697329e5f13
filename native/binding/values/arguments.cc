#include "binding/values/arguments.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "binding/values/errors.h"

namespace stillpoint::binding {

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

std::vector<BlockRange> arg_block_ranges(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) throw_argument(name, "an array of [start, end) pairs");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<BlockRange> ranges;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::HandleScope scope(array.Env());
    const Napi::Value pair = array.Get(i);
    if (!pair.IsArray()) throw_argument(name, "an array of [start, end) pairs");
    ranges.push_back({arg_uint(pair.As<Napi::Array>().Get(0u), "range start"),
                      arg_uint(pair.As<Napi::Array>().Get(1u), "range end")});
  }
  return ranges;
}

std::vector<uint64_t> arg_block_indexes(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    throw_argument(name, "a Float64Array");
  const auto array = value.As<Napi::Float64Array>();
  std::vector<uint64_t> indexes(array.ElementLength());
  for (size_t i = 0; i < indexes.size(); i++) {
    const double number = array[i];
    if (!(number >= 0 && number < 9007199254740992.0) || number != std::floor(number))
      throw_argument(name, "whole numbers");
    indexes[i] = static_cast<uint64_t>(number);
  }
  return indexes;
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

TreeGeometry arg_geometry(const Napi::Value& size_bytes, const Napi::Value& block_size) {
  const TreeGeometry geometry{arg_uint(size_bytes, "sizeBytes", kDeviceSizeMax),
                              static_cast<uint32_t>(arg_uint(block_size, "blockSize", kBlockSizeMax))};
  if (!geometry.valid()) throw_argument("blockSize", "a power of two from 4 KiB to 4 MiB");
  return geometry;
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

}  // namespace stillpoint::binding
