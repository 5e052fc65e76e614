// See the header. A coordinator's port is bound here first and stays so, never listening: the child binds it again
// (SO_REUSEADDR), and while there is none the kernel gives it to nobody, not even to a peer that dials it.
#include "stress_cluster.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace tool {
namespace {

Descriptor hold_port(const std::string& host, std::uint16_t& port) {
  Descriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  socklen_t length = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if (!fd.is_open() || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd.get(), raw, length) != 0 || getsockname(fd.get(), raw, &length) != 0) {
    throw Failure(exit_resource, "no port for a coordinator at " + host);
  }
  port = ntohs(address.sin_port);
  return fd;
}

std::uint32_t heartbeat_ms(const StressOptions& options) {
  return std::max<std::uint32_t>(1, options.peer_timeout_ms / 6);
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  path_ = (std::filesystem::temp_directory_path() / "hawser-stress-XXXXXX").string();
  if (mkdtemp(path_.data()) == nullptr) throw Failure(exit_resource, "no temporary directory");
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Cluster::Cluster(const StressOptions& options, const ClusterNeeds& needs) : needs_(needs) {
  const std::size_t count = options.standbys + std::size_t{1};
  for (std::size_t i = needs.peers_max; i > 0; --i) free_slots_.push_back(i - 1);
  if (needs.network) network_.emplace(needs.peers_max + count);
  if (!needs.processes) {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.peer_timeout_ms = options.peer_timeout_ms;
    config.heartbeat_ms = heartbeat_ms(options);
    embedded_ = tool::start_coordinator(config);
    addresses_ = address_of(embedded_);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    CoordinatorProcess one;
    one.host = needs.peers_max + i;
    std::string host = "127.0.0.1";
    std::optional<Inside> inside;
    if (network_) {
      host = Network::address(one.host);
      inside.emplace(network_->ns(one.host));
    }
    std::uint16_t port = 0;
    one.port = hold_port(host, port);
    one.address = fmt::format("{}:{}", host, port);
    one.arguments = {"coordinator",
                     "--listen",
                     one.address,
                     "--parent",
                     fmt::to_string(getpid()),
                     "--peer-timeout-ms",
                     fmt::to_string(options.peer_timeout_ms),
                     "--heartbeat-ms",
                     fmt::to_string(heartbeat_ms(options))};
    if (options.coordinator_log != "none") {
      const std::string directory =
          fmt::format("{}/{}", options.coordinator_log.empty() ? directory_.path() : options.coordinator_log, i);
      std::error_code failed;
      std::filesystem::create_directories(directory, failed);
      if (failed) throw Failure(exit_resource, fmt::format("cannot make {}: {}", directory, failed.message()));
      one.arguments.insert(one.arguments.end(), {"--log-dir", directory});
    }
    for (const CoordinatorProcess& before : coordinators_)
      one.arguments.insert(one.arguments.end(), {"--standby-of", before.address});
    if (needs.kill_files) one.kill_file = kill_file(fmt::format("coordinator{}", i));
    addresses_ += (i == 0 ? "" : ",") + one.address;
    coordinators_.push_back(std::move(one));
  }
  for (CoordinatorProcess& one : coordinators_) start_coordinator(one);
}

void Cluster::start_coordinator(CoordinatorProcess& which) {
  ChildRequest request;
  request.arguments = which.arguments;
  request.stdout_is_null = true;
  if (!which.kill_file.empty()) {
    disarm(which.kill_file);
    request.environment.push_back("HAWSER_KILL_POINT=@" + which.kill_file);
  }
  which.is_killed = false;
  which.is_stopped = false;
  which.resume_ns = which.restart_ns = never;
  std::optional<Inside> inside;
  if (network_) inside.emplace(network_->ns(which.host));
  which.child.emplace(Child::start(request));
}

PeerPlace Cluster::take_place() {
  if (free_slots_.empty()) throw Failure(exit_failed, "more stress peers than there are places for");
  PeerPlace place;
  place.slot = free_slots_.back();
  free_slots_.pop_back();
  if (needs_.kill_files) place.kill_file = kill_file(fmt::format("peer{}", ++kill_files_));
  return place;
}

void Cluster::give_place_back(const PeerPlace& place) {
  free_slots_.push_back(place.slot);
  if (!place.kill_file.empty()) disarm(place.kill_file);
}

Child Cluster::start_peer(const ChildRequest& request, const PeerPlace& place) {
  ChildRequest placed = request;
  if (!place.kill_file.empty()) placed.environment.push_back("HAWSER_KILL_POINT=@" + place.kill_file);
  std::optional<Inside> inside;
  if (network_) inside.emplace(network_->ns(place.slot));
  return Child::start(placed);
}

bool Cluster::is_peer_address(const std::string& address) const {
  return std::none_of(coordinators_.begin(), coordinators_.end(),
                      [&](const auto& one) { return address == Network::address(one.host); });
}

std::string Cluster::kill_file(const std::string& whose) const { return directory_.path() + "/kill-" + whose; }

void Cluster::arm(const std::string& kill_file, std::string_view name, std::uint64_t passage) {
  const std::string text = fmt::format("{}:{}", name, passage);
  const std::string beside = kill_file + ".new";
  FILE* const file = std::fopen(beside.c_str(), "we");
  const bool is_written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  // Renamed when it is whole, so that nobody reads half of it.
  if (file == nullptr || std::fclose(file) != 0 || !is_written || std::rename(beside.c_str(), kill_file.c_str()) != 0)
    throw Failure(exit_resource, "cannot write " + kill_file);
}

void Cluster::disarm(const std::string& kill_file) { unlink(kill_file.c_str()); }

}  // namespace tool
