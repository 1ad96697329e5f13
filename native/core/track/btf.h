// The running kernel's own description of its types (BTF, Documentation/bpf/btf.rst): where a member lies in
// a structure, and how many arguments a tracepoint has. So one build runs on every kernel that has it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stillpoint {

class Btf {
 public:
  static constexpr const char* kKernelPath = "/sys/kernel/btf/vmlinux";

  // `bad-btf` for what is not BTF. Everything is checked against the length before it is believed.
  explicit Btf(std::vector<uint8_t> bytes);
  // ENOENT where the kernel was built without.
  static Btf of_kernel();

  // In bytes, from the start of structure `name`; also of members of anonymous structures and unions inside
  // it. Null: there is no such structure with such a member, or it is a bit field.
  std::optional<uint32_t> member_offset(std::string_view name, std::string_view member) const;

  struct Tracepoint {
    uint32_t type_id;
    // Without the first one, which is the tracing's own.
    uint32_t argument_count;
  };
  // Of a tracepoint by its name, such as block_bio_queue.
  std::optional<Tracepoint> tracepoint(const std::string& name) const;

 private:
  struct Type {
    uint32_t name_offset;
    uint32_t info;
    uint32_t size_or_type;
    uint32_t data_offset;  // in bytes_, of what follows
    uint32_t kind() const { return (info >> 24) & 31; }
    uint32_t count() const { return info & 0xffff; }
  };

  std::string_view string_at(uint32_t offset) const;
  const Type* type(uint32_t id) const;
  std::optional<uint32_t> member_of(const Type& structure, std::string_view member, unsigned depth) const;

  std::vector<uint8_t> bytes_;
  size_t strings_begin_ = 0;
  size_t strings_end_ = 0;
  std::vector<Type> types_;  // by id, from 1
};

}  // namespace stillpoint
