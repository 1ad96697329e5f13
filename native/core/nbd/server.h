// Accepts NBD connections on sockets and serves exports to them.
//
// A server is running from its construction until stop (or the destructor). An export is served from
// add_export until remove_export or stop have returned; a connection uses at most one, from the end of its
// handshake on.
//
// Threads: one accepts, one reads each connection (connection.h), workers do the work that has to wait. All
// methods may be called from any thread, but stop and listen not at once.
//
// Locking: mutex_ guards exports_, listeners_, clients_ and what their `served` says; no I/O is done under
// it, and exports are asked only for properties(). Order: mutex_ before the mutexes of connections.
// remove_export and stop wait on changed_ until their clients are gone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/nbd/connection.h"
#include "core/nbd/socket.h"

namespace stillpoint {

class NbdServer {
 public:
  struct Options {
    size_t connections_max = 128;
    // Of each of the two pools, for reads and for writes.
    size_t threads_max = 16;
    std::chrono::milliseconds handshake_timeout{30'000};
    // How long stop and remove_export wait for answers to be taken before they close connections.
    std::chrono::milliseconds grace{2'000};
    NbdBudget::Bounds memory;
  };

  NbdServer();
  explicit NbdServer(const Options& options);
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;
  ~NbdServer();

  // EEXIST for a name that is taken, `argument` for one longer than NBD allows.
  void add_export(const std::string& name, std::shared_ptr<NbdExport> served);
  bool has_export(const std::string& name) const;
  // Ends the connections that use it. When it returns, none of their requests runs, and the export may go.
  // Nothing happens if there is no such export.
  void remove_export(const std::string& name);

  // `unix:PATH` (mode 0600; the socket file of a server that is dead is replaced), `tcp:HOST:PORT` or
  // `tcp:[HOST]:PORT`; port 0 takes any. Returns the address in use. Errno names, EADDRINUSE among them, and
  // `argument`.
  std::string listen(const std::string& address);

  // No new connections; running requests end, then all is closed. Harmless a second time.
  void stop();

  const NbdCounters& counters() const { return shared_.counters; }
  size_t open_connections() const;

 private:
  struct Client;

  void accept_loop();
  void accept_from(size_t listener);
  void end_late_handshakes();
  void reap();
  // Under `lock`; waits until no client is left for which `matches` is true.
  template <class Matches>
  void end_clients(std::unique_lock<std::mutex>& lock, Matches matches);

  const Options options_;
  NbdShared shared_;
  NbdWakeup wakeup_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<NbdExport>> exports_;
  std::vector<std::unique_ptr<NbdListener>> listeners_;
  std::list<std::unique_ptr<Client>> clients_;
  bool stopping_ = false;
  std::thread acceptor_;
};

}  // namespace stillpoint
