// A tap as a whole: the device, the maps and the snapshot over it, a server for its users, a server for the
// session.
//
// State      users' I/O                   prepare, cut, commit      goes on to
// --------   --------------------------   -----------------------   -----------------------------------
// serving    on every address listened    yes                       stopped, by stop()
// stopped    none; the device is synced   no (`closed`)             closed, by close()
// closed     -                            -                         -
//
// A journal that can't be opened keeps nobody from anything: the tap serves without one, journal_status()
// says why, and each hold tries again.
//
// Locking: control_ lets one control call run at a time; status() and journal_status() do not wait for it.
// releasing_ lets one at a time have a journal's files: a release, a hold that is prepared, the end. It comes
// after control_, and no step from closing the gate to the instant takes it. failure_mutex_ guards
// journal_failure_ alone.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/nbd/exports/device_export.h"
#include "core/nbd/server.h"
#include "core/tap/export.h"
#include "core/tap/open_journal.h"
#include "core/tree/geometry.h"

namespace stillpoint {

struct TapOptions {
  std::string path;
  bool read_only = false;
  uint32_t block_size = 65536;
  std::string map_path;  // empty: changes are not remembered beyond this process
  std::string identity;
  std::string distrust;  // not empty: the map that is there is not to be believed, and why
  std::optional<TapJournalOptions> journal;
};

class Tap {
 public:
  // Errno names, `argument`.
  explicit Tap(const TapOptions& options);

  std::string listen(const std::string& address, const std::string& export_name);
  std::string listen_snapshot(const std::string& address);

  // The steps of a hold, as the export has them. The preserve area is a file without a name in the directory.
  void prepare(TapExport::HoldOptions options, const std::string& preserve_directory);
  std::chrono::nanoseconds close_gate(const TapExport::GateLimits& limits);
  void open_gate();
  TapExport::Hold cut();
  void abort();
  void commit();
  void mark(const std::vector<BlockRange>& ranges);
  void adopt(const Id& point, bool complete);
  void make_void(const std::string& reason);
  SourceState check_source() { return export_->check_source(); }
  // Nothing reaches the device afterwards, and all that was answered is on it. Errno names of the sync.
  void stop();
  // An error of the map is thrown; the map on disk is a superset then. Returns why the journal did not end
  // cleanly; empty: it did, or there is none.
  std::string close(const std::string& continuity);

  // As TapExport and TapJournal have them; without a journal there is nothing to do.
  std::optional<JournalPosition> stamp_journal() { return export_->stamp(); }
  void break_journal(const Id& journal, const std::string& reason);
  void release_journal(const Id& journal, uint64_t ordinal);
  struct JournalStatus {
    std::vector<JournalHead> heads;
    std::string failure;  // why there is none, or the last hold has none
    std::chrono::nanoseconds ahead{0};
  };
  // Nothing: it is to have none.
  std::optional<JournalStatus> journal_status() const;

  const TapOptions& options() const { return options_; }
  const TreeGeometry& geometry() const { return geometry_; }
  TapExport::Status status() const { return export_->status(); }
  const NbdCounters& counters() const { return users_.counters(); }
  size_t open_connections() const { return users_.open_connections(); }

 private:
  void check_serving() const;
  void try_journal(const std::string& distrust, const std::optional<Id>& goes_on);
  void unexport_snapshot();

  const TapOptions options_;
  std::shared_ptr<DeviceExport> device_;
  TreeGeometry geometry_;
  std::shared_ptr<TapExport> export_;
  NbdServer users_;
  NbdServer session_;
  std::mutex control_;
  std::mutex releasing_;
  mutable std::mutex failure_mutex_;
  std::string journal_failure_;
  std::atomic<bool> stopped_{false};
  std::string snapshot_name_;
};

}  // namespace stillpoint
