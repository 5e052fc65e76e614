// A small network of this process: network namespaces joined by a bridge, with one address each, between which ways can
// be cut in one direction or both. Nothing of it has a name outside; it vanishes with the process, however that ends.
// And single TCP connections of other processes can be closed, there and on the machine's own loopback.
//
// Root is needed, with ip(8), nft(8) and ss(8). Main thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "child.hpp"

namespace tool {

// The calling thread is in a network namespace until the end of the scope: sockets that it makes and programs that it
// starts live there.
class Inside {
 public:
  explicit Inside(int ns);
  ~Inside();
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Descriptor before_;
};

class Network {
 public:
  // Throws a Failure that says what is missing.
  explicit Network(std::size_t hosts);

  [[nodiscard]] std::size_t size() const { return hosts_.size(); }
  [[nodiscard]] static std::string address(std::size_t host);
  // For Inside.
  [[nodiscard]] int ns(std::size_t host) const { return hosts_.at(host).ns.get(); }

  // What `from` sends to `to` vanishes on its way.
  void cut(std::size_t from, std::size_t to) { hosts_.at(to).deaf_to.insert(from); }
  void heal(std::size_t from, std::size_t to) { hosts_.at(to).deaf_to.erase(from); }
  // Makes it so since the last time.
  void apply();

 private:
  struct Host {
    Descriptor ns;
    std::set<std::size_t> deaf_to;
    std::set<std::size_t> applied;
  };
  std::vector<Host> hosts_;
  Descriptor bridge_;
};

// Closes one established TCP connection, drawn by `draw`, between two of these processes, with a reset to both ends.
// With a network, one that the process `victim` on `host` has with an address that `is_peer` knows. Says which; nothing
// when there is none.
std::optional<std::string> close_connection(const std::set<pid_t>& processes, const std::function<std::size_t()>& draw);
std::optional<std::string> close_connection(const Network& network, std::size_t host, pid_t victim,
                                            const std::function<bool(const std::string& address)>& is_peer,
                                            const std::function<std::size_t()>& draw);

}  // namespace tool
