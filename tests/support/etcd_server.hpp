// A real etcd on ports of loopback that the kernel chose, with data in a temporary folder, for as long as this exists.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "runtime/etcd/gateway.hpp"
#include "support/inbox.hpp"

namespace hawser::test {

// A port that was free a moment ago: etcd wants to be told which.
inline std::uint16_t free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT: as the calls want it
  if (fd < 0 || bind(fd, generic, size) != 0 || getsockname(fd, generic, &size) != 0) throw std::runtime_error("bind");
  close(fd);
  return ntohs(address.sin_port);
}

class EtcdServer {
 public:
  // Where Debian and Ubuntu have it, or in PATH; empty: nowhere.
  static std::string program() {
    std::string path = "/usr/bin:";
    if (const char* more = std::getenv("PATH")) path += more;
    for (std::size_t begin = 0; begin < path.size();) {
      const std::size_t end = std::min(path.find(':', begin), path.size());
      const std::string file = path.substr(begin, end - begin) + "/etcd";
      if (access(file.c_str(), X_OK) == 0) return file;
      begin = end + 1;
    }
    return {};
  }

  explicit EtcdServer(bool ipv6 = false) : ipv6_(ipv6) {
    std::string name = (std::filesystem::temp_directory_path() / "hawser-etcd-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = name;
    for (int attempt = 0; attempt < 10; ++attempt) {  // somebody else may take a port before etcd does
      client_port_ = free_port();
      peer_port_ = free_port();
      std::filesystem::remove_all(folder_ / "data");
      if (launch()) return;
    }
    throw std::runtime_error("etcd does not start, see " + (folder_ / "log").string());
  }
  ~EtcdServer() {
    kill();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;

  [[nodiscard]] std::string endpoint() const { return "127.0.0.1:" + std::to_string(client_port_); }
  [[nodiscard]] std::string endpoint6() const { return "http://[::1]:" + std::to_string(client_port_); }

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  // Again with the same data and ports.
  void restart() {
    kill();
    if (!launch()) throw std::runtime_error("etcd does not start again");
  }
  void stop_clock() const { ::kill(pid_, SIGSTOP); }
  void start_clock() const { ::kill(pid_, SIGCONT); }

  Result<std::string> post(const std::string& path, const std::string& json) const {
    auto endpoint_here = runtime::parse_etcd_endpoint(endpoint());
    runtime::EtcdGateway gateway({endpoint_here.value()});
    return gateway.post(path, json, 5000);
  }

 private:
  bool launch() {
    const std::string client = "http://" + endpoint();
    const std::string peer = "http://127.0.0.1:" + std::to_string(peer_port_);
    const std::vector<std::string> words = {program(),
                                            "--name=one",
                                            "--data-dir=" + (folder_ / "data").string(),
                                            "--listen-client-urls=" + client + (ipv6_ ? "," + endpoint6() : ""),
                                            "--advertise-client-urls=" + client,
                                            "--listen-peer-urls=" + peer,
                                            "--initial-advertise-peer-urls=" + peer,
                                            "--initial-cluster=one=" + peer,
                                            "--heartbeat-interval=20",
                                            "--election-timeout=200"};
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));  // NOLINT: execv
    arguments.push_back(nullptr);
    const std::string log = (folder_ / "log").string();
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves none behind
      if (getppid() != parent) _exit(1);
      const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      dup2(out, STDOUT_FILENO);
      dup2(out, STDERR_FILENO);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
      if (waitpid(pid_, nullptr, WNOHANG) != 0) {
        pid_ = -1;
        return false;
      }
      if (post("/v3/kv/range", R"({"key":"YQ=="})").ok()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));  // nothing tells when it answers but asking it
    }
    kill();
    return false;
  }

  bool ipv6_;
  std::filesystem::path folder_;
  std::uint16_t client_port_ = 0;
  std::uint16_t peer_port_ = 0;
  pid_t pid_ = -1;
};

}  // namespace hawser::test
