// One bit for each block of a device: the snapshot map, the backup map, and what a running session needs.
//
// Threads: every method may run on any number of threads at once. Words are read and written in one order for
// all threads (sequentially consistent): a thread that marks a bit here and then looks elsewhere can rely on
// it. clear() and next_*() are exact only while nobody marks. Memory: untouched parts cost none (16 TiB in
// blocks of 64 KiB are 32 MiB if all of it is touched).
#pragma once

#include <atomic>
#include <cstdint>

namespace stillpoint {

class BlockMap {
 public:
  // std::bad_alloc
  explicit BlockMap(uint64_t block_count);
  ~BlockMap();
  BlockMap(const BlockMap&) = delete;
  BlockMap& operator=(const BlockMap&) = delete;

  uint64_t block_count() const { return block_count_; }

  bool test(uint64_t block_index) const {
    return (words_[block_index / kWordBits].load() >> (block_index % kWordBits) & 1) != 0;
  }
  // Blocks [begin, end).
  void mark(uint64_t begin, uint64_t end);
  void merge(const BlockMap& other);
  void clear();

  uint64_t count() const;
  // First block in [from, end) whose bit is set (is clear); else `end`, or block_count() if that is less.
  // Looks no further: the rest of a map may be long.
  uint64_t next_set(uint64_t from, uint64_t end = UINT64_MAX) const;
  uint64_t next_clear(uint64_t from, uint64_t end = UINT64_MAX) const;
  bool any(uint64_t begin, uint64_t end) const { return next_set(begin, end) < end; }

  // The bits as bytes, least significant first: of a map file.
  uint64_t word_count() const { return word_count_; }
  uint64_t word(uint64_t index) const { return words_[index].load(); }
  void mark_word(uint64_t index, uint64_t bits);

  static constexpr uint64_t kWordBits = 64;

 private:
  template <class Word>
  uint64_t find(uint64_t from, uint64_t end, Word word_at) const;

  const uint64_t block_count_;
  const uint64_t word_count_;
  std::atomic<uint64_t>* words_ = nullptr;
};

}  // namespace stillpoint
