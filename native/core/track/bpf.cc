#include "core/track/bpf.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr size_t kLogBytes = size_t{16} << 20;
// Of what the verifier says.
constexpr size_t kLogCharsTold = 300;

int bpf(bpf_cmd command, bpf_attr& attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

void set_name(char (&field)[BPF_OBJ_NAME_LEN], const char* name) {
  std::strncpy(field, name, sizeof field - 1);
}

UniqueFd create_map(bpf_attr& attributes, const char* name) {
  set_name(attributes.map_name, name);
  const int fd = bpf(BPF_MAP_CREATE, attributes);
  if (fd < 0) throw_errno(errno, std::string("BPF_MAP_CREATE of ") + name);
  return UniqueFd(fd);
}

// What it says of the instruction that it refused; after that come its statistics.
std::string last_words(const std::vector<char>& log) {
  std::string text(log.data());
  if (const size_t statistics = text.rfind("\nprocessed "); statistics != std::string::npos)
    text.erase(statistics);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const size_t begin = text.rfind('\n');
  if (begin != std::string::npos) text.erase(0, begin + 1);
  return text.substr(0, kLogCharsTold);
}

template <class Info>
Info object_info(const UniqueFd& object, const char* what) {
  Info info{};
  bpf_attr attributes{};
  attributes.info.bpf_fd = static_cast<uint32_t>(object.get());
  attributes.info.info_len = sizeof info;
  attributes.info.info = address(&info);
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0) throw_errno(errno, what);
  return info;
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

UniqueFd create_array_map(const char* name, uint64_t value_bytes) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = sizeof(uint32_t);
  attributes.value_size = static_cast<uint32_t>(value_bytes);
  attributes.max_entries = 1;
  attributes.map_flags = BPF_F_MMAPABLE;
  return create_map(attributes, name);
}

UniqueFd create_hash_map(const char* name, uint32_t key_bytes, uint32_t value_bytes, uint32_t entries_max) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_HASH;
  attributes.key_size = key_bytes;
  attributes.value_size = value_bytes;
  attributes.max_entries = entries_max;
  return create_map(attributes, name);
}

UniqueFd load_program(const ProgramOptions& options) {
  const auto load = [&](std::span<char> log) {
    bpf_attr attributes{};
    attributes.prog_type = BPF_PROG_TYPE_TRACING;
    attributes.expected_attach_type = BPF_TRACE_RAW_TP;
    attributes.attach_btf_id = options.tracepoint_type_id;
    attributes.insns = address(options.instructions.data());
    attributes.insn_cnt = static_cast<uint32_t>(options.instructions.size());
    attributes.license = address("GPL");
    if (!log.empty()) {
      attributes.log_buf = address(log.data());
      attributes.log_size = static_cast<uint32_t>(log.size());
      attributes.log_level = 1;
    }
    set_name(attributes.prog_name, options.name);
    return bpf(BPF_PROG_LOAD, attributes);
  };
  const int fd = load({});
  if (fd >= 0) return UniqueFd(fd);
  const int error = errno;
  std::string action = std::string("BPF_PROG_LOAD of ") + options.name;
  if (error == EINVAL || error == EACCES || error == E2BIG) {
    std::vector<char> log(kLogBytes);
    // ENOSPC: there is more to say than this holds, and its end is missing.
    if (const int again = load(log); again >= 0) return UniqueFd(again);
    action += " (" + last_words(log) + ")";
  }
  throw_errno(error, action);
}

UniqueFd attach_program(const UniqueFd& program) {
  bpf_attr attributes{};
  attributes.raw_tracepoint.prog_fd = static_cast<uint32_t>(program.get());
  const int fd = bpf(BPF_RAW_TRACEPOINT_OPEN, attributes);
  if (fd < 0) throw_errno(errno, "BPF_RAW_TRACEPOINT_OPEN");
  return UniqueFd(fd);
}

void pin_object(const UniqueFd& object, const std::string& path) {
  bpf_attr attributes{};
  attributes.pathname = address(path.c_str());
  attributes.bpf_fd = static_cast<uint32_t>(object.get());
  if (bpf(BPF_OBJ_PIN, attributes) != 0) throw_errno(errno, "BPF_OBJ_PIN", path);
}

UniqueFd open_pinned(const std::string& path) {
  bpf_attr attributes{};
  attributes.pathname = address(path.c_str());
  const int fd = bpf(BPF_OBJ_GET, attributes);
  if (fd < 0) throw_errno(errno, "BPF_OBJ_GET", path);
  return UniqueFd(fd);
}

ProgramInfo program_info(const UniqueFd& program) {
  const auto info = object_info<bpf_prog_info>(program, "BPF_OBJ_GET_INFO_BY_FD of a program");
  return {info.id, info.recursion_misses, info.run_time_ns};
}

uint32_t linked_program_id(const UniqueFd& link) {
  return object_info<bpf_link_info>(link, "BPF_OBJ_GET_INFO_BY_FD of a link").prog_id;
}

}  // namespace stillpoint
