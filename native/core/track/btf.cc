#include "core/track/btf.h"

#include <linux/btf.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {
namespace {

// Newer than some headers: include/uapi/linux/btf.h of Linux 6.0.
constexpr uint32_t kKindFloat = 16;
constexpr uint32_t kKindDeclTag = 17;
constexpr uint32_t kKindTypeTag = 18;
constexpr uint32_t kKindEnum64 = 19;
constexpr size_t kTypeBytes = 12;
constexpr size_t kMemberBytes = 12;
constexpr unsigned kNestingMax = 8;

[[noreturn]] void refuse(const char* what) { throw NativeError("bad-btf", what, Btf::kKernelPath); }

// Of what follows a type, by its kind.
size_t data_bytes(uint32_t kind, size_t count) {
  switch (kind) {
    case BTF_KIND_INT:
    case BTF_KIND_VAR:
    case kKindDeclTag:
      return 4;
    case BTF_KIND_ARRAY:
      return 12;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
    case BTF_KIND_DATASEC:
    case kKindEnum64:
      return count * 12;
    case BTF_KIND_ENUM:
    case BTF_KIND_FUNC_PROTO:
      return count * 8;
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case kKindFloat:
    case kKindTypeTag:
      return 0;
    default:
      refuse("it has a kind of type that is not known here");
  }
}

}  // namespace

Btf::Btf(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {
  btf_header header{};
  if (bytes_.size() < sizeof header) refuse("it is too short");
  std::memcpy(&header, bytes_.data(), sizeof header);
  if (header.magic != BTF_MAGIC || header.version != BTF_VERSION) refuse("it is not BTF of version 1");
  const uint64_t types_begin = uint64_t{header.hdr_len} + header.type_off;
  const uint64_t types_end = types_begin + header.type_len;
  const uint64_t strings_begin = uint64_t{header.hdr_len} + header.str_off;
  const uint64_t strings_end = strings_begin + header.str_len;
  if (types_end > bytes_.size() || strings_end > bytes_.size() || strings_begin == strings_end ||
      bytes_[strings_end - 1] != 0) {
    refuse("it ends too early");
  }
  strings_begin_ = strings_begin;
  strings_end_ = strings_end;
  types_.push_back({});
  for (uint64_t at = types_begin; at < types_end;) {
    if (types_end - at < kTypeBytes) refuse("it ends in the middle of a type");
    Type type{load_le<uint32_t>(&bytes_[at]), load_le<uint32_t>(&bytes_[at + 4]),
              load_le<uint32_t>(&bytes_[at + 8]), static_cast<uint32_t>(at + kTypeBytes)};
    at += kTypeBytes + data_bytes(type.kind(), type.count());
    if (at > types_end) refuse("it ends in the middle of a type");
    types_.push_back(type);
  }
}

Btf Btf::of_kernel() {
  std::ifstream file(kKernelPath, std::ios::binary);
  if (!file) throw_errno(errno, "open", kKernelPath);
  return Btf(std::vector<uint8_t>(std::istreambuf_iterator<char>(file), {}));
}

std::string_view Btf::string_at(uint32_t offset) const {
  if (offset >= strings_end_ - strings_begin_) return {};
  return reinterpret_cast<const char*>(&bytes_[strings_begin_ + offset]);
}

const Btf::Type* Btf::type(uint32_t id) const { return id < types_.size() ? &types_[id] : nullptr; }

std::optional<uint32_t> Btf::member_of(const Type& structure, std::string_view member, unsigned depth) const {
  const bool has_bit_fields = (structure.info >> 31) != 0;
  for (uint32_t i = 0; i < structure.count(); i++) {
    const uint8_t* const at = &bytes_[structure.data_offset + i * kMemberBytes];
    const std::string_view name = string_at(load_le<uint32_t>(at));
    const uint32_t packed = load_le<uint32_t>(at + 8);
    const uint32_t offset_bits = has_bit_fields ? packed & 0xffffff : packed;
    if (has_bit_fields && (packed >> 24) != 0) continue;
    if (name == member) return offset_bits / 8;
    if (!name.empty() || depth == kNestingMax) continue;
    const Type* const inner = type(load_le<uint32_t>(at + 4));
    if (inner == nullptr || (inner->kind() != BTF_KIND_STRUCT && inner->kind() != BTF_KIND_UNION)) continue;
    if (const auto found = member_of(*inner, member, depth + 1)) return offset_bits / 8 + *found;
  }
  return std::nullopt;
}

std::optional<uint32_t> Btf::member_offset(std::string_view name, std::string_view member) const {
  for (const Type& one : types_) {
    if (one.kind() != BTF_KIND_STRUCT || string_at(one.name_offset) != name) continue;
    if (const auto found = member_of(one, member, 0)) return found;
  }
  return std::nullopt;
}

std::optional<Btf::Tracepoint> Btf::tracepoint(const std::string& name) const {
  const std::string wanted = "btf_trace_" + name;
  for (uint32_t id = 1; id < types_.size(); id++) {
    const Type& one = types_[id];
    if (one.kind() != BTF_KIND_TYPEDEF || string_at(one.name_offset) != wanted) continue;
    const Type* const pointer = type(one.size_or_type);
    if (pointer == nullptr || pointer->kind() != BTF_KIND_PTR) continue;
    const Type* const function = type(pointer->size_or_type);
    if (function == nullptr || function->kind() != BTF_KIND_FUNC_PROTO || function->count() == 0) continue;
    return Tracepoint{id, function->count() - 1};
  }
  return std::nullopt;
}

}  // namespace stillpoint
