// The NBD protocol without sockets: tables of requests and errors, and the handshake from bytes.
#include "core/nbd/wire/codec.h"

#include <cerrno>
#include <cstring>

#include "core/nbd/wire/handshake.h"
#include "test/helpers/helpers.h"
#include "test/worlds/nbd_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr uint64_t kSize = 1 << 20;

// The directory of a handshake: one export.
class OneExport final : public NbdDirectory {
 public:
  explicit OneExport(std::shared_ptr<NbdExport> served) : served_(std::move(served)) {}
  std::vector<std::pair<std::string, std::string>> list() override { return {{"disk", "a disk"}}; }
  std::optional<Entry> find(const std::string& name) override {
    if (name != "disk" && !name.empty()) return {};
    return Entry{"disk", served_->properties()};
  }
  std::shared_ptr<NbdExport> attach(const std::string&) override { return served_; }

 private:
  std::shared_ptr<NbdExport> served_;
};

struct Outcome {
  NbdHandshake::State state;
  size_t taken;
  std::vector<uint8_t> out;
  NbdTerms terms;
  bool operator==(const Outcome& other) const {
    return state == other.state && taken == other.taken && out == other.out;
  }
};

// Feeds `bytes` in two parts.
Outcome shake(const std::vector<uint8_t>& bytes, size_t cut) {
  OneExport directory(std::make_shared<TestExport>(kSize));
  Outcome outcome{};
  NbdHandshake handshake(directory, outcome.out);
  outcome.taken = handshake.consume(Bytes(bytes).first(cut), outcome.out);
  outcome.taken += handshake.consume(Bytes(bytes).subspan(outcome.taken), outcome.out);
  outcome.state = handshake.state();
  outcome.terms = handshake.terms();
  return outcome;
}
Outcome shake(const std::vector<uint8_t>& bytes) { return shake(bytes, bytes.size()); }

// Types of the option replies after the greeting, one for each.
std::vector<uint32_t> reply_types(const Outcome& outcome) {
  std::vector<uint32_t> types;
  for (size_t at = 18; at < outcome.out.size();) {
    REQUIRE(outcome.out.size() - at >= 20);
    REQUIRE(load_be<uint64_t>(outcome.out.data() + at) == kNbdOptionReplyMagic);
    types.push_back(load_be<uint32_t>(outcome.out.data() + at + 12));
    at += 20 + load_be<uint32_t>(outcome.out.data() + at + 16);
  }
  return types;
}

constexpr uint32_t kAck = 1, kServer = 2, kInfo = 3, kContext = 4;
constexpr uint32_t kUnsup = 0x80000001, kPolicy = 0x80000002, kInvalid = 0x80000003, kUnknown = 0x80000006,
                   kTooBig = 0x80000009;
using Types = std::vector<uint32_t>;

NbdTerms terms_of(uint32_t alignment = 512) {
  NbdTerms terms;
  terms.properties.size_bytes = kSize;
  terms.structured = true;
  terms.alignment = alignment;
  terms.contexts = {0};
  return terms;
}

}  // namespace

