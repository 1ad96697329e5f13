// Bits that programs in the kernel set, one for each grain of a device, in memory that this process shares
// with them.
//
// Threads and processes: every operation is on one word, atomic, and may run beside every other one. A bit
// that is cleared is always set in another map first, so a process that is killed at any place loses none.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "core/track/bpf.h"

namespace stillpoint {

class MarkMap {
 public:
  static constexpr uint64_t kGrainsPerWord = 64;

  // Maps the value of an array map of so many words. An errno, where it is smaller.
  MarkMap(UniqueFd map, uint64_t word_count);
  MarkMap(MarkMap&& other) noexcept;
  MarkMap(const MarkMap&) = delete;
  MarkMap& operator=(MarkMap&&) = delete;
  ~MarkMap();

  int fd() const { return map_.get(); }
  uint64_t word_count() const { return word_count_; }
  uint64_t load(uint64_t word) const { return at(word).load(std::memory_order_acquire); }
  void set(uint64_t word, uint64_t bits) {
    // Most are set already; the page then stays as it is.
    if ((load(word) & bits) != bits) at(word).fetch_or(bits);
  }
  void clear(uint64_t word, uint64_t bits) { at(word).fetch_and(~bits); }
  uint64_t count() const;
  uint64_t* data() const { return words_; }
  void clear_all();

 private:
  std::atomic_ref<uint64_t> at(uint64_t word) const { return std::atomic_ref(words_[word]); }

  UniqueFd map_;
  uint64_t word_count_;
  uint64_t* words_;
};

// Tells take(begin, end) of each run of set bits of a word.
template <class Take>
void for_runs(uint64_t bits, Take take) {
  while (bits != 0) {
    const auto begin = static_cast<uint64_t>(std::countr_zero(bits));
    const uint64_t end = begin + static_cast<uint64_t>(std::countr_one(bits >> begin));
    take(begin, end);
    bits = end == 64 ? 0 : bits & (~uint64_t{0} << end);
  }
}

// Moves all marks of `from` to `kept`, and tells take(word, bits) of each word that has some. What is marked
// meanwhile is told of, or stays.
template <class Take>
void move_marks(MarkMap& from, MarkMap& kept, Take take) {
  for (uint64_t word = 0; word < from.word_count(); word++) {
    const uint64_t bits = from.load(word);
    if (bits == 0) continue;
    kept.set(word, bits);
    from.clear(word, bits);
    take(word, bits);
  }
}

}  // namespace stillpoint
