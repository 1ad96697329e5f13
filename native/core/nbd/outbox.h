// The replies of one NBD connection: many threads post them, and each is sent whole. Workers never wait here,
// but the connection's own reader may: a client that doesn't read its answers holds up only itself.
//
// sending_ is a baton: only its holder sends.
//   free      -> held       post (a worker), send (the reader, which waits for it)
//   held      -> free       all that is queued was sent, or the connection is dead
//   held      -> held       a worker found the socket full: it passes the baton to the sender thread, which
//   waits in its place
// A reply that was sent in part is finished before the baton is free.
//
// Locking: mutex_ guards everything; nobody sends under it. Replies keep their place in the queue while they
// are sent.
#pragma once

#include <sys/uio.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/nbd/budget.h"
#include "core/nbd/wire/codec.h"

namespace stillpoint {

// A connection's two ways, apart from sockets.
class NbdTransport {
 public:
  virtual ~NbdTransport() = default;

  // Waits for bytes; how many came, 0 at the end or when the connection failed.
  virtual size_t receive(std::span<uint8_t> into) = 0;
  // How many bytes were taken: 0 where it would have to wait and may not, negative when the connection
  // failed.
  virtual ssize_t send(const iovec* parts, size_t count, bool may_wait) = 0;
  // Ends both ways: calls that wait return. From any thread, any number of times.
  virtual void shut() = 0;
};

struct NbdReply {
  std::vector<uint8_t> head;
  AlignedBuffer body;
  size_t body_length = 0;
  NbdBudget::Lease lease;
};

class NbdOutbox {
 public:
  explicit NbdOutbox(NbdTransport& transport) : transport_(transport) {}
  NbdOutbox(const NbdOutbox&) = delete;
  NbdOutbox& operator=(const NbdOutbox&) = delete;
  ~NbdOutbox();

  // Takes a reply over; doesn't wait.
  void post(NbdReply&& reply);
  // Sends both; returns when that is done. False: the connection is dead.
  bool send(Bytes head, Bytes body);
  // Returns when all is sent, or the connection dead.
  void drain();

 private:
  using Lock = std::unique_lock<std::mutex>;

  // All under mutex_; those with `lock` let it go meanwhile.
  void take_baton(Lock& lock);
  bool pump(Lock& lock, bool may_wait);
  void finish();
  void pass_baton_to_sender();
  void run_sender();
  void die();

  NbdTransport& transport_;
  std::mutex mutex_;
  std::condition_variable baton_free_;
  std::condition_variable sender_wake_;
  std::deque<NbdReply> queue_;
  size_t front_sent_ = 0;  // of the first reply
  bool sending_ = false;
  bool dead_ = false;
  bool sender_has_baton_ = false;
  bool ending_ = false;
  std::thread sender_;  // once it was needed
};

}  // namespace stillpoint
