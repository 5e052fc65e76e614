// What a stress peer tells its supervisor, as records in a pipe: each call before it is made and after it has returned.
// One write a record, below PIPE_BUF, so records never interleave or arrive in part; the supervisor still reassembles
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace tool {

enum class ReportKind : std::uint32_t {
  begin,     // a call is about to be made
  end,       // a call that is no operation has returned
  result,    // an operation has ended for good: `status` is its outcome at this peer
  repeat,    // an operation was lost with a peer (PEER_LOST) and is about to be made again
  joined,    // this peer is a member; participants[0] is its own short id
  expelled,  // this peer was removed and joins anew
  error,     // a status that nothing explains; `text` says which
  damage,    // wrong values, or an input that a failed call has changed; `wrong` elements, `text` says where
};

enum class ReportCall : std::uint32_t {
  none,
  join,
  admit,
  sync,
  start,
  all_reduce,
  broadcast,
  barrier,
  state_sync,
  leave
};
inline constexpr std::size_t report_call_count = 10;
const char* report_call_name(ReportCall call);

inline constexpr std::size_t report_participants_max = 64;

struct Report {
  std::uint32_t size = 0;  // bytes of this record in the pipe: participants and text are sent only when used
  ReportKind kind = ReportKind::begin;
  ReportCall call = ReportCall::none;
  std::int32_t status = 0;
  std::uint64_t time_ns = 0;  // CLOCK_MONOTONIC, which all processes of a machine share
  std::uint64_t round = 0;
  std::uint32_t op = 0;           // index in the round; 0 is the round's sync
  std::uint32_t deadline_ms = 0;  // of the call
  std::uint64_t view = 0;
  std::uint64_t digest = 0;           // of the result
  std::uint64_t identity_digest = 0;  // of the participants' full ids, in rank order
  std::uint64_t duration_us = 0;
  std::uint64_t wrong = 0;
  std::uint32_t attempts = 0;
  std::uint32_t was_cancelled = 0;  // of an error: this peer had cancelled the operation itself
  std::uint32_t participant_count = 0;
  std::array<std::uint32_t, report_participants_max> participants{};  // the first 4 bytes of each id
  std::array<char, 240> text{};

  [[nodiscard]] std::span<const std::uint32_t> members() const {
    return {participants.data(), participant_count < participants.size() ? participant_count : participants.size()};
  }
  void set_text(std::string_view value);
};

// Cuts the stream of one pipe into records.
class ReportStream {
 public:
  void append(const std::byte* data, std::size_t bytes) { buffer_.insert(buffer_.end(), data, data + bytes); }
  // The next whole record. Nothing: more bytes are needed. `broken` is set when the bytes are no record.
  std::optional<Report> next(bool& broken);

 private:
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;
};

// Writes one record; false when the reader is gone.
bool write_report(int fd, Report& report);

std::uint64_t monotonic_ns();

}  // namespace tool
