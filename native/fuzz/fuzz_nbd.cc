// The whole server side of a connection against bytes from anywhere: handshake, requests, payloads, jobs of
// workers. The first byte says what the export can do at once, and how the bytes are cut into pieces. What
// the server says is parsed again.
#include <stdlib.h>

#include <algorithm>

#include "core/nbd/connection.h"
#include "test/worlds/nbd_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr uint64_t kSize = 1 << 20;

class Wire final : public NbdTransport {
 public:
  Wire(Bytes in, size_t piece) : in_(in), piece_(piece) {}

  size_t receive(std::span<uint8_t> into) override {
    const size_t count = std::min({into.size(), in_.size(), piece_});
    std::copy_n(in_.begin(), count, into.begin());
    in_ = in_.subspan(count);
    return count;
  }
  ssize_t send(const iovec* parts, size_t count, bool may_wait) override {
    const std::lock_guard lock(mutex_);
    // Now and then, the client is busy.
    if (!may_wait && ++sends_ % 3 == 0) return 0;
    size_t sent = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto* bytes = static_cast<const uint8_t*>(parts[i].iov_base);
      out.insert(out.end(), bytes, bytes + parts[i].iov_len);
      sent += parts[i].iov_len;
    }
    return static_cast<ssize_t>(sent);
  }
  void shut() override {}

  std::vector<uint8_t> out;

 private:
  Bytes in_;
  const size_t piece_;
  std::mutex mutex_;
  size_t sends_ = 0;
};

class OneExport final : public NbdDirectory {
 public:
  explicit OneExport(std::shared_ptr<NbdExport> served) : served_(std::move(served)) {}
  std::vector<std::pair<std::string, std::string>> list() override { return {{"disk", "a disk"}}; }
  std::optional<Entry> find(const std::string& name) override {
    if (name != "disk" && !name.empty()) return {};
    return Entry{"disk", served_->properties()};
  }
  std::shared_ptr<NbdExport> attach(const std::string&) override {
    attached = true;
    return served_;
  }
  bool attached = false;

 private:
  std::shared_ptr<NbdExport> served_;
};

class FuzzExport final : public TestExport {
 public:
  explicit FuzzExport(bool read_only) : TestExport(kSize) { properties_.read_only = read_only; }
};

// Takes what the handshake said off the front; all of it is option replies, until the transmission began.
Bytes skip_handshake(Bytes out) {
  if (out.size() < 18 || load_be<uint64_t>(out.data()) != kNbdMagic) abort();
  out = out.subspan(18);
  while (out.size() >= 20 && load_be<uint64_t>(out.data()) == kNbdOptionReplyMagic) {
    const size_t length = load_be<uint32_t>(out.data() + 16);
    if (length > out.size() - 20) abort();
    out = out.subspan(20 + length);
  }
  return out;
}

// Structured chunks carry their lengths; simple replies to READ don't: then only the first can be judged.
void check_replies(Bytes out) {
  while (!out.empty()) {
    if (out.size() < kNbdSimpleReplyBytes) abort();
    const auto magic = load_be<uint32_t>(out.data());
    if (magic == kNbdSimpleReplyMagic) return;
    if (magic != kNbdStructuredReplyMagic || out.size() < kNbdChunkHeaderBytes) abort();
    const size_t length = load_be<uint32_t>(out.data() + 16);
    if (length > out.size() - kNbdChunkHeaderBytes) abort();
    out = out.subspan(kNbdChunkHeaderBytes + length);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  static NbdShared shared({1 << 20, 2 << 20}, 2);
  const auto served = std::make_shared<FuzzExport>((data[0] & 2) != 0);
  served->would_wait = (data[0] & 1) != 0;
  OneExport directory(served);
  Wire wire({data + 1, size - 1}, (data[0] & 4) != 0 ? 7 : SIZE_MAX);
  {
    NbdConnection connection(wire, directory, shared);
    connection.run();
  }
  const Bytes rest = skip_handshake(wire.out);
  if (!directory.attached && !rest.empty()) abort();
  // EXPORT_NAME answers without a header.
  if (rest.size() >= 4 && load_be<uint32_t>(rest.data()) == kNbdStructuredReplyMagic) check_replies(rest);
  return 0;
}
