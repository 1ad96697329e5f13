// The port of the tap's own files: its map, its preserve area, its journal. The program uses real files;
// tests record, cut and fail them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/base/digest.h"

namespace stillpoint {

// Reads and writes of different ranges may run at once. All answer 0 or an errno.
class TapFile {
 public:
  virtual ~TapFile() = default;
  TapFile(const TapFile&) = delete;
  TapFile& operator=(const TapFile&) = delete;

  virtual const std::string& path() const = 0;
  // Bytes behind the end of the file are zeros.
  virtual int read(uint64_t byte_offset, std::span<uint8_t> into) = 0;
  virtual int write(uint64_t byte_offset, Bytes bytes) = 0;
  // The range reads as zeros, and takes no space where the file system can do that.
  virtual int discard(uint64_t byte_offset, uint64_t byte_length) = 0;
  // What was written survives a power cut.
  virtual int sync() = 0;
  // The file is gone, after a power cut too; its space is free.
  virtual int remove() = 0;

  // A file and its directory entry, which survive; made if missing, mode 0600. Errno names.
  static std::unique_ptr<TapFile> open_named(const std::string& path);
  // A new file, mode 0600; it survives only after a sync of its directory. Errno names, EEXIST.
  static std::unique_ptr<TapFile> make(const std::string& path);
  // Null: there is none. For reading. Errno names.
  static std::unique_ptr<TapFile> open_existing(const std::string& path);
  // A file that is gone with its last user. Errno names.
  static std::unique_ptr<TapFile> open_unnamed(const std::string& directory);

 protected:
  TapFile() = default;
};

}  // namespace stillpoint
