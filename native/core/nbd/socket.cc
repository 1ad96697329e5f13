#include "core/nbd/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr int kBacklog = 64;

// To be woken takes longer than a small write. Where the last request was not waited for longer than
// kSoonTime, the next is waited for awake, so long, while the processor is left to whoever wants it.
constexpr auto kAwakeTime = std::chrono::microseconds(50);
constexpr auto kSoonTime = std::chrono::microseconds(100);

[[noreturn]] void throw_bad_address(const std::string& address) {
  throw NativeError("argument", "'" + address + "' is not unix:PATH, tcp:HOST:PORT or tcp:[HOST]:PORT");
}

bool is_served(const sockaddr_un& address) {
  const FileDescriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) throw_errno(errno, "make a socket", address.sun_path);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
  // Anything else than a refusal may be a busy server.
  return errno != ECONNREFUSED && errno != ENOENT;
}

void set_option(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

// ---- NbdWakeup ----

NbdWakeup::NbdWakeup() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (event_.get() < 0) throw_errno(errno, "make an eventfd");
}

void NbdWakeup::wake() const { ::eventfd_write(event_.get(), 1); }

void NbdWakeup::clear() const {
  eventfd_t value;
  ::eventfd_read(event_.get(), &value);
}

// ---- NbdListener ----

NbdListener::NbdListener(const std::string& address) : address_(address) {
  if (address.starts_with("unix:")) {
    listen_unix(address.substr(5));
  } else if (address.starts_with("tcp:")) {
    listen_tcp(address.substr(4));
  } else {
    throw_bad_address(address);
  }
}

NbdListener::~NbdListener() {
  struct stat now;
  if (!unix_path_.empty() && ::lstat(unix_path_.c_str(), &now) == 0 && now.st_ino == unix_status_.st_ino &&
      now.st_dev == unix_status_.st_dev) {
    ::unlink(unix_path_.c_str());
  }
}

void NbdListener::listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) throw_bad_address(address_);
  std::memcpy(address.sun_path, path.data(), path.size());
  socket_ = FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // The socket's own mode becomes that of the file, which so is never open to others.
  if (socket_.get() < 0 || ::fchmod(socket_.get(), 0600) != 0) throw_errno(errno, "make a socket", path);
  const auto bind = [&] {
    return ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  };
  int error = bind() ? 0 : errno;
  struct stat there;
  const bool may_be_stale =
      error == EADDRINUSE && ::lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode);
  if (may_be_stale && !is_served(address)) error = ::unlink(path.c_str()) == 0 && bind() ? 0 : errno;
  if (error != 0) throw_errno(error, "listen", path);
  if (::lstat(path.c_str(), &unix_status_) != 0) throw_errno(errno, "listen", path);
  unix_path_ = path;
  if (::listen(socket_.get(), kBacklog) != 0) throw_errno(errno, "listen", path);
}

void NbdListener::listen_tcp(const std::string& host_and_port) {
  const size_t colon = host_and_port.rfind(':');
  if (colon == std::string::npos || colon + 1 == host_and_port.size()) throw_bad_address(address_);
  std::string host = host_and_port.substr(0, colon);
  const std::string port = host_and_port.substr(colon + 1);
  const bool is_bracketed = host.starts_with('[') && host.ends_with(']');
  if (is_bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || (!is_bracketed && host.find(':') != std::string::npos)) throw_bad_address(address_);

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (failure != 0)
    throw NativeError("argument", std::string("resolve: ") + ::gai_strerror(failure), address_);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* at = found; at != nullptr && error != 0; at = at->ai_next) {
    socket_ = FileDescriptor(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    set_option(socket_.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    const bool bound = socket_.get() >= 0 && ::bind(socket_.get(), at->ai_addr, at->ai_addrlen) == 0 &&
                       ::listen(socket_.get(), kBacklog) == 0;
    error = bound ? 0 : errno;
  }
  if (error != 0) throw_errno(error, "listen", address_);

  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  char bound_host[NI_MAXHOST], bound_port[NI_MAXSERV];
  if (::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0 ||
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&bound), length, bound_host, sizeof bound_host,
                    bound_port, sizeof bound_port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    throw_errno(EIO, "ask for the address in use", address_);
  }
  const bool is_v6 = bound.ss_family == AF_INET6;
  address_ = std::string("tcp:") + (is_v6 ? "[" : "") + bound_host + (is_v6 ? "]:" : ":") + bound_port;
}

FileDescriptor NbdListener::accept() const {
  FileDescriptor socket(::accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (socket.get() < 0) return socket;
  set_option(socket.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  if (unix_path_.empty()) set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

// ---- NbdSocket ----

size_t NbdSocket::receive(std::span<uint8_t> into) {
  using Clock = std::chrono::steady_clock;
  const auto began = Clock::now();
  for (;;) {
    const bool awake = follows_soon_ && Clock::now() - began < kAwakeTime;
    const ssize_t count = ::recv(socket_.get(), into.data(), into.size(), awake ? MSG_DONTWAIT : 0);
    if (count >= 0) {
      follows_soon_ = Clock::now() - began < kSoonTime;
      return static_cast<size_t>(count);
    }
    if (awake && errno == EAGAIN) {
      ::sched_yield();
    } else if (errno != EINTR) {
      return 0;
    }
  }
}

ssize_t NbdSocket::send(const iovec* parts, size_t count, bool may_wait) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  for (;;) {
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT));
    if (sent > 0) return sent;
    if (sent < 0 && errno == EINTR) continue;
    return sent < 0 && !may_wait && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
  }
}

void NbdSocket::shut() { ::shutdown(socket_.get(), SHUT_RDWR); }

void NbdSocket::shut_receiving() { ::shutdown(socket_.get(), SHUT_RD); }

}  // namespace stillpoint
