// The one exception type of the native core. `code` is an errno name ("EIO") or one of NativeErrorCode in
// src/native/index.ts.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace stillpoint {

class NativeError : public std::runtime_error {
 public:
  static constexpr int64_t kNoOffset = -1;

  NativeError(std::string code, const std::string& message, std::string path = {},
              int64_t byte_offset = kNoOffset);

  const std::string& code() const { return code_; }
  // Empty where unknown.
  const std::string& path() const { return path_; }
  // kNoOffset where unknown.
  int64_t byte_offset() const { return byte_offset_; }

 private:
  std::string code_;
  std::string path_;
  int64_t byte_offset_;
};

// "No space left on device"; safe on any thread.
std::string describe_errno(int error_number);

// Throws for a failed system call: "PATH: ACTION: strerror". Pass errno by value: building the message may
// change it.
[[noreturn]] void throw_errno(int error_number, const std::string& action, const std::string& path = {},
                              int64_t byte_offset = NativeError::kNoOffset);

}  // namespace stillpoint
