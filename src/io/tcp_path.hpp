// What the kernel knows of the way that a TCP connection takes, and what it may be told about it. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hawser::io {

struct TcpPath {
  std::int64_t min_rtt_us = 0;  // 0: not known yet
  std::int64_t rtt_us = 0;
  std::uint64_t acked = 0;   // bytes that the other end has acknowledged
  std::uint64_t unsent = 0;  // bytes that the kernel has taken and not sent
  std::uint64_t flying = 0;  // bytes that are sent and not acknowledged
  std::int64_t busy_us = 0;  // altogether, in which something was unsent or not acknowledged
  std::uint32_t sent_segments = 0;
  std::uint32_t resent = 0;  // of them, again
};

std::optional<TcpPath> tcp_path(int fd);  // none: not a TCP connection, or an old kernel

// The name of what controls congestion on the connection; empty: unknown.
std::string congestion_control(int fd);
// False: the kernel has it not, or does not permit it.
bool set_congestion_control(int fd, const std::string& name);
// The connection counts as writable only while less than this is taken and not sent. 0: as the system says.
void limit_unsent(int fd, int bytes);
// Bytes a second; 0: as fast as congestion control lets it.
void limit_pace(int fd, std::uint64_t rate);
// The receive window grows no further.
void limit_window(int fd, int bytes);

}  // namespace hawser::io
