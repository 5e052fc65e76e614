// Namespaces by unshare and setns, links by ip(8), cuts by rules of nft(8) where packets arrive, connections by ss(8).
#include "network.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>
#include <utility>

#include "command.hpp"

namespace tool {
namespace {

std::string path_of(int ns) { return fmt::format("/proc/{}/fd/{}", getpid(), ns); }

// What a shell command printed. Throws with that when it fails.
std::string output_of(const std::string& command) {
  FILE* const shell = popen(("( " + command + " ) 2>&1").c_str(), "re");  // NOLINT(cert-env33-c): our own words
  if (shell == nullptr) throw Failure(exit_resource, "cannot start a shell");
  std::string said;
  std::array<char, 4096> part{};
  while (const std::size_t bytes = fread(part.data(), 1, part.size(), shell)) said.append(part.data(), bytes);
  if (pclose(shell) != 0) throw Failure(exit_resource, fmt::format("{}: {}", command, said));
  return said;
}

// A thread leaves its old namespace for ever, so another one does it.
Descriptor make_namespace() {
  int ns = -1;
  std::thread([&ns] {
    if (unshare(CLONE_NEWNET) == 0) ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  }).join();
  if (ns < 0) throw Failure(exit_resource, "network namespaces cannot be made here: that takes root");
  return Descriptor(ns);
}

void run_in(int ns, const std::string& command) {
  const Inside inside(ns);
  output_of(command);
}

struct Connection {
  std::string local;
  std::string remote;
  pid_t pid = 0;
};

// Of the namespace in which the thread is. A line: 0 0 LOCAL REMOTE users:(("name",pid=1,fd=2))
std::vector<Connection> established() {
  std::istringstream lines(output_of("ss -tnpHO state established"));
  std::vector<Connection> out;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string received;
    std::string sent;
    Connection one;
    words >> received >> sent >> one.local >> one.remote;
    const std::size_t at = line.find("pid=");
    if (at == std::string::npos || one.remote.empty()) continue;
    one.pid = static_cast<pid_t>(std::strtol(line.c_str() + at + 4, nullptr, 10));
    out.push_back(std::move(one));
  }
  return out;
}

std::string close_one(const std::vector<Connection>& candidates, const std::function<std::size_t()>& draw) {
  const Connection& one = candidates[draw() % candidates.size()];
  // Nothing is closed when it has ended in the meantime, which is as good.
  const std::string said = output_of(fmt::format("ss -K -tnHO src '{}' dst '{}'", one.local, one.remote));
  if (said.find("not supported") != std::string::npos)
    throw Failure(exit_resource, "this kernel cannot close connections of others (ss -K): " + said);
  return fmt::format("{} to {}", one.local, one.remote);
}

}  // namespace

Inside::Inside(int ns) : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  if (!before_.is_open() || setns(ns, CLONE_NEWNET) != 0)
    throw Failure(exit_resource, "a network namespace cannot be entered: that takes root");
}

Inside::~Inside() {
  if (setns(before_.get(), CLONE_NEWNET) != 0) std::abort();  // nothing of this thread may go on elsewhere
}

Network::Network(std::size_t hosts) {
  bridge_ = make_namespace();
  run_in(bridge_.get(), "ip link set lo up && ip link add br0 type bridge && ip link set br0 up");
  for (std::size_t i = 0; i < hosts; ++i) {
    Host host{make_namespace(), {}, {}};
    run_in(bridge_.get(), fmt::format("ip link add h{0} type veth peer name p{0} && ip link set p{0} netns {1} && "
                                      "ip link set h{0} master br0 && ip link set h{0} up",
                                      i, path_of(host.ns.get())));
    run_in(host.ns.get(), fmt::format("ip link set lo up && ip link set p{0} name eth0 && "
                                      "ip addr add {1}/16 dev eth0 && ip link set eth0 up && "
                                      "nft 'add table inet cuts\nadd chain inet cuts input {{ type filter hook input "
                                      "priority 0\n policy accept\n }}\n'",
                                      i, address(i)));
    hosts_.push_back(std::move(host));
  }
}

std::string Network::address(std::size_t host) { return fmt::format("10.77.{}.{}", host / 250, host % 250 + 1); }

void Network::apply() {
  for (Host& host : hosts_) {
    if (host.deaf_to == host.applied) continue;
    std::string rules = "flush chain inet cuts input\n";
    for (const std::size_t from : host.deaf_to)
      rules += fmt::format("add rule inet cuts input ip saddr {} drop\n", address(from));
    run_in(host.ns.get(), "nft '" + rules + "'");
    host.applied = host.deaf_to;
  }
}

std::optional<std::string> close_connection(const std::set<pid_t>& processes,
                                            const std::function<std::size_t()>& draw) {
  const std::vector<Connection> all = established();
  std::set<std::string> theirs;
  for (const Connection& one : all) {
    if (processes.contains(one.pid)) theirs.insert(one.local);
  }
  std::vector<Connection> candidates;
  for (const Connection& one : all) {
    if (processes.contains(one.pid) && theirs.contains(one.remote)) candidates.push_back(one);
  }
  if (candidates.empty()) return std::nullopt;
  return close_one(candidates, draw);
}

std::optional<std::string> close_connection(const Network& network, std::size_t host, pid_t victim,
                                            const std::function<bool(const std::string& address)>& is_peer,
                                            const std::function<std::size_t()>& draw) {
  const Inside inside(network.ns(host));
  std::vector<Connection> candidates;
  for (Connection& one : established()) {
    if (one.pid == victim && is_peer(one.remote.substr(0, one.remote.rfind(':')))) candidates.push_back(std::move(one));
  }
  if (candidates.empty()) return std::nullopt;
  return close_one(candidates, draw);
}

}  // namespace tool
