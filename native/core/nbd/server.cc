#include "core/nbd/server.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/base/error.h"

namespace stillpoint {

using Clock = std::chrono::steady_clock;

// One connection, and what it sees of the server.
struct NbdServer::Client final : NbdDirectory {
  Client(NbdServer& owner, FileDescriptor fd)
      : server(owner), socket(std::move(fd)), connection(socket, *this, owner.shared_) {}

  std::vector<std::pair<std::string, std::string>> list() override {
    const std::lock_guard lock(server.mutex_);
    std::vector<std::pair<std::string, std::string>> names;
    for (const auto& [name, found] : server.exports_)
      names.emplace_back(name, found->properties().description);
    return names;
  }

  std::optional<Entry> find(const std::string& name) override {
    const std::lock_guard lock(server.mutex_);
    auto found = server.exports_.find(name);
    if (name.empty() && found == server.exports_.end() && server.exports_.size() == 1) {
      found = server.exports_.begin();
    }
    if (found == server.exports_.end()) return {};
    return Entry{found->first, found->second->properties()};
  }

  std::shared_ptr<NbdExport> attach(const std::string& name) override {
    const std::lock_guard lock(server.mutex_);
    const auto found = server.exports_.find(name);
    if (found == server.exports_.end() || server.stopping_) return nullptr;
    served = found->second.get();
    return found->second;
  }

  void run() {
    block_signals();
    connection.run();
    const std::lock_guard lock(server.mutex_);
    served = nullptr;
    ended = true;
    server.changed_.notify_all();
    server.wakeup_.wake();
  }

  NbdServer& server;
  NbdSocket socket;
  NbdConnection connection;
  const Clock::time_point began = Clock::now();
  // Under the server's mutex.
  const NbdExport* served = nullptr;
  bool ended = false;
  std::thread thread;
};

NbdServer::NbdServer() : NbdServer(Options()) {}

NbdServer::NbdServer(const Options& options)
    : options_(options), shared_(options.memory, options.threads_max), acceptor_([this] { accept_loop(); }) {}

NbdServer::~NbdServer() { stop(); }

void NbdServer::add_export(const std::string& name, std::shared_ptr<NbdExport> served) {
  if (name.size() > kNbdNameBytesMax) throw NativeError("argument", "the export's name is too long");
  const std::lock_guard lock(mutex_);
  if (!exports_.emplace(name, std::move(served)).second) throw_errno(EEXIST, "export " + name);
}

bool NbdServer::has_export(const std::string& name) const {
  std::lock_guard lock(mutex_);
  return exports_.count(name) != 0;
}

size_t NbdServer::open_connections() const {
  std::lock_guard lock(mutex_);
  return clients_.size();
}

void NbdServer::remove_export(const std::string& name) {
  std::unique_lock lock(mutex_);
  const auto found = exports_.find(name);
  if (found == exports_.end()) return;
  const std::shared_ptr<NbdExport> removed = std::move(found->second);
  exports_.erase(found);
  end_clients(lock, [&](const Client& client) { return client.served == removed.get(); });
}

template <class Matches>
void NbdServer::end_clients(std::unique_lock<std::mutex>& lock, Matches matches) {
  const auto none_left = [&] {
    return std::ranges::none_of(clients_,
                                [&](const auto& client) { return !client->ended && matches(*client); });
  };
  for (const auto& client : clients_) {
    if (!matches(*client)) continue;
    client->connection.stop();
    client->socket.shut_receiving();
  }
  if (changed_.wait_for(lock, options_.grace, none_left)) return;
  for (const auto& client : clients_) {
    if (matches(*client)) client->socket.shut();
  }
  changed_.wait(lock, none_left);
}

std::string NbdServer::listen(const std::string& address) {
  auto listener = std::make_unique<NbdListener>(address);
  std::string used = listener->address();
  const std::lock_guard lock(mutex_);
  if (stopping_) throw_errno(ESHUTDOWN, "listen", address);
  listeners_.push_back(std::move(listener));
  wakeup_.wake();
  return used;
}

void NbdServer::stop() {
  std::unique_lock lock(mutex_);
  if (stopping_) return;
  stopping_ = true;
  wakeup_.wake();
  lock.unlock();
  acceptor_.join();
  lock.lock();
  listeners_.clear();
  end_clients(lock, [](const Client&) { return true; });
  lock.unlock();
  reap();
  lock.lock();
  exports_.clear();
}

void NbdServer::accept_loop() {
  block_signals();
  for (;;) {
    std::vector<pollfd> waits{{wakeup_.fd(), POLLIN, 0}};
    bool in_handshake;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      // Where there is no room for another, it waits in the listener's queue.
      const bool has_room = clients_.size() < options_.connections_max;
      for (const auto& listener : listeners_) {
        waits.push_back({listener->fd(), static_cast<short>(has_room ? POLLIN : 0), 0});
      }
      in_handshake = std::ranges::any_of(
          clients_, [](const auto& client) { return !client->ended && client->connection.in_handshake(); });
    }
    const int timeout_ms = in_handshake
                               ? static_cast<int>(std::min<int64_t>(
                                     std::max<int64_t>(options_.handshake_timeout.count() / 4, 1), 1000))
                               : -1;
    if (::poll(waits.data(), waits.size(), timeout_ms) < 0 && errno != EINTR) continue;
    wakeup_.clear();
    reap();
    end_late_handshakes();
    for (size_t i = 1; i < waits.size(); ++i) {
      if ((waits[i].revents & POLLIN) != 0) accept_from(i - 1);
    }
  }
}

void NbdServer::accept_from(size_t listener) {
  FileDescriptor socket;
  {
    const std::lock_guard lock(mutex_);
    socket = listeners_[listener]->accept();
  }
  if (socket.get() < 0) {
    // Without descriptors the connection stays ready: don't spin.
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return;
  }
  try {
    auto client = std::make_unique<Client>(*this, std::move(socket));
    Client* const started = client.get();
    const std::lock_guard lock(mutex_);
    clients_.push_back(std::move(client));
    try {
      started->thread = std::thread([started] { started->run(); });
    } catch (...) {
      clients_.pop_back();
      throw;
    }
    ++shared_.counters.connections;
  } catch (const std::bad_alloc&) {
  } catch (const std::system_error&) {
    // No thread to be had: the client sees its connection closed.
  }
}

void NbdServer::end_late_handshakes() {
  const auto late = Clock::now() - options_.handshake_timeout;
  const std::lock_guard lock(mutex_);
  for (const auto& client : clients_) {
    if (client->connection.in_handshake() && client->began < late) client->socket.shut();
  }
}

// Frees connections that have ended. Only one thread does this at a time.
void NbdServer::reap() {
  std::list<std::unique_ptr<Client>> ended;
  {
    const std::lock_guard lock(mutex_);
    for (auto client = clients_.begin(); client != clients_.end();) {
      const auto next = std::next(client);
      if ((*client)->ended) ended.splice(ended.end(), clients_, client);
      client = next;
    }
  }
  for (const auto& client : ended) client->thread.join();
}

}  // namespace stillpoint
