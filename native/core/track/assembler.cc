#include "core/track/assembler.h"

#include <limits>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr uint8_t number(Reg reg) { return static_cast<uint8_t>(reg); }

}  // namespace

Assembler::Label Assembler::label() {
  labels_.push_back(kUnbound);
  return {static_cast<uint32_t>(labels_.size() - 1)};
}

void Assembler::bind(Label label) { labels_[label.index] = static_cast<int64_t>(instructions_.size()); }

void Assembler::emit(uint8_t code, Reg to, Reg from, int offset, int32_t value) {
  bpf_insn instruction{};
  instruction.code = code;
  instruction.dst_reg = number(to) & 15;
  instruction.src_reg = number(from) & 15;
  instruction.off = static_cast<int16_t>(offset);
  instruction.imm = value;
  instructions_.push_back(instruction);
}

void Assembler::load(Width width, Reg to, Reg from, int offset) {
  emit(BPF_LDX | BPF_MEM | static_cast<uint8_t>(width), to, from, offset, 0);
}

void Assembler::store(Reg to, int offset, Reg from) { emit(BPF_STX | BPF_MEM | BPF_DW, to, from, offset, 0); }

void Assembler::store(Reg to, int offset, int32_t value) {
  emit(BPF_ST | BPF_MEM | BPF_DW, to, Reg::r0, offset, value);
}

void Assembler::atomic_or(Reg to, Reg from) { emit(BPF_STX | BPF_ATOMIC | BPF_DW, to, from, 0, BPF_OR); }

void Assembler::atomic_add(Reg to, Reg from) { emit(BPF_STX | BPF_ATOMIC | BPF_DW, to, from, 0, BPF_ADD); }

void Assembler::move(Reg to, Reg from) { emit(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }

void Assembler::move(Reg to, int32_t value) { emit(BPF_ALU64 | BPF_MOV | BPF_K, to, Reg::r0, 0, value); }

void Assembler::load_wide(Reg to, uint8_t kind, uint32_t low, uint32_t high) {
  emit(BPF_LD | BPF_IMM | BPF_DW, to, static_cast<Reg>(kind), 0, static_cast<int32_t>(low));
  emit(0, Reg::r0, Reg::r0, 0, static_cast<int32_t>(high));
}

void Assembler::load_constant(Reg to, uint64_t value) {
  load_wide(to, 0, static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32));
}

void Assembler::load_map_value(Reg to, int map_fd, uint32_t offset) {
  load_wide(to, BPF_PSEUDO_MAP_VALUE, static_cast<uint32_t>(map_fd), offset);
}

void Assembler::load_map(Reg to, int map_fd) {
  load_wide(to, BPF_PSEUDO_MAP_FD, static_cast<uint32_t>(map_fd), 0);
}

void Assembler::compute(uint8_t operation, Reg to, Reg operand) {
  emit(BPF_ALU64 | operation | BPF_X, to, operand, 0, 0);
}

void Assembler::compute(uint8_t operation, Reg to, int32_t operand) {
  emit(BPF_ALU64 | operation | BPF_K, to, Reg::r0, 0, operand);
}

void Assembler::jump_to(uint8_t code, Reg left, Reg right, int32_t value, Label to) {
  jumps_.push_back({instructions_.size(), to.index});
  emit(code, left, right, 0, value);
}

void Assembler::jump(Label to) { jump_to(BPF_JMP | BPF_JA, Reg::r0, Reg::r0, 0, to); }

void Assembler::jump(If condition, Reg left, Reg right, Label to) {
  jump_to(BPF_JMP | static_cast<uint8_t>(condition) | BPF_X, left, right, 0, to);
}

void Assembler::jump(If condition, Reg left, int32_t right, Label to) {
  jump_to(BPF_JMP | static_cast<uint8_t>(condition) | BPF_K, left, Reg::r0, right, to);
}

void Assembler::call(bpf_func_id helper) { emit(BPF_JMP | BPF_CALL, Reg::r0, Reg::r0, 0, helper); }

void Assembler::exit() { emit(BPF_JMP | BPF_EXIT, Reg::r0, Reg::r0, 0, 0); }

std::vector<bpf_insn> Assembler::finish() {
  for (const Jump& jump : jumps_) {
    const int64_t target = labels_[jump.label];
    const int64_t distance = target - static_cast<int64_t>(jump.at) - 1;
    if (target == kUnbound || distance < std::numeric_limits<int16_t>::min() ||
        distance > std::numeric_limits<int16_t>::max()) {
      throw NativeError("argument", "a jump of the program leads nowhere");
    }
    instructions_[jump.at].off = static_cast<int16_t>(distance);
  }
  return instructions_;
}

}  // namespace stillpoint
