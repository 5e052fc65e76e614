// Options of Linux's TCP; see the header. Its own header has more of tcp_info than the C library's and excludes that.
#include "io/tcp_path.hpp"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>

namespace hawser::io {
namespace {

constexpr std::size_t name_bytes = 16;  // TCP_CA_NAME_MAX

}  // namespace

std::optional<TcpPath> tcp_path(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_busy_time) + sizeof(info.tcpi_busy_time)) return std::nullopt;
  TcpPath path;
  constexpr std::uint32_t unknown = ~0U;
  path.min_rtt_us = info.tcpi_min_rtt == unknown ? 0 : info.tcpi_min_rtt;
  path.rtt_us = info.tcpi_rtt;
  path.acked = info.tcpi_bytes_acked;
  path.unsent = info.tcpi_notsent_bytes;
  path.flying = std::uint64_t{info.tcpi_unacked} * info.tcpi_snd_mss;
  path.busy_us = static_cast<std::int64_t>(info.tcpi_busy_time);
  path.sent_segments = info.tcpi_data_segs_out;
  path.resent = info.tcpi_total_retrans;
  return path;
}

std::string congestion_control(int fd) {
  char name[name_bytes + 1] = {};
  socklen_t size = name_bytes;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size) != 0) return {};
  return name;
}

bool set_congestion_control(int fd, const std::string& name) {
  return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0;
}

void limit_unsent(int fd, int bytes) { setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes)); }

void limit_pace(int fd, std::uint64_t rate) {
  const std::uint64_t value = rate == 0 ? ~std::uint64_t{0} : rate;
  setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &value, sizeof(value));
}

void limit_window(int fd, int bytes) { setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof(bytes)); }

}  // namespace hawser::io