TEST_CASE("nbd codec: every request gets the error that the specification names") {
  const auto check = [](NbdCommand command, uint16_t flags, uint64_t offset, uint32_t length,
                        const NbdTerms& terms) {
    return check_request({flags, command, 1, offset, length}, terms);
  };
  using enum NbdCommand;
  const NbdTerms plain = terms_of();
  struct Row {
    NbdCommand command;
    uint16_t flags;
    uint64_t offset;
    uint32_t length;
    int error;
  };
  const Row rows[] = {
      {read, 0, 0, 512, 0},
      {read, 0, kSize - 512, 512, 0},
      {read, 0, kSize, 0, 0},
      {read, 0, kSize, 512, EINVAL},
      {read, 0, kSize - 512, 1024, EINVAL},
      {read, 0, UINT64_MAX - 511, 512, EINVAL},
      {read, 0, 1, 512, EINVAL},
      {read, 0, 0, 511, EINVAL},
      {read, kNbdFua | kNbdDf, 0, 512, 0},
      {read, kNbdNoHole, 0, 512, EINVAL},
      {read, 1 << 15, 0, 512, EINVAL},
      {write, kNbdFua, 0, 512, 0},
      {write, kNbdDf, 0, 512, EINVAL},
      {write, 0, kSize, 512, ENOSPC},
      {write, 0, UINT64_MAX - 511, 1024, ENOSPC},
      {write, 0, 256, 512, EINVAL},
      {trim, kNbdFua, 0, 1024, 0},
      {trim, 0, kSize, 512, EINVAL},
      {trim, kNbdReqOne, 0, 512, EINVAL},
      {write_zeroes, kNbdFua | kNbdNoHole | kNbdFastZero, 0, kSize, 0},
      {write_zeroes, 0, 512, kSize, ENOSPC},
      {write_zeroes, kNbdDf, 0, 512, EINVAL},
      {flush, kNbdFua, 0, 0, 0},
      {flush, 0, 512, 0, EINVAL},
      {flush, 0, 0, 512, EINVAL},
      {cache, 0, 0, 512, 0},
      {cache, kNbdFastZero, 0, 512, EINVAL},
      {block_status, kNbdReqOne, 0, kSize, 0},
      {block_status, 0, 0, 0, EINVAL},
      {block_status, 0, 0, kSize + 512, EINVAL},
      {static_cast<NbdCommand>(8), 0, 0, 512, EINVAL},
      {static_cast<NbdCommand>(65535), 0, 0, 512, EINVAL},
  };
  for (const Row& row : rows) {
    CAPTURE(static_cast<int>(row.command));
    CAPTURE(row.flags);
    CAPTURE(row.offset);
    CAPTURE(row.length);
    CHECK(check(row.command, row.flags, row.offset, row.length, plain) == row.error);
  }

  NbdTerms large = terms_of();
  large.properties.size_bytes = uint64_t{1} << 40;
  CHECK(check(read, 0, 0, kNbdPayloadBytesMax, large) == 0);
  CHECK(check(read, 0, 0, kNbdPayloadBytesMax + 512, large) == EINVAL);
  CHECK(check(read, kNbdDf, 0, kNbdPayloadBytesMax + 512, large) == EOVERFLOW);
  CHECK(check(write, 0, 0, kNbdPayloadBytesMax + 512, large) == EINVAL);
  CHECK(check(write_zeroes, 0, 0, 0xfffffe00, large) == 0);

  NbdTerms read_only = terms_of();
  read_only.properties.read_only = true;
  for (const NbdCommand command : {write, trim, write_zeroes}) {
    CHECK(check(command, 0, 0, 512, read_only) == EPERM);
    CHECK(check(command, 0, kSize, 512, read_only) == EPERM);
  }
  CHECK(check(read, 0, 0, 512, read_only) == 0);
  CHECK(check(flush, 0, 0, 0, read_only) == 0);

  NbdTerms simple = terms_of(1);
  simple.structured = false;
  CHECK(check(read, kNbdDf, 0, 512, simple) == EINVAL);
  CHECK(check(read, 0, 1, 3, simple) == 0);
  CHECK(check(block_status, 0, 0, 512, simple) == EINVAL);
  NbdTerms no_contexts = terms_of();
  no_contexts.contexts.clear();
  CHECK(check(block_status, 0, 0, 512, no_contexts) == EINVAL);

  NbdTerms poor = terms_of();
  poor.properties.can_flush = poor.properties.can_trim = poor.properties.can_zero = false;
  for (const NbdCommand command : {flush, trim, write_zeroes}) CHECK(check(command, 0, 0, 0, poor) == EINVAL);
  CHECK(check(write, kNbdFua, 0, 512, poor) == EINVAL);
  poor.properties.can_zero = true;
  poor.properties.can_fast_zero = false;
  CHECK(check(write_zeroes, kNbdFastZero, 0, 512, poor) == EINVAL);
  CHECK(nbd_transmission_flags(poor.properties, true) ==
        (kNbdHasFlags | kNbdSendWriteZeroes | kNbdSendDf | kNbdCanMultiConn | kNbdSendCache));
  CHECK(nbd_transmission_flags(read_only.properties, false) ==
        (kNbdHasFlags | kNbdReadOnly | kNbdSendFlush | kNbdSendFua | kNbdCanMultiConn | kNbdSendCache));
}

TEST_CASE("nbd codec: errno values become those of the protocol") {
  const std::pair<int, uint32_t> rows[] = {
      {0, 0},       {EPERM, 1},  {EROFS, 1},     {EIO, 5},        {ENOMEM, 12},     {EINVAL, 22},
      {ENOSPC, 28}, {EFBIG, 28}, {EDQUOT, 28},   {EOVERFLOW, 75}, {EOPNOTSUPP, 95}, {ESHUTDOWN, 108},
      {ESTALE, 5},  {ENODEV, 5}, {ETIMEDOUT, 5}, {12345, 5},      {-7, 5},
  };
  for (const auto& row : rows) {
    CAPTURE(row.first);
    CHECK(nbd_error(row.first) == row.second);
  }
}

