#include "core/track/programs.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr uint32_t kSectorBytes = 512;
constexpr int32_t kWriteBit = 1;
constexpr int32_t kOperationMask = 0xff;
constexpr int32_t kPassThroughMin = 32;
// A bio or a request has less than 4 GiB.
constexpr uint64_t kEventBytesMax = uint64_t{1} << 32;
constexpr int32_t kManyWords = 256;
constexpr int32_t kSomeWords = 16;
// Of the stack, below the frame pointer: the key and the value of in_flight.
constexpr int kKeyAt = -8;
constexpr int kLastAt = -16;
constexpr int kFirstAt = -24;

uint32_t offset_of(const Btf& btf, const char* structure, const char* member) {
  if (const auto offset = btf.member_offset(structure, member)) return *offset;
  throw NativeError("old-kernel", std::string("its struct ") + structure + " has no " + member);
}

Btf::Tracepoint tracepoint_of(const Btf& btf, const char* name, uint32_t arguments_min) {
  const auto found = btf.tracepoint(name);
  if (found && found->argument_count >= arguments_min) return *found;
  throw NativeError("old-kernel",
                    std::string("it has no tracepoint ") + name + " of the kind that is needed");
}

// Of one program. Registers: r6 the bio or request; r8 and r9 the range, first as a sector and a count, then
// as the first and the last grain.
class Writer {
 public:
  Writer(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps)
      : layout_(layout), target_(target), maps_(maps), out_(code_.label()) {}

  void begin(uint32_t argument) { code_.load(Width::u64, Reg::r6, Reg::r1, argument * sizeof(uint64_t)); }

  // Ends the program if r1 is not the operation of a write.
  void leave_unless_write() {
    code_.move(Reg::r2, Reg::r1);
    code_.compute(BPF_AND, Reg::r2, kWriteBit);
    code_.jump(If::equal, Reg::r2, 0, out_);
  }

  // The same if r1 is not the disk.
  void leave_unless_disk() {
    code_.load(Width::u32, Reg::r2, Reg::r1, static_cast<int>(layout_.disk_major));
    code_.jump(If::differs, Reg::r2, static_cast<int32_t>(target_.disk_major), out_);
    code_.load(Width::u32, Reg::r2, Reg::r1, static_cast<int>(layout_.disk_minor));
    code_.jump(If::differs, Reg::r2, static_cast<int32_t>(target_.disk_minor), out_);
  }

  void leave_unless_bio_writes_to_disk() {
    code_.load(Width::u32, Reg::r1, Reg::r6, static_cast<int>(layout_.bio_operation));
    leave_unless_write();
    code_.load(Width::u64, Reg::r1, Reg::r6, static_cast<int>(layout_.bio_device));
    code_.load(Width::u64, Reg::r1, Reg::r1, static_cast<int>(layout_.device_disk));
    leave_unless_disk();
  }

  void load_bio_range() {
    code_.load(Width::u64, Reg::r8, Reg::r6, static_cast<int>(layout_.bio_sector));
    code_.load(Width::u32, Reg::r9, Reg::r6, static_cast<int>(layout_.bio_bytes));
  }

  // From sector and bytes to grains; ends the program where they are none of the device's.
  void to_grains() {
    const auto inside = [&](If condition, Reg left, Reg right) {
      const Assembler::Label is_inside = code_.label();
      code_.jump(condition, left, right, is_inside);
      code_.move(left, right);
      code_.bind(is_inside);
    };
    code_.compute(BPF_RSH, Reg::r9, std::countr_zero(kSectorBytes));
    code_.jump(If::equal, Reg::r9, 0, out_);
    code_.compute(BPF_ADD, Reg::r9, Reg::r8);
    code_.load_constant(Reg::r1, target_.start_sector);
    code_.load_constant(Reg::r2, target_.start_sector + target_.sector_count);
    code_.jump(If::at_least, Reg::r8, Reg::r2, out_);
    code_.jump(If::at_most, Reg::r9, Reg::r1, out_);
    inside(If::at_least, Reg::r8, Reg::r1);
    inside(If::at_most, Reg::r9, Reg::r2);
    code_.compute(BPF_SUB, Reg::r8, Reg::r1);
    code_.compute(BPF_SUB, Reg::r9, Reg::r1);
    code_.compute(BPF_SUB, Reg::r9, 1);
    const int shift = std::countr_zero(target_.grain_bytes / kSectorBytes);
    code_.compute(BPF_RSH, Reg::r8, shift);
    code_.compute(BPF_RSH, Reg::r9, shift);
  }

  // Notes the range of the bio, which is submitted.
  void note_in_flight() {
    const Assembler::Label noted = code_.label();
    code_.store(Reg::frame, kKeyAt, Reg::r6);
    code_.store(Reg::frame, kFirstAt, Reg::r8);
    code_.store(Reg::frame, kLastAt, Reg::r9);
    code_.load_map(Reg::r1, maps_.in_flight);
    stack_address(Reg::r2, kKeyAt);
    stack_address(Reg::r3, kFirstAt);
    code_.move(Reg::r4, BPF_ANY);
    code_.call(BPF_FUNC_map_update_elem);
    code_.jump(If::equal, Reg::r0, 0, noted);
    count(kNotNoted);
    code_.bind(noted);
  }

