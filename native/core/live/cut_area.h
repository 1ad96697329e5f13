// Memory that the agent shares with the process that takes the cut: what the cut goes by, and what it has
// read. It is made by the agent, and passed on as a descriptor (memfd_create).
//
// The unit of a copy is the larger one of the session's block and the tracker's grain: a unit is held as a
// whole, or not at all.
//
//   header | pending: a bit for each grain | staged: a bit for each unit | pieces | data
//
// One side at a time writes to it: the agent before the cut, the cut, and the agent again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "core/track/bpf.h"

namespace stillpoint {

struct CutGeometry {
  uint64_t device_bytes;
  uint64_t grain_bytes;
  uint64_t unit_bytes;
  uint64_t data_bytes_max;

  uint64_t word_count() const;  // of 64 grains each
  uint64_t unit_count() const { return (device_bytes + unit_bytes - 1) / unit_bytes; }
  uint64_t unit_words() const { return (unit_count() + 63) / 64; }
  uint64_t pieces_max() const { return data_bytes_max / grain_bytes; }
};

// Bytes of the device, read at the cut.
struct CutPiece {
  uint64_t byte_offset;
  uint64_t byte_length;
  uint64_t data_offset;
};

struct CutRange {
  uint64_t begin;
  uint64_t end;
};

enum class CutState : uint32_t {
  none = 0,      // not taken, or ended before it was complete
  complete = 1,  // all that was marked is in the pieces
  too_much = 2,  // more than fits: nothing was read
  failed = 3,    // a read failed, see `error`
};

struct CutResult {
  static constexpr uint64_t kWrittenMax = 64;

  CutState state;
  int32_t error;  // an errno
  uint64_t error_offset;
  uint64_t wanted_bytes;  // of all pieces, also if they are too many,
  uint64_t ahead_bytes;   // and of those that were read before the freeze
  uint64_t piece_count;
  // Grains that were written while the cut was taken: the first of them. `written_more`: there are others.
  uint64_t written_count;
  CutRange written[kWrittenMax];
  bool written_more;
  uint64_t marks_ns;  // of taking the marks,
  uint64_t read_ns;   // and of reading
};

class CutArea {
 public:
  // `argument` for a geometry that is out of bounds.
  static CutArea create(const CutGeometry& geometry);
  // For the process that takes the cut. `bad-cut-area` for what is none, or if another one has it open.
  static CutArea open(UniqueFd memory);
  // Whether a process has it open for a cut: it may be taking marks, and reading into it, whatever it has
  // said, until it has ended.
  bool has_cutter() const;

  CutArea(CutArea&& other) noexcept;
  CutArea(const CutArea&) = delete;
  CutArea& operator=(CutArea&&) = delete;
  ~CutArea();

  int fd() const { return memory_.get(); }
  const CutGeometry& geometry() const { return geometry_; }
  CutResult& result() const;
  // How much of `data` the next cut may use: what it does not use costs neither memory nor time.
  void limit_data(uint64_t bytes);
  // What each of them is: live_copy.h.
  std::span<uint64_t> pending() const;
  std::span<uint64_t> staged() const;
  std::span<CutPiece> pieces() const;
  std::span<uint8_t> data() const;

 private:
  struct Header;

  CutArea(UniqueFd memory, const CutGeometry& geometry);
  void map(uint64_t bytes, int flags);
  Header& header() const;

  UniqueFd memory_;
  UniqueFd lock_;  // of the process that takes the cut: the kernel gives it up when that ends
  CutGeometry geometry_;
  uint64_t pending_begin_, staged_begin_, pieces_begin_, data_begin_, end_;
  uint64_t mapped_bytes_ = 0;
  uint8_t* bytes_ = nullptr;
};

// Tells take(word) of each word that has a bit, in their order. Most of the many are zero.
template <class Take>
void for_set_words(std::span<const uint64_t> words, Take take) {
  constexpr size_t kTogether = 8;
  for (size_t begin = 0; begin < words.size(); begin += kTogether) {
    const auto some = words.subspan(begin, std::min(kTogether, words.size() - begin));
    uint64_t any = 0;
    for (const uint64_t word : some) any |= word;
    if (any == 0) continue;
    for (size_t i = 0; i < some.size(); i++) {
      if (words[begin + i] != 0) take(begin + i);
    }
  }
}

inline bool has_bit(std::span<const uint64_t> bits, uint64_t index) {
  return (bits[index / 64] >> (index % 64) & 1) != 0;
}
inline void set_bit(std::span<uint64_t> bits, uint64_t index) {
  bits[index / 64] |= uint64_t{1} << (index % 64);
}
inline void clear_bit(std::span<uint64_t> bits, uint64_t index) {
  bits[index / 64] &= ~(uint64_t{1} << (index % 64));
}

}  // namespace stillpoint
