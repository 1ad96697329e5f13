// Serves a device or an image as it is, for trying real NBD clients: nbd_serve [-r] FILE ADDRESS. Ends on
// SIGINT, SIGTERM.
#include <signal.h>

#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "core/nbd/exports/device_export.h"
#include "core/nbd/server.h"

using namespace stillpoint;

int main(int argc, char** argv) {
  const bool read_only = argc > 1 && std::strcmp(argv[1], "-r") == 0;
  if (argc != (read_only ? 4 : 3)) {
    std::fprintf(stderr, "usage: nbd_serve [-r] FILE ADDRESS\n");
    return 2;
  }
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  try {
    NbdServer server;
    server.add_export("", DeviceExport::open(argv[argc - 2], read_only));
    std::printf("%s\n", server.listen(argv[argc - 1]).c_str());
    std::fflush(stdout);
    int signal = 0;
    sigwait(&ends, &signal);
    server.stop();
    const NbdCounters& counters = server.counters();
    std::printf(
        "connections %llu, reads %llu, writes %llu, flushes %llu, errors %llu\n",
        static_cast<unsigned long long>(counters.connections),
        static_cast<unsigned long long>(counters.reads), static_cast<unsigned long long>(counters.writes),
        static_cast<unsigned long long>(counters.flushes), static_cast<unsigned long long>(counters.errors));
    return 0;
  } catch (const NativeError& error) {
    std::fprintf(stderr, "nbd_serve: %s\n", error.what());
    return 1;
  }
}