  // Takes the range that was noted, and goes on at `found`, if one was.
  void take_in_flight(Assembler::Label found) {
    const Assembler::Label missing = code_.label();
    code_.store(Reg::frame, kKeyAt, Reg::r6);
    code_.load_map(Reg::r1, maps_.in_flight);
    stack_address(Reg::r2, kKeyAt);
    code_.call(BPF_FUNC_map_lookup_elem);
    code_.jump(If::equal, Reg::r0, 0, missing);
    code_.load(Width::u64, Reg::r8, Reg::r0, 0);
    code_.load(Width::u64, Reg::r9, Reg::r0, sizeof(uint64_t));
    code_.load_map(Reg::r1, maps_.in_flight);
    stack_address(Reg::r2, kKeyAt);
    code_.call(BPF_FUNC_map_delete_elem);
    code_.jump(found);
    code_.bind(missing);
  }

  void count(Counter counter) {
    code_.load_map_value(Reg::r1, maps_.counters, counter * sizeof(uint64_t));
    code_.move(Reg::r2, 1);
    code_.atomic_add(Reg::r1, Reg::r2);
  }

  // Of grains r8 to r9: the first and the last word bit by bit, and those between as a whole.
  void mark(int map) {
    const Assembler::Label single = code_.label();
    code_.load_map_value(Reg::r5, map);
    // r3, r4: the bits of the first and of the last word.
    code_.move(Reg::r3, -1);
    code_.compute(BPF_LSH, Reg::r3, Reg::r8);
    code_.move(Reg::r2, 63);
    code_.compute(BPF_SUB, Reg::r2, Reg::r9);
    code_.move(Reg::r4, -1);
    code_.compute(BPF_RSH, Reg::r4, Reg::r2);
    // r8, r9: these words.
    code_.compute(BPF_RSH, Reg::r8, 6);
    code_.compute(BPF_RSH, Reg::r9, 6);
    const auto words = static_cast<int32_t>(target_.word_count());
    code_.jump(If::at_least, Reg::r8, words, out_);
    code_.jump(If::at_least, Reg::r9, words, out_);
    code_.jump(If::equal, Reg::r8, Reg::r9, single);
    mark_word(Reg::r8, Reg::r3);
    // Before the loops: verifiers of older kernels think that these may leave r9 below its own lower bound.
    mark_word(Reg::r9, Reg::r4);
    code_.compute(BPF_ADD, Reg::r8, 1);
    fill_words(kManyWords, static_cast<int32_t>(words_max() / kManyWords + 1));
    fill_words(kSomeWords, kManyWords / kSomeWords);
    fill_words(1, kSomeWords);
    code_.jump(out_);
    code_.bind(single);
    code_.compute(BPF_AND, Reg::r3, Reg::r4);
    mark_word(Reg::r8, Reg::r3);
  }

  Program end() {
    code_.bind(out_);
    code_.move(Reg::r0, 0);
    code_.exit();
    return code_.finish();
  }

  Assembler& code() { return code_; }
  Assembler::Label out() const { return out_; }

 private:
  void stack_address(Reg to, int at) {
    code_.move(to, Reg::frame);
    code_.compute(BPF_ADD, to, at);
  }

  // Into r1.
  void word_address(Reg word) {
    code_.move(Reg::r1, word);
    code_.compute(BPF_LSH, Reg::r1, 3);
    code_.compute(BPF_ADD, Reg::r1, Reg::r5);
  }

  // Bits that are set already cost no atomic operation, which other processors would wait for.
  void mark_word(Reg word, Reg bits) {
    const Assembler::Label marked = code_.label();
    word_address(word);
    code_.load(Width::u64, Reg::r2, Reg::r1, 0);
    code_.compute(BPF_AND, Reg::r2, bits);
    code_.jump(If::equal, Reg::r2, bits, marked);
    code_.atomic_or(Reg::r1, bits);
    code_.bind(marked);
  }

  // Sets all bits from word r8 on, so many words at once as long as they are before word r9. The loop counts
  // down from a constant, so that the verifier sees its end. It looks at every turn, and has a bound for
  // that.
  void fill_words(int32_t at_once, int32_t turns) {
    const auto first_max = static_cast<int32_t>(target_.word_count()) - at_once;
    if (first_max < 0) return;
    const Assembler::Label loop = code_.label();
    const Assembler::Label filled = code_.label();
    code_.move(Reg::r7, turns);
    code_.bind(loop);
    code_.move(Reg::r2, Reg::r8);
    code_.compute(BPF_ADD, Reg::r2, at_once);
    code_.jump(If::more, Reg::r2, Reg::r9, filled);
    code_.jump(If::more, Reg::r8, first_max, filled);
    word_address(Reg::r8);
    for (int32_t i = 0; i < at_once; i++) code_.store(Reg::r1, i * 8, -1);
    code_.compute(BPF_ADD, Reg::r8, at_once);
    code_.compute(BPF_SUB, Reg::r7, 1);
    code_.jump(If::differs, Reg::r7, 0, loop);
    code_.bind(filled);
    // The verifier need not know what r8 can be from here on: otherwise it goes on once for each turn. r3 is
    // any number.
    code_.compute(BPF_XOR, Reg::r8, Reg::r3);
    code_.compute(BPF_XOR, Reg::r8, Reg::r3);
  }

