// Small networks for tests: network namespaces joined by a bridge, whose links can be cut in one direction or both, or
// answer with resets. They have no names outside: everything vanishes with the process, however it ends. A thread
// enters a namespace; sockets and threads that it makes, and programs that it starts, live there.
//
// Root is needed, with ip(8) and nft(8). Where that is not allowed, `unavailable` says why and the test skips itself.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"

namespace hawser_test {

// The calling thread is in a network namespace until the end of the scope.
class Inside {
 public:
  explicit Inside(int ns) : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    if (before_ < 0 || setns(ns, CLONE_NEWNET) != 0) throw std::runtime_error("cannot enter a network namespace");
  }
  ~Inside() {
    if (setns(before_, CLONE_NEWNET) != 0) std::abort();  // nothing of this thread may go on elsewhere
    close(before_);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  int before_;
};

class Network {
 public:
  // `hosts` namespaces, 10.77.0.1 and so on, and one more with the bridge, 10.77.0.254, which sees all of them.
  explicit Network(std::size_t hosts) {
    bridge_ = make();
    in(bridge_,
       "ip link add br0 type bridge && ip addr add 10.77.0.254/24 dev br0 && ip link set br0 up && "
       "nft 'add table bridge parts\nadd chain bridge parts forward { type filter hook forward priority 0\n policy "
       "accept\n }\n'");
    let_in(bridge_);
    for (std::size_t i = 0; i < hosts; ++i) {
      hosts_.push_back(make());
      const std::string end = "h" + std::to_string(i);
      in(bridge_, "ip link add " + end + " type veth peer name p" + std::to_string(i) + " && ip link set p" +
                      std::to_string(i) + " netns " + path(hosts_[i]) + " && ip link set " + end +
                      " master br0 && ip link set " + end + " up");
      in(hosts_[i], "ip link set p" + std::to_string(i) + " name eth0 && ip addr add " + address(i) +
                        "/24 dev eth0 && ip link set eth0 up");
      heal(i);
    }
  }
  ~Network() {
    for (const int ns : hosts_) close(ns);
    close(bridge_);
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  [[nodiscard]] static std::string address(std::size_t host) { return "10.77.0." + std::to_string(host + 1); }
  [[nodiscard]] static std::string bridge_address() { return "10.77.0.254"; }
  [[nodiscard]] Inside enter(std::size_t host) const { return Inside(hosts_.at(host)); }
  [[nodiscard]] Inside enter_bridge() const { return Inside(bridge_); }

  // What `from` sends to `to` vanishes; with `port`, only what comes from or goes to that TCP port.
  void cut(std::size_t from, std::size_t to, std::uint16_t port = 0) const { rule(from, to, port, "drop"); }
  void cut_both(std::size_t one, std::size_t other) const {
    cut(one, other);
    cut(other, one);
  }
  // These groups of hosts hear nothing of one another, all from the same moment: whoever falls silent later than others
  // could still help to remove them.
  void partition(const std::vector<std::vector<std::size_t>>& sides) const {
    std::string rules = "flush chain bridge parts forward\n";
    for (const auto& one : sides) {
      for (const auto& other : sides) {
        if (&one == &other) continue;
        rules += "add rule bridge parts forward ip saddr " + set(one) + " ip daddr " + set(other) + " drop\n";
      }
    }
    in(bridge_, "nft '" + rules + "'");
  }
  // ... is answered with a reset.
  void reset(std::size_t from, std::size_t to) const { rule(from, to, 0, "reject with tcp reset"); }
  // Everything reaches `host` again.
  void heal(std::size_t host) const { let_in(hosts_.at(host)); }
  void heal() const {
    for (std::size_t i = 0; i < hosts_.size(); ++i) heal(i);
    let_in(bridge_);
    in(bridge_, "nft flush chain bridge parts forward");
  }
  // A shell command in the namespace of a host; throws with what it said when it fails.
  void run(std::size_t host, const std::string& command) const { in(hosts_.at(host), command); }
  void run_on_bridge(const std::string& command) const { in(bridge_, command); }

  // Why there can be none here; empty when there can.
  static std::string unavailable() {
    if (geteuid() != 0) return "network namespaces take root";
    try {
      const Network probe(1);
      probe.cut(0, 0);
      probe.partition({{0}, {0}});
      return {};
    } catch (const std::exception& error) {
      return error.what();
    }
  }

 private:
  static std::string path(int ns) { return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(ns); }

  // A thread leaves its old one for ever, so another one does it.
  static int make() {
    int ns = -1;
    std::thread([&ns] {
      if (unshare(CLONE_NEWNET) == 0) ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    }).join();
    if (ns < 0) throw std::runtime_error("no network namespace can be made here");
    in(ns, "ip link set lo up");
    return ns;
  }

  static void in(int ns, const std::string& command) {
    const Inside inside(ns);
    FILE* const shell = popen(("( " + command + " ) 2>&1").c_str(), "r");  // NOLINT(cert-env33-c): our own words
    if (shell == nullptr) throw std::runtime_error("cannot start a shell");
    std::string said;
    std::array<char, 256> line{};
    while (fgets(line.data(), line.size(), shell) != nullptr) said += line.data();
    if (pclose(shell) != 0) throw std::runtime_error(command + ": " + said);
  }

  static void let_in(int ns) {
    in(ns,
       "nft 'add table inet cuts\nflush table inet cuts\nadd chain inet cuts input { type filter hook "
       "input priority 0\n policy accept\n }\n'");
  }

  static std::string set(const std::vector<std::size_t>& hosts) {
    std::string out;
    for (const std::size_t host : hosts) out += (out.empty() ? "{ " : ", ") + address(host);
    return out + " }";
  }

  void rule(std::size_t from, std::size_t to, std::uint16_t port, const std::string& verdict) const {
    const std::string head = "add rule inet cuts input ip saddr " + address(from);
    std::string rules;
    if (port == 0) {
      rules = head + (verdict == "drop" ? " " : " meta l4proto tcp ") + verdict + "\n";
    } else {
      for (const char* side : {"sport", "dport"})
        rules.append(head + " tcp ").append(side).append(" " + std::to_string(port) + " " + verdict + "\n");
    }
    in(hosts_.at(to), "nft '" + rules + "'");
  }

  int bridge_ = -1;
  std::vector<int> hosts_;
};

// Where it is not allowed, a test says so and returns.
inline bool networks_unavailable() {
  const std::string why = Network::unavailable();
  if (!why.empty()) WARN("skipped: " + why);
  return !why.empty();
}

}  // namespace hawser_test
