// An NBD client of few lines, for the server's tests: it says what it is told to, right or wrong.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "core/nbd/socket.h"
#include "test/helpers/helpers.h"
#include "test/worlds/nbd_world.h"

namespace stillpoint::test {

struct NbdAnswer {
  uint32_t error;
  std::vector<uint8_t> bytes;
};

class NbdClient {
 public:
  explicit NbdClient(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    connected_ = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }

  bool connected() const { return connected_; }
  void send(const std::vector<uint8_t>& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t count = ::send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;  // whoever waits for the answer notices
      sent += static_cast<size_t>(count);
    }
  }
  // False at the end of the stream.
  bool receive(std::span<uint8_t> into) {
    while (!into.empty()) {
      const ssize_t count = ::recv(socket_.get(), into.data(), into.size(), 0);
      if (count <= 0) return false;
      into = into.subspan(static_cast<size_t>(count));
    }
    return true;
  }
  template <class T>
  T integer() {
    uint8_t bytes[sizeof(T)] = {};
    REQUIRE(receive(bytes));
    return load_be<T>(bytes);
  }
  bool ended() {
    uint8_t byte;
    return !receive({&byte, 1});
  }

  // Until the transmission: false if the server ends it.
  bool go(const std::string& name = "disk", bool structured = true) {
    uint8_t greeting[18];
    if (!receive(greeting)) return false;
    NbdBytes hello = NbdBytes().be(uint32_t{3});
    if (structured) hello.option(8).option(10, NbdBytes().contexts(name, {"base:allocation", "test:other"}));
    send(hello.option(7, NbdBytes().info(name, {3})));
    structured_ = structured;
    for (int acks = 0; acks < (structured ? 3 : 1);) {
      uint8_t header[20];
      if (!receive(header)) return false;
      const auto type = load_be<uint32_t>(header + 12);
      std::vector<uint8_t> data(load_be<uint32_t>(header + 16));
      if (!receive(data) || type > 0x80000000) return false;
      acks += type == 1 ? 1 : 0;
    }
    return true;
  }
  void ask(NbdCommand command, uint64_t offset, uint32_t length, uint64_t cookie = 1, uint16_t flags = 0) {
    NbdBytes request;
    request.request(command, flags, cookie, offset, length);
    if (command == NbdCommand::write) request.insert(request.end(), length, static_cast<uint8_t>(cookie));
    send(request);
  }
  // Of whichever request is answered next; `read_bytes`: of a READ that simple replies answer.
  std::pair<uint64_t, NbdAnswer> answer(uint32_t read_bytes = 0) {
    NbdAnswer answer{0, {}};
    const auto magic = integer<uint32_t>();
    if (magic == kNbdSimpleReplyMagic) {
      answer.error = integer<uint32_t>();
      const auto cookie = integer<uint64_t>();
      if (answer.error == 0) answer.bytes.resize(read_bytes);
      REQUIRE(receive(answer.bytes));
      return {cookie, answer};
    }
    REQUIRE(magic == kNbdStructuredReplyMagic);
    REQUIRE(structured_);
    const auto flags = integer<uint16_t>();
    const auto type = integer<uint16_t>();
    const auto cookie = integer<uint64_t>();
    answer.bytes.resize(integer<uint32_t>());
    REQUIRE(receive(answer.bytes));
    if (type == kNbdReplyError) answer.error = load_be<uint32_t>(answer.bytes.data());
    if (type == kNbdReplyOffsetData) answer.bytes.erase(answer.bytes.begin(), answer.bytes.begin() + 8);
    if ((flags & kNbdReplyDone) != 0) return {cookie, answer};
    auto rest = this->answer();
    REQUIRE(rest.first == cookie);
    answer.bytes.insert(answer.bytes.end(), rest.second.bytes.begin(), rest.second.bytes.end());
    return {cookie, answer};
  }
  NbdAnswer call(NbdCommand command, uint64_t offset, uint32_t length, uint64_t cookie = 1,
                 uint16_t flags = 0) {
    ask(command, offset, length, cookie, flags);
    auto [answered, result] = answer(command == NbdCommand::read ? length : 0);
    CHECK(answered == cookie);
    return result;
  }
  void close() { socket_ = FileDescriptor(); }

 private:
  FileDescriptor socket_;
  bool connected_ = false;
  bool structured_ = false;
};

}  // namespace stillpoint::test