  // One event can touch so many.
  uint64_t words_max() const {
    return std::min(target_.word_count(), kEventBytesMax / target_.grain_bytes / 64 + 2);
  }

  const KernelLayout& layout_;
  const TrackTarget& target_;
  const TrackMaps& maps_;
  Assembler code_;
  Assembler::Label out_;
};

}  // namespace

KernelLayout KernelLayout::of(const Btf& btf) {
  KernelLayout layout{};
  const Btf::Tracepoint queue = tracepoint_of(btf, "block_bio_queue", 1);
  const Btf::Tracepoint request = tracepoint_of(btf, "block_rq_complete", 3);
  const Btf::Tracepoint bio = tracepoint_of(btf, "block_bio_complete", 2);
  layout.queue_type_id = queue.type_id;
  layout.request_type_id = request.type_id;
  layout.bio_type_id = bio.type_id;
  // Older kernels have the queue before it.
  layout.queue_bio_argument = queue.argument_count - 1;
  layout.complete_bio_argument = 1;
  layout.bio_operation = offset_of(btf, "bio", "bi_opf");
  layout.bio_device = offset_of(btf, "bio", "bi_bdev");
  const uint32_t iterator = offset_of(btf, "bio", "bi_iter");
  layout.bio_sector = iterator + offset_of(btf, "bvec_iter", "bi_sector");
  layout.bio_bytes = iterator + offset_of(btf, "bvec_iter", "bi_size");
  layout.device_disk = offset_of(btf, "block_device", "bd_disk");
  layout.disk_major = offset_of(btf, "gendisk", "major");
  layout.disk_minor = offset_of(btf, "gendisk", "first_minor");
  layout.request_operation = offset_of(btf, "request", "cmd_flags");
  layout.request_sector = offset_of(btf, "request", "__sector");
  if (const auto disk = btf.member_offset("request", "rq_disk")) {
    layout.request_path = *disk;
  } else {
    layout.disk_through_queue = true;
    layout.request_path = offset_of(btf, "request", "q");
    layout.queue_disk = offset_of(btf, "request_queue", "disk");
  }
  return layout;
}

uint64_t TrackTarget::grain_count() const {
  const uint64_t grain_sectors = grain_bytes / kSectorBytes;
  return (sector_count + grain_sectors - 1) / grain_sectors;
}

uint64_t TrackTarget::word_count() const { return (grain_count() + 63) / 64; }

Program queue_program(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps) {
  Writer writer(layout, target, maps);
  writer.begin(layout.queue_bio_argument);
  writer.leave_unless_bio_writes_to_disk();
  writer.load_bio_range();
  writer.to_grains();
  if (!target.has_request_queue) writer.note_in_flight();
  writer.mark(maps.queued);
  return writer.end();
}

Program request_program(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps) {
  Writer writer(layout, target, maps);
  Assembler& code = writer.code();
  const Assembler::Label has_sector = code.label();
  code.move(Reg::r7, Reg::r1);
  writer.begin(0);
  code.load(Width::u32, Reg::r1, Reg::r6, static_cast<int>(layout.request_operation));
  writer.leave_unless_write();
  code.move(Reg::r9, Reg::r1);
  code.load(Width::u64, Reg::r1, Reg::r6, static_cast<int>(layout.request_path));
  if (layout.disk_through_queue) code.load(Width::u64, Reg::r1, Reg::r1, static_cast<int>(layout.queue_disk));
  writer.leave_unless_disk();
  code.compute(BPF_AND, Reg::r9, kOperationMask);
  code.jump(If::less, Reg::r9, kPassThroughMin, has_sector);
  writer.count(kPassedThrough);
  code.jump(writer.out());
  code.bind(has_sector);
  code.load(Width::u64, Reg::r8, Reg::r6, static_cast<int>(layout.request_sector));
  code.load(Width::u64, Reg::r9, Reg::r7, 2 * sizeof(uint64_t));
  code.load_constant(Reg::r1, 0xffffffff);
  code.compute(BPF_AND, Reg::r9, Reg::r1);
  writer.to_grains();
  writer.mark(maps.done);
  return writer.end();
}

Program bio_program(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps) {
  Writer writer(layout, target, maps);
  const Assembler::Label known = writer.code().label();
  writer.begin(layout.complete_bio_argument);
  writer.leave_unless_bio_writes_to_disk();
  if (!target.has_request_queue) writer.take_in_flight(known);
  writer.load_bio_range();
  writer.to_grains();
  writer.code().bind(known);
  writer.mark(maps.done);
  return writer.end();
}

}  // namespace stillpoint
