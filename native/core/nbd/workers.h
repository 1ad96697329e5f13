// Threads for requests that have to wait, shared by all connections of an NBD server. A pool grows to its
// bound as requests wait, and keeps its threads.
//
// Locking: mutex_ guards everything. Work runs without it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace stillpoint {

class NbdWorkers {
 public:
  class Work {
   public:
    virtual ~Work() = default;
    virtual void run() noexcept = 0;
  };

  explicit NbdWorkers(size_t threads_max) : threads_max_(threads_max) {}
  NbdWorkers(const NbdWorkers&) = delete;
  NbdWorkers& operator=(const NbdWorkers&) = delete;
  // Runs what is queued to its end.
  ~NbdWorkers();

  // Runs `work` here where the system has no thread for it.
  void submit(std::unique_ptr<Work> work);

 private:
  void run();

  const size_t threads_max_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Work>> queue_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool ending_ = false;
};

// Blocks signals in the calling thread: they are Node's, whose own threads take them.
void block_signals();

}  // namespace stillpoint
