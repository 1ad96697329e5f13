// Writes BPF instructions (Documentation/bpf/standardization/instruction-set.rst): a method for each one
// that the tracker uses, and labels for jumps.
#pragma once

#include <linux/bpf.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace stillpoint {

enum class Reg : uint8_t { r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, frame };
enum class Width : uint8_t { u32 = BPF_W, u64 = BPF_DW };
// Unsigned.
enum class If : uint8_t {
  equal = BPF_JEQ,
  differs = BPF_JNE,
  less = BPF_JLT,
  more = BPF_JGT,
  at_least = BPF_JGE,
  at_most = BPF_JLE
};

class Assembler {
 public:
  // Of a place that jumps lead to; it is bound once, before or after them.
  struct Label {
    uint32_t index;
  };

  Label label();
  void bind(Label label);

  void load(Width width, Reg to, Reg from, int offset);
  void store(Reg to, int offset, Reg from);
  void store(Reg to, int offset, int32_t value);
  // *(u64*)to |= from, and +=, in one piece.
  void atomic_or(Reg to, Reg from);
  void atomic_add(Reg to, Reg from);
  void move(Reg to, Reg from);
  void move(Reg to, int32_t value);
  void load_constant(Reg to, uint64_t value);
  // The address of the value of a map of one entry.
  void load_map_value(Reg to, int map_fd, uint32_t offset = 0);
  void load_map(Reg to, int map_fd);
  // `operation` as BPF_ADD, BPF_SUB, BPF_AND, BPF_XOR, BPF_LSH, BPF_RSH, of all 64 bits.
  void compute(uint8_t operation, Reg to, Reg operand);
  void compute(uint8_t operation, Reg to, int32_t operand);
  void jump(Label to);
  void jump(If condition, Reg left, Reg right, Label to);
  void jump(If condition, Reg left, int32_t right, Label to);
  void call(bpf_func_id helper);
  void exit();

  // Jumps are filled in. `argument`: a label was never bound, or is too far away.
  std::vector<bpf_insn> finish();

 private:
  struct Jump {
    size_t at;
    uint32_t label;
  };

  void emit(uint8_t code, Reg to, Reg from, int offset, int32_t value);
  void load_wide(Reg to, uint8_t kind, uint32_t low, uint32_t high);
  void jump_to(uint8_t code, Reg left, Reg right, int32_t value, Label to);

  static constexpr int64_t kUnbound = -1;

  std::vector<bpf_insn> instructions_;
  std::vector<int64_t> labels_;  // the instruction that each is bound to
  std::vector<Jump> jumps_;
};

}  // namespace stillpoint