TEST_CASE("nbd codec: replies are structured where they were agreed on and needed") {
  uint8_t head[kNbdReplyHeadBytesMax];
  const NbdRequest read{0, NbdCommand::read, 0x0102030405060708, 4096, 512};
  CHECK(put_reply_head(head, read, false, 0) == 16);
  CHECK(load_be<uint32_t>(head) == kNbdSimpleReplyMagic);
  CHECK(load_be<uint64_t>(head + 8) == read.cookie);
  CHECK(put_reply_head(head, read, true, 0) == 28);
  CHECK(load_be<uint32_t>(head) == kNbdStructuredReplyMagic);
  CHECK(load_be<uint16_t>(head + 4) == kNbdReplyDone);
  CHECK(load_be<uint16_t>(head + 6) == kNbdReplyOffsetData);
  CHECK(load_be<uint32_t>(head + 16) == 8 + 512);
  CHECK(load_be<uint64_t>(head + 20) == 4096);
  CHECK(put_reply_head(head, read, true, ESTALE) == 26);
  CHECK(load_be<uint16_t>(head + 6) == kNbdReplyError);
  CHECK(load_be<uint32_t>(head + 16) == 6);
  CHECK(load_be<uint32_t>(head + 20) == 5);
  CHECK(put_reply_head(head, {0, NbdCommand::read, 1, 0, 0}, true, 0) == 20);
  CHECK(load_be<uint16_t>(head + 6) == kNbdReplyNone);
  CHECK(put_reply_head(head, {0, NbdCommand::write, 1, 0, 512}, true, ENOSPC) == 16);
  CHECK(load_be<uint32_t>(head + 4) == 28);
}

TEST_CASE("nbd codec: extents are clipped to the request and the wire") {
  const auto lengths = [](const NbdRequest& request, const std::vector<NbdExtent>& extents) {
    std::vector<uint8_t> chunk;
    append_block_status(chunk, request, 3, extents, true);
    REQUIRE(chunk.size() >= kNbdChunkHeaderBytes + 12);
    CHECK(load_be<uint32_t>(chunk.data() + 16) == chunk.size() - kNbdChunkHeaderBytes);
    CHECK(load_be<uint32_t>(chunk.data() + 20) == 3);
    std::vector<uint32_t> found;
    for (size_t at = 24; at < chunk.size(); at += 8) found.push_back(load_be<uint32_t>(chunk.data() + at));
    return found;
  };
  using Lengths = std::vector<uint32_t>;
  const NbdRequest all{0, NbdCommand::block_status, 1, 0, UINT32_MAX};
  const NbdRequest one{kNbdReqOne, NbdCommand::block_status, 1, 0, 1000};
  CHECK(lengths(all, {{uint64_t{1} << 40, 3}}) == Lengths{UINT32_MAX});
  CHECK(lengths(all, {{512, 0}, {uint64_t{1} << 32, 3}, {512, 0}}) == Lengths{512, UINT32_MAX - 512});
  CHECK(lengths(one, {{512, 0}, {100, 3}}) == Lengths{512});
  CHECK(lengths({0, NbdCommand::block_status, 1, 0, 600}, {{512, 0}, {100, 3}}) == Lengths{512, 88});
}

TEST_CASE("nbd handshake: each option has its answer") {
  const auto types = [](const std::vector<uint8_t>& bytes) { return reply_types(shake(bytes)); };
  const auto fixed = [] { return NbdBytes().be(uint32_t{3}); };
  CHECK(types(fixed().option(3)) == Types{kServer, kAck});
  CHECK(types(fixed().option(3, {1})) == Types{kInvalid});
  CHECK(types(fixed().option(5)) == Types{kPolicy});
  CHECK(types(fixed().option(4)) == Types{kUnsup});
  CHECK(types(fixed().option(11)) == Types{kUnsup});
  CHECK(types(fixed().option(0xffffffff, {1, 2, 3})) == Types{kUnsup});
  CHECK(types(fixed().option(8)) == Types{kAck});
  CHECK(types(fixed().option(8, {1})) == Types{kInvalid});
  CHECK(types(fixed().option(6, NbdBytes().info("disk"))) == Types{kInfo, kAck});
  CHECK(types(fixed().option(6, NbdBytes().info("", {1, 2, 3, 77}))) ==
        Types{kInfo, kInfo, kInfo, kInfo, kAck});
  CHECK(types(fixed().option(6, NbdBytes().info("other"))) == Types{kUnknown});
  CHECK(types(fixed().option(7, NbdBytes().info("other")).option(3)) == Types{kUnknown, kServer, kAck});
  CHECK(types(fixed().option(6, {0, 0})) == Types{kInvalid});
  CHECK(types(fixed().option(6, NbdBytes().info("disk").be(uint8_t{0}))) == Types{kInvalid});
  CHECK(types(fixed().option(6, NbdBytes().info(std::string(4097, 'x')))) == Types{kInvalid});
  CHECK(types(fixed().option(6, std::vector<uint8_t>(kNbdOptionBytesMax + 1)).option(3)) ==
        Types{kTooBig, kServer, kAck});
  // Contexts come after structured replies.
  CHECK(types(fixed().option(9, NbdBytes().contexts("disk", {}))) == Types{kInvalid});
  const auto structured = [&] { return fixed().option(8); };
  CHECK(types(structured().option(9, NbdBytes().contexts("disk", {}))) ==
        Types{kAck, kContext, kContext, kAck});
  CHECK(types(structured().option(9, NbdBytes().contexts("disk", {"base:"}))) == Types{kAck, kContext, kAck});
  CHECK(types(structured().option(9, NbdBytes().contexts("disk", {"nothing:"}))) == Types{kAck, kAck});
  CHECK(types(structured().option(10, NbdBytes().contexts("disk", {"base:"}))) == Types{kAck, kAck});
  CHECK(types(structured().option(10, NbdBytes().contexts("disk", {}))) == Types{kAck, kAck});
  CHECK(types(structured().option(10, NbdBytes().contexts("disk", {"base:allocation", "base:allocation"}))) ==
        Types{kAck, kContext, kAck});
  CHECK(types(structured().option(10, NbdBytes().contexts("other", {"base:allocation"}))) ==
        Types{kAck, kUnknown});
  CHECK(types(structured().option(10, {0, 0, 0, 4, 1})) == Types{kAck, kInvalid});

  CHECK(shake(fixed().option(2)).state == NbdHandshake::State::closed);
  CHECK(types(fixed().option(2)) == Types{kAck});
  CHECK(shake(NbdBytes().be(uint32_t{4})).state == NbdHandshake::State::closed);
  CHECK(shake(NbdBytes().be(uint32_t{0}).option(3)).state == NbdHandshake::State::closed);
  CHECK(shake(fixed().be(uint64_t{1}).be(uint64_t{2})).state == NbdHandshake::State::closed);
  CHECK(shake(fixed().option(1, {'n', 'o'})).state == NbdHandshake::State::closed);
  CHECK(shake(fixed().option(1, std::vector<uint8_t>(kNbdOptionBytesMax + 1))).state ==
        NbdHandshake::State::closed);
}

