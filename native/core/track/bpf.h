// The bpf(2) system call, as far as the tracker needs it: no libbpf, no compiler (the manual page bpf(2), the
// kernel's include/uapi/linux/bpf.h). Failures are NativeErrors with an errno name.
#pragma once

#include <linux/bpf.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace stillpoint {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd();

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// A map of one value that processes can map into their memory, zeroed.
UniqueFd create_array_map(const char* name, uint64_t value_bytes);
UniqueFd create_hash_map(const char* name, uint32_t key_bytes, uint32_t value_bytes, uint32_t entries_max);

struct ProgramOptions {
  const char* name;
  // Of a btf_trace_* type in the kernel's BTF.
  uint32_t tracepoint_type_id;
  std::span<const bpf_insn> instructions;
};

// A program for a tracepoint with typed arguments (BPF_TRACE_RAW_TP). What the verifier says of one that it
// refuses is in the error.
UniqueFd load_program(const ProgramOptions& options);
// Runs from here on, until the link is gone: the descriptor and every pin.
UniqueFd attach_program(const UniqueFd& program);

void pin_object(const UniqueFd& object, const std::string& path);
// ENOENT if nothing is pinned there.
UniqueFd open_pinned(const std::string& path);

struct ProgramInfo {
  uint32_t id;
  // How often it was not run, because it was running already on that processor. Kernels before 5.12 do not
  // tell: 0.
  uint64_t recursion_misses;
  uint64_t run_ns;  // only counted with the sysctl kernel.bpf_stats_enabled
};
ProgramInfo program_info(const UniqueFd& program);
// The program that a link runs.
uint32_t linked_program_id(const UniqueFd& link);

}  // namespace stillpoint
