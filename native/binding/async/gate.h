// How a handle waits for its users.
#pragma once

#include <cstddef>
#include <functional>
#include <map>

namespace stillpoint::binding {

// Counts the operations in flight on one handle, so that close() can wait for them. JavaScript thread only.
//
// state     enter()            leave()                        close()
// -------   ----------------   ----------------------------   -------------------------------------
// open      counts             counts                         -> closing; stoppers called
// closing   throws `closed`    last one: released -> closed   waits with the first one
// closed    throws `closed`    -                              done at once
class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void check() const;
  void enter();
  void leave();
  // Calls when_idle once nothing is in flight, maybe at once. Second and later calls: false, and nothing
  // happens.
  bool close(std::function<void()> when_idle);
  bool closing() const { return closing_; }

  // Called by close() before it waits: long work in flight (a scan) ends early.
  int add_stopper(std::function<void()> stop);
  void remove_stopper(int id) { stoppers_.erase(id); }

 private:
  bool closing_ = false;
  size_t in_flight_ = 0;
  std::function<void()> when_idle_;
  std::map<int, std::function<void()>> stoppers_;
  int next_stopper_ = 0;
};

}  // namespace stillpoint::binding
