// A small BTF made by hand, whole and damaged.
#include "core/track/btf.h"

#include <doctest/doctest.h>
#include <linux/btf.h>

#include <cstring>
#include <string>

#include "core/base/error.h"
#include "core/track/assembler.h"
#include "core/track/programs.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

class Maker {
 public:
  uint32_t name(const std::string& text) {
    const auto at = static_cast<uint32_t>(strings_.size());
    strings_ += text + '\0';
    return at;
  }

  // @returns its id.
  uint32_t type(uint32_t name_at, uint32_t kind, uint32_t count, uint32_t size_or_type,
                const std::vector<uint32_t>& data = {}, bool has_bit_fields = false) {
    for (const uint32_t word :
         {name_at, kind << 24 | count | (has_bit_fields ? 1U << 31 : 0), size_or_type}) {
      words_.push_back(word);
    }
    words_.insert(words_.end(), data.begin(), data.end());
    return ++id_;
  }

  std::vector<uint8_t> bytes() const {
    btf_header header{};
    header.magic = BTF_MAGIC;
    header.version = BTF_VERSION;
    header.hdr_len = sizeof header;
    header.type_len = static_cast<uint32_t>(words_.size() * 4);
    header.str_off = header.type_len;
    header.str_len = static_cast<uint32_t>(strings_.size());
    std::vector<uint8_t> bytes(sizeof header + header.type_len + header.str_len);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(&bytes[sizeof header], words_.data(), header.type_len);
    std::memcpy(&bytes[sizeof header + header.type_len], strings_.data(), strings_.size());
    return bytes;
  }

 private:
  std::string strings_ = std::string(1, '\0');
  std::vector<uint32_t> words_;
  uint32_t id_ = 0;
};

// struct outer { int first; union { int inside; }; int bits : 3; }; and two tracepoints.
std::vector<uint8_t> sample() {
  Maker maker;
  const uint32_t number = maker.type(maker.name("int"), BTF_KIND_INT, 0, 4, {32});
  const uint32_t inner = maker.type(0, BTF_KIND_UNION, 1, 4, {maker.name("inside"), number, 0});
  // A declaration alone, of the same name.
  maker.type(maker.name("outer"), BTF_KIND_FWD, 0, 0);
  const uint32_t bits = maker.name("bits");
  maker.type(maker.name("outer"), BTF_KIND_STRUCT, 3, 12,
             {maker.name("first"), number, 0, 0, inner, 64, bits, number, 3U << 24 | 96}, true);
  maker.type(maker.name("color"), BTF_KIND_ENUM, 1, 4, {maker.name("red"), 0});
  maker.type(0, BTF_KIND_ARRAY, 0, 0, {number, number, 4});
  const uint32_t function = maker.type(0, BTF_KIND_FUNC_PROTO, 3, 0, {0, number, 0, number, 0, number});
  const uint32_t pointer = maker.type(0, BTF_KIND_PTR, 0, function);
  maker.type(maker.name("btf_trace_block_one"), BTF_KIND_TYPEDEF, 0, pointer);
  // Of the right name, but no pointer to a function.
  maker.type(maker.name("btf_trace_block_two"), BTF_KIND_TYPEDEF, 0, number);
  return maker.bytes();
}

void ask_everything(const Btf& btf) {
  for (const char* const name : {"outer", "", "int", "missing"}) {
    for (const char* const member : {"first", "inside", "bits", "", "missing"})
      btf.member_offset(name, member);
  }
  for (const char* const name : {"block_one", "block_two", ""}) btf.tracepoint(name);
}

}  // namespace

TEST_CASE("btf: members, also of anonymous ones inside, and arguments of tracepoints") {
  const Btf btf(sample());
  CHECK(btf.member_offset("outer", "first") == 0);
  CHECK(btf.member_offset("outer", "inside") == 8);
  CHECK_FALSE(btf.member_offset("outer", "bits"));
  CHECK_FALSE(btf.member_offset("outer", "missing"));
  CHECK_FALSE(btf.member_offset("missing", "first"));
  const auto one = btf.tracepoint("block_one");
  REQUIRE(one);
  CHECK(one->argument_count == 2);
  CHECK_FALSE(btf.tracepoint("block_two"));
  CHECK_FALSE(btf.tracepoint("block_three"));
  CHECK_THROWS_WITH(KernelLayout::of(btf), doctest::Contains("tracepoint"));
}

TEST_CASE("btf: damaged in whatever way, it is refused or says nothing, and no byte outside is read") {
  const std::vector<uint8_t> whole = sample();
  for (size_t length = 0; length < whole.size(); length++) {
    CHECK_THROWS_AS(Btf({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)}), NativeError);
  }
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  for (size_t at = 0; at < whole.size(); at++) {
    for (const int flip : {0x01, 0x80, 0xff, static_cast<int>(1 + random.below(255))}) {
      std::vector<uint8_t> damaged = whole;
      damaged[at] = static_cast<uint8_t>(damaged[at] ^ flip);
      try {
        ask_everything(Btf(damaged));
      } catch (const NativeError& error) {
        CHECK(error.code() == "bad-btf");
      }
    }
  }
}

TEST_CASE(
    "assembler: jumps lead to their labels, forwards and backwards; a label without a place is refused") {
  Assembler code;
  const Assembler::Label loop = code.label();
  const Assembler::Label end = code.label();
  code.move(Reg::r1, 5);
  code.bind(loop);
  code.jump(If::equal, Reg::r1, 0, end);
  code.load_constant(Reg::r2, 0x1122334455667788);
  code.compute(BPF_SUB, Reg::r1, 1);
  code.jump(loop);
  code.bind(end);
  code.exit();
  const auto program = code.finish();
  REQUIRE(program.size() == 7);
  CHECK(program[1].off == 4);
  CHECK(static_cast<uint32_t>(program[2].imm) == 0x55667788);
  CHECK(static_cast<uint32_t>(program[3].imm) == 0x11223344);
  CHECK(program[5].off == -5);

  Assembler open;
  open.jump(open.label());
  CHECK_THROWS_AS(open.finish(), NativeError);
  Assembler far;
  const Assembler::Label away = far.label();
  far.jump(away);
  for (int i = 0; i < 40'000; i++) far.move(Reg::r1, i);
  far.bind(away);
  CHECK_THROWS_AS(far.finish(), NativeError);
}
