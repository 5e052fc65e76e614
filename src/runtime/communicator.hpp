// One membership as a running thing: the control thread with its connection to a coordinator, the listener and the
// dialling of strands, and the engine with its io threads. Made when a join begins, destroyed when it failed or the
// user is done. Calls may come from any thread but the library's own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"
#include "codec/codec.hpp"
#include "io/address.hpp"
#include "runtime/data/engine.hpp"

namespace hawser::runtime {

inline constexpr std::size_t name_bytes_max = wire::name_bytes_max;
inline constexpr std::size_t members_max = wire::members_max;

inline constexpr std::uint32_t strands_auto = 0;  // bulk strands are added while they help

struct CommOptions {
  // From what users write; BAD_ADDRESS names the option and what is wrong with it.
  Status set_coordinators(std::string_view text);
  Status set_listen(std::string_view text);
  Status set_advertise(std::string_view text);
  Status set_port_range(std::string_view text);

  std::vector<io::Endpoint> coordinators;
  std::string name;
  std::uint32_t group = 0;
  std::uint32_t min_size = 1;
  std::uint32_t strands = strands_auto;
  std::uint32_t io_threads = 1;
  std::uint32_t straggler_ms = 0;  // 0: whoever is slow to enter an operation is waited for
  bool shares_memory = true;       // with peers of the same host
  io::Endpoint listen;             // host empty: every local address
  bool listen_set = false;
  io::Endpoint advertise;  // host empty: as the coordinator sees this peer
  io::PortRange ports;
  std::uint64_t codecs = codec::supported_codecs();  // that others are told of
};

class Communicator {
 public:
  // Starts threads; connects nothing yet. RESOURCE.
  static Result<std::unique_ptr<Communicator>> create(const CommOptions& options);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // Blocks until this peer is a member. After a failure the object is of no more use.
  Status join(std::int64_t timeout_ms);
  // Ends everything and joins the threads; the engine may still be asked about operations. More than once is fine, from
  // one thread at a time.
  void close();
  [[nodiscard]] Engine& engine();
  // The address at which a member is dialled from here.
  [[nodiscard]] static std::string address_of(const wire::PeerInfo& peer);

 private:
  class Control;
  Communicator();
  std::unique_ptr<Control> control_;
};

}  // namespace hawser::runtime
