// The sockets of the NBD server: addresses, listening, one connection's bytes.
#pragma once

#include <sys/stat.h>

#include <string>

#include "core/nbd/outbox.h"

namespace stillpoint {

// A descriptor that is closed with it.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }

 private:
  int fd_;
};

// Makes a poll() return.
class NbdWakeup {
 public:
  NbdWakeup();
  int fd() const { return event_.get(); }
  void wake() const;
  void clear() const;

 private:
  FileDescriptor event_;
};

class NbdListener {
 public:
  // See NbdServer::listen.
  explicit NbdListener(const std::string& address);
  NbdListener(const NbdListener&) = delete;
  NbdListener& operator=(const NbdListener&) = delete;
  // Removes the socket file, if it is still its own.
  ~NbdListener();

  int fd() const { return socket_.get(); }
  const std::string& address() const { return address_; }
  // Ready to be used by a connection; empty if nobody is there any more. EMFILE and the like: -1 too, with
  // errno.
  FileDescriptor accept() const;

 private:
  void listen_unix(const std::string& path);
  void listen_tcp(const std::string& host_and_port);

  FileDescriptor socket_;
  std::string address_;
  std::string unix_path_;
  struct stat unix_status_ {};
};

class NbdSocket final : public NbdTransport {
 public:
  explicit NbdSocket(FileDescriptor socket) : socket_(std::move(socket)) {}

  size_t receive(std::span<uint8_t> into) override;
  ssize_t send(const iovec* parts, size_t count, bool may_wait) override;
  void shut() override;
  // Nothing more is received; what is there still can be.
  void shut_receiving();

 private:
  FileDescriptor socket_;
  bool follows_soon_ = false;
};

}  // namespace stillpoint
