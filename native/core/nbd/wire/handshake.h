// The server's side of the fixed newstyle handshake (NBD specification, "Fixed newstyle negotiation"), driven
// by bytes.
//
// States                 next
//   client_flags           options, or closed (unknown flags)
//   options                options (answered), skipping (too large), transmission (GO, EXPORT_NAME), closed
//   skipping               options, when the data of the refused option is over
//   transmission, closed   final
//
// One thread at a time; nothing is locked here.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/nbd/wire/codec.h"

namespace stillpoint {

// Where a connection finds exports.
class NbdDirectory {
 public:
  struct Entry {
    std::string name;  // in full, also where the default was asked for
    NbdExport::Properties properties;
  };

  virtual ~NbdDirectory() = default;
  NbdDirectory(const NbdDirectory&) = delete;
  NbdDirectory& operator=(const NbdDirectory&) = delete;

  // Name and description of each.
  virtual std::vector<std::pair<std::string, std::string>> list() = 0;
  // The empty name stands for the only export.
  virtual std::optional<Entry> find(const std::string& name) = 0;
  // From now on this connection uses the export. Null: it is gone.
  virtual std::shared_ptr<NbdExport> attach(const std::string& name) = 0;

 protected:
  NbdDirectory() = default;
};

class NbdHandshake {
 public:
  enum class State { client_flags, options, skipping, transmission, closed };

  // The greeting is appended to `out`.
  NbdHandshake(NbdDirectory& directory, std::vector<uint8_t>& out);

  // Takes whole messages off the front of `in`, appends the answers to `out`, and returns how many bytes it
  // took. What is left is an incomplete message (never more than an option of kNbdOptionBytesMax) or belongs
  // to the transmission.
  size_t consume(Bytes in, std::vector<uint8_t>& out);

  State state() const { return state_; }
  // In state transmission.
  const std::shared_ptr<NbdExport>& served_export() const { return export_; }
  const NbdTerms& terms() const { return terms_; }

 private:
  size_t take_message(Bytes in, NbdHandshakeWriter& writer);
  void take_option(uint32_t option, Bytes data, NbdHandshakeWriter& writer);
  void take_export_name(Bytes data, NbdHandshakeWriter& writer);
  void take_list(uint32_t option, Bytes data, NbdHandshakeWriter& writer);
  void take_info(uint32_t option, Bytes data, NbdHandshakeWriter& writer);
  void take_contexts(uint32_t option, Bytes data, NbdHandshakeWriter& writer);
  bool enter_transmission(NbdDirectory::Entry& entry, bool keeps_to_blocks);

  NbdDirectory& directory_;
  State state_ = State::client_flags;
  uint64_t skip_bytes_ = 0;
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  bool structured_ = false;
  // Of the last SET_META_CONTEXT: they count for the export that it named only.
  std::string contexts_export_;
  std::vector<std::pair<uint32_t, std::string>> contexts_;
  std::shared_ptr<NbdExport> export_;
  NbdTerms terms_;
};

}  // namespace stillpoint
