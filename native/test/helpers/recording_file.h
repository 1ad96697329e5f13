// A tap's file in memory that remembers every write and sync, can lose power at any of them, and can fail.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/tap/files/tap_file.h"
#include "test/helpers/helpers.h"

namespace stillpoint::test {

struct Recording {
  struct Step {
    bool sync;
    uint64_t byte_offset;
    std::vector<uint8_t> bytes;
  };
  std::vector<Step> steps;
  std::vector<uint8_t> bytes;
  int write_error = 0;
  std::chrono::milliseconds write_takes{0};
  int sync_error = 0;
  bool removed = false;
  std::mutex mutex;

  void apply(uint64_t byte_offset, Bytes data) {
    if (bytes.size() < byte_offset + data.size()) bytes.resize(byte_offset + data.size());
    std::memcpy(bytes.data() + byte_offset, data.data(), data.size());
  }

  // The medium after the power went before step `end`: all that was synced, and of the rest any sectors.
  std::vector<uint8_t> after_power_cut(size_t end, Random& random) const {
    Recording medium;
    size_t synced = 0;
    for (size_t i = 0; i < end; i++) {
      if (steps[i].sync) synced = i;
    }
    const uint64_t taste = random.below(4);
    for (size_t i = 0; i < end; i++) {
      if (steps[i].sync) continue;
      const Bytes data = steps[i].bytes;
      for (size_t at = 0; at < data.size(); at += 512) {
        const bool survives = i < synced || taste == 0 || (taste != 1 && random.one_in(2));
        if (survives)
          medium.apply(steps[i].byte_offset + at, data.subspan(at, std::min<size_t>(512, data.size() - at)));
      }
    }
    return medium.bytes;
  }
};

class RecordingFile final : public TapFile {
 public:
  explicit RecordingFile(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {}

  const std::string& path() const override { return path_; }
  int read(uint64_t byte_offset, std::span<uint8_t> into) override {
    std::lock_guard lock(recording_->mutex);
    const auto& bytes = recording_->bytes;
    for (size_t i = 0; i < into.size(); i++)
      into[i] = byte_offset + i < bytes.size() ? bytes[byte_offset + i] : 0;
    return 0;
  }
  int write(uint64_t byte_offset, Bytes bytes) override {
    std::lock_guard lock(recording_->mutex);
    if (recording_->write_error != 0) return recording_->write_error;
    std::this_thread::sleep_for(recording_->write_takes);
    recording_->steps.push_back({false, byte_offset, {bytes.begin(), bytes.end()}});
    recording_->apply(byte_offset, bytes);
    return 0;
  }
  int discard(uint64_t byte_offset, uint64_t byte_length) override {
    std::lock_guard lock(recording_->mutex);
    auto& bytes = recording_->bytes;
    const size_t end = std::min<size_t>(bytes.size(), byte_offset + byte_length);
    if (byte_offset < end) std::memset(bytes.data() + byte_offset, 0, end - byte_offset);
    return 0;
  }
  int sync() override {
    std::lock_guard lock(recording_->mutex);
    if (recording_->sync_error != 0) return recording_->sync_error;
    recording_->steps.push_back({true, 0, {}});
    return 0;
  }
  int remove() override {
    std::lock_guard lock(recording_->mutex);
    recording_->removed = true;
    recording_->bytes.clear();
    return 0;
  }

 private:
  const std::string path_ = "recording";
  const std::shared_ptr<Recording> recording_;
};

inline std::unique_ptr<TapFile> file_of(std::vector<uint8_t> bytes) {
  auto recording = std::make_shared<Recording>();
  recording->bytes = std::move(bytes);
  return std::make_unique<RecordingFile>(recording);
}

}  // namespace stillpoint::test
