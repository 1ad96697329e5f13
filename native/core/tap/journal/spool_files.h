// The port of a spool's directory: a directory for each journal, named by its id, with segments and the head
// that a clean end leaves. The program uses real files; tests cut and fail them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/id.h"
#include "core/tap/files/tap_file.h"

namespace stillpoint {

std::string journal_name(const Id& id);

// Each method throws errno names.
class SpoolFiles {
 public:
  struct Segment {
    uint64_t number;
    uint64_t bytes;
  };

  virtual ~SpoolFiles() = default;
  SpoolFiles(const SpoolFiles&) = delete;
  SpoolFiles& operator=(const SpoolFiles&) = delete;

  virtual std::vector<Id> journals() = 0;
  virtual void make_journal(const Id& journal) = 0;
  virtual void remove_journal(const Id& journal) = 0;
  // By their numbers.
  virtual std::vector<Segment> segments(const Id& journal) = 0;
  // New and empty. Neither it nor its name survives a power cut before make_closed().
  virtual std::unique_ptr<TapFile> make_segment(const Id& journal, uint64_t number) = 0;
  // For reading. Null: there is none.
  virtual std::unique_ptr<TapFile> open_segment(const Id& journal, uint64_t number) = 0;
  virtual void remove_segment(const Id& journal, uint64_t number) = 0;
  // The head that a clean end leaves. Null: there is none.
  virtual std::unique_ptr<TapFile> open_closed(const Id& journal) = 0;
  // Its name survives, and so do those of the segments.
  virtual std::unique_ptr<TapFile> make_closed(const Id& journal) = 0;
  // It is gone after a power cut, too. Harmless where there is none.
  virtual void remove_closed(const Id& journal) = 0;

  // Made, with mode 0700, if missing. Errno names.
  static std::unique_ptr<SpoolFiles> at(const std::string& directory);
  // One that is there, for one owner at a time. Errno names, `EBUSY`.
  static std::unique_ptr<SpoolFiles> own(const std::string& directory);

 protected:
  SpoolFiles() = default;
};

}  // namespace stillpoint
