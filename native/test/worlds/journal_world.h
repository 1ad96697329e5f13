// A journal in a directory of its own, with faults and kills at any step of its I/O; and what a reader of it
// makes of it.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/tap/journal/journal.h"
#include "test/helpers/helpers.h"
#include "test/helpers/recording_file.h"

namespace stillpoint::test {

// What happens to the I/O of a spool.
struct SpoolFaults {
  std::atomic<int> steps{0};
  std::atomic<int> fail_at{-1};  // the step from which on all fail; a write is done by half then
  std::atomic<bool> fails_once{false};
  std::atomic<int> error{EIO};
  std::function<void()> before_step;     // as a kill would find it
  std::atomic<uint32_t> slow_one_in{0};  // of the writes; 0: none

  int step() {
    if (before_step) before_step();
    const int number = steps++;
    const bool fails = fail_at >= 0 && (fails_once ? number == fail_at : number >= fail_at);
    return fails ? error.load() : 0;
  }
};

class FaultyFile final : public TapFile {
 public:
  FaultyFile(std::unique_ptr<TapFile> file, std::shared_ptr<SpoolFaults> faults)
      : file_(std::move(file)), faults_(std::move(faults)) {}
  const std::string& path() const override { return file_->path(); }
  int read(uint64_t byte_offset, std::span<uint8_t> into) override { return file_->read(byte_offset, into); }
  int write(uint64_t byte_offset, Bytes bytes) override {
    const int error = faults_->step();
    if (const uint32_t one_in = faults_->slow_one_in; one_in != 0 && byte_offset / 7 % one_in == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    const int written = file_->write(byte_offset, error == 0 ? bytes : bytes.first(bytes.size() / 2));
    return error != 0 ? error : written;
  }
  int discard(uint64_t byte_offset, uint64_t byte_length) override {
    return file_->discard(byte_offset, byte_length);
  }
  int sync() override {
    const int error = faults_->step();
    return error != 0 ? error : file_->sync();
  }
  int remove() override { return file_->remove(); }

 private:
  const std::unique_ptr<TapFile> file_;
  const std::shared_ptr<SpoolFaults> faults_;
};

class FaultySpoolFiles final : public SpoolFiles {
 public:
  FaultySpoolFiles(const std::string& directory, std::shared_ptr<SpoolFaults> faults)
      : files_(SpoolFiles::at(directory)), faults_(std::move(faults)) {}
  std::vector<Id> journals() override { return files_->journals(); }
  void make_journal(const Id& journal) override {
    step();
    files_->make_journal(journal);
  }
  void remove_journal(const Id& journal) override {
    step();
    files_->remove_journal(journal);
  }
  std::vector<Segment> segments(const Id& journal) override { return files_->segments(journal); }
  std::unique_ptr<TapFile> make_segment(const Id& journal, uint64_t number) override {
    step();
    return std::make_unique<FaultyFile>(files_->make_segment(journal, number), faults_);
  }
  std::unique_ptr<TapFile> open_segment(const Id& journal, uint64_t number) override {
    return files_->open_segment(journal, number);
  }
  void remove_segment(const Id& journal, uint64_t number) override {
    step();
    files_->remove_segment(journal, number);
  }
  std::unique_ptr<TapFile> open_closed(const Id& journal) override { return files_->open_closed(journal); }
  std::unique_ptr<TapFile> make_closed(const Id& journal) override {
    step();
    return std::make_unique<FaultyFile>(files_->make_closed(journal), faults_);
  }
  void remove_closed(const Id& journal) override {
    step();
    files_->remove_closed(journal);
  }

 private:
  void step() {
    if (const int error = faults_->step(); error != 0) throw_errno(error, "a fault");
  }
  const std::unique_ptr<SpoolFiles> files_;
  const std::shared_ptr<SpoolFaults> faults_;
};

struct StoredRecord {
  JournalRecord record;
  std::vector<uint8_t> payload;
};

// Directories spool/ and run/ below it.
struct JournalWorld {
  JournalWorld() {
    std::filesystem::create_directory(directory / "spool");
    std::filesystem::create_directory(directory / "run");
  }

  std::unique_ptr<WriteClock> make_clock() {
    WriteClock::Options options;
    options.word_path = directory / "run/write-clock";
    options.lock_path = directory / "clock.lock";
    options.reservation = std::make_unique<RecordingFile>(reservation);
    options.new_id = next_id();
    options.boot = boot;
    return std::make_unique<WriteClock>(std::move(options));
  }

  TapJournal::Options options() {
    TapJournal::Options options;
    options.files = std::make_unique<FaultySpoolFiles>(directory / "spool", faults);
    options.clock = make_clock();
    options.head_directory = directory / "run";
    options.boot = boot;
    options.bytes_max = bytes_max;
    options.segment_bytes = segment_bytes;
    options.distrust = distrust;
    options.random_id = [this] { return next_id(); };
    return options;
  }
  std::unique_ptr<TapJournal> make() { return std::make_unique<TapJournal>(options()); }

  Id next_id() {
    Id id{};
    id[0] = static_cast<uint8_t>(++ids);
    id[15] = 0xab;
    return id;
  }

  std::optional<JournalHead> published(const Id& journal) const {
    return read_head(directory / ("run/" + journal_name(journal) + ".head"), boot);
  }

  // All that may be read, from the oldest segment to the head, proven to be without gaps and in order.
  std::vector<StoredRecord> read_to(const JournalHead& head) const {
    std::vector<StoredRecord> records;
    const auto files = SpoolFiles::at(directory / "spool");
    for (const auto& [number, size] : files->segments(head.journal)) {
      if (number > head.segment) break;
      const uint64_t end = number == head.segment ? head.end_offset : size;
      const auto file = files->open_segment(head.journal, number);
      REQUIRE(file != nullptr);
      std::vector<uint8_t> bytes(end);
      REQUIRE(file->read(0, bytes) == 0);
      for (Bytes left = bytes; !left.empty();) {
        const JournalRecordView view = parse_journal_record(left);
        check_journal_record(view);
        if (!records.empty()) {
          REQUIRE(view.record.ordinal == records.back().record.ordinal + 1);
          REQUIRE(view.record.stamp > records.back().record.stamp);
        }
        records.push_back({view.record, {view.payload().begin(), view.payload().end()}});
        left = left.subspan(view.bytes.size());
      }
    }
    if (!records.empty()) {
      REQUIRE(records.back().record.ordinal == head.ordinal);
      REQUIRE(records.back().record.stamp == head.stamp);
    }
    return records;
  }

  TemporaryDirectory directory;
  std::shared_ptr<Recording> reservation = std::make_shared<Recording>();
  std::shared_ptr<SpoolFaults> faults = std::make_shared<SpoolFaults>();
  std::string boot = "boot-1";
  std::string distrust;
  uint64_t bytes_max = 64 << 20;
  uint64_t segment_bytes = 64 << 10;
  std::atomic<int> ids{0};
};

inline void replay(const StoredRecord& stored, std::vector<uint8_t>& image) {
  const JournalRecord& record = stored.record;
  uint8_t* const at = image.data() + record.byte_offset;
  REQUIRE(record.byte_offset + record.byte_length <= image.size());
  if (record.kind == JournalKind::write) std::memcpy(at, stored.payload.data(), stored.payload.size());
  if (record.kind == JournalKind::zero) std::memset(at, 0, record.byte_length);
}

}  // namespace stillpoint::test