TEST_CASE("nbd handshake: what was agreed on holds for the transmission") {
  const auto go = [](const NbdBytes& before, std::vector<uint16_t> infos) {
    NbdBytes bytes = before;
    return shake(bytes.option(7, NbdBytes().info("disk", std::move(infos))));
  };
  const NbdBytes fixed = NbdBytes().be(uint32_t{3});
  CHECK(go(fixed, {3}).state == NbdHandshake::State::transmission);
  CHECK(go(fixed, {3}).terms.alignment == 512);
  CHECK(go(fixed, {}).terms.alignment == 1);
  CHECK_FALSE(go(fixed, {}).terms.structured);
  NbdBytes selected = NbdBytes(fixed).option(8).option(10, NbdBytes().contexts("", {"test:other"}));
  CHECK(go(selected, {}).terms.structured);
  CHECK(go(selected, {}).terms.contexts == std::vector<uint32_t>{1});
  // A later selection replaces an earlier one, also if it fails.
  CHECK(go(NbdBytes(selected).option(10, NbdBytes().contexts("gone", {})), {}).terms.contexts.empty());
  CHECK(go(NbdBytes(selected).option(9, NbdBytes().contexts("disk", {})), {}).terms.contexts.size() == 1);

  // EXPORT_NAME ends with 124 zeroes, unless they were declined.
  const auto by_name = [](uint32_t flags) {
    return shake(NbdBytes().be(flags).option(1, {'d', 'i', 's', 'k'}));
  };
  CHECK(by_name(0).out.size() == 18 + 10 + 124);
  CHECK(by_name(3).out.size() == 18 + 10);
  CHECK(load_be<uint64_t>(by_name(3).out.data() + 18) == kSize);
}

TEST_CASE("nbd handshake: where its bytes are cut doesn't matter") {
  const std::vector<uint8_t> bytes = NbdBytes()
                                         .be(uint32_t{3})
                                         .option(3)
                                         .option(8)
                                         .option(9, NbdBytes().contexts("disk", {}))
                                         .option(10, NbdBytes().contexts("disk", {"base:allocation"}))
                                         .option(6, NbdBytes().info("disk", {1, 2, 3}))
                                         .option(7, NbdBytes().info("disk", {3}))
                                         .request(NbdCommand::read, 0, 1, 0, 512);
  const Outcome whole = shake(bytes);
  REQUIRE(whole.state == NbdHandshake::State::transmission);
  CHECK(whole.taken == bytes.size() - kNbdRequestBytes);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    CAPTURE(cut);
    CHECK(shake(bytes, cut) == whole);
    // What ends early has said nothing that the whole doesn't.
    const Outcome part = shake({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut)});
    CHECK((part.state == NbdHandshake::State::transmission) == (cut >= whole.taken));
    REQUIRE(part.out.size() <= whole.out.size());
    CHECK(std::memcmp(part.out.data(), whole.out.data(), part.out.size()) == 0);
  }
}
