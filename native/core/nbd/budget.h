// How much memory requests in flight may hold: a bound for each connection and one for all. A connection with
// nothing in flight always gets its one request. So clients that don't read their answers can slow others
// down, but never stop them.
//
// Locking: mutex_ guards all counts, including those of the accounts.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

namespace stillpoint {

class NbdBudget {
 public:
  struct Bounds {
    uint64_t connection_bytes = uint64_t{64} << 20;
    uint64_t all_bytes = uint64_t{256} << 20;
  };

  // What one connection holds.
  class Account {
    friend class NbdBudget;
    uint64_t held_bytes_ = 0;
  };

  // A part of it; given back when it goes.
  class Lease {
   public:
    Lease() = default;
    Lease(NbdBudget* budget, Account* account, uint64_t bytes)
        : budget_(budget), account_(account), bytes_(bytes) {}
    Lease(Lease&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), account_(other.account_), bytes_(other.bytes_) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(account_, other.account_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Lease() {
      if (budget_ != nullptr) budget_->give_back(*account_, bytes_);
    }

   private:
    NbdBudget* budget_ = nullptr;
    Account* account_ = nullptr;
    uint64_t bytes_ = 0;
  };

  explicit NbdBudget(const Bounds& bounds) : bounds_(bounds) {}
  NbdBudget(const NbdBudget&) = delete;
  NbdBudget& operator=(const NbdBudget&) = delete;

  // Waits until there is room.
  Lease take(Account& account, uint64_t bytes) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return fits(account, cost(bytes)); });
    return hold(account, cost(bytes));
  }

  // Nothing if there is no room now.
  std::optional<Lease> try_take(Account& account, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (!fits(account, cost(bytes))) return {};
    return hold(account, cost(bytes));
  }

 private:
  // However small, each request costs something.
  static uint64_t cost(uint64_t bytes) { return std::max(bytes, uint64_t{64} << 10); }

  bool fits(const Account& account, uint64_t bytes) const {
    return account.held_bytes_ == 0 || (account.held_bytes_ + bytes <= bounds_.connection_bytes &&
                                        held_bytes_ + bytes <= bounds_.all_bytes);
  }

  Lease hold(Account& account, uint64_t bytes) {
    account.held_bytes_ += bytes;
    held_bytes_ += bytes;
    return {this, &account, bytes};
  }

  void give_back(Account& account, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    account.held_bytes_ -= bytes;
    held_bytes_ -= bytes;
    room_.notify_all();
  }

  const Bounds bounds_;
  std::mutex mutex_;
  std::condition_variable room_;
  uint64_t held_bytes_ = 0;
};

}  // namespace stillpoint
