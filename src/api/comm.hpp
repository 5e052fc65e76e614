// The communicator's handle and what the calls that go through one share: state, outer and the collectives. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "api/handles.hpp"
#include "base/status.hpp"
#include "hawser/hawser.h"
#include "runtime/communicator.hpp"

namespace hawser::api {

inline constexpr std::uint32_t timeout_ms_default = 60000;

// What a hawser_comm_t stands for. A session is one membership; a failed or expelled one is replaced by the next join.
struct Comm {
  runtime::CommOptions options;
  std::uint32_t join_timeout_ms = timeout_ms_default;
  std::uint32_t op_timeout_ms = timeout_ms_default;
  bool strict = false;

  std::mutex mutex;  // guards the rest
  std::condition_variable idle;
  std::shared_ptr<runtime::Communicator> session;
  bool joining = false;
  bool aborted = false;
  std::size_t calls = 0;  // of other threads, inside
};

Registry<Comm, hawser_comm_t>& comms();

// A call inside a communicator: destroy waits for it to return.
class Call {
 public:
  explicit Call(const hawser_comm_t* handle);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  [[nodiscard]] const Status& status() const { return status_; }  // whether there is a session
  [[nodiscard]] bool valid() const { return comm_ != nullptr; }
  [[nodiscard]] Comm& comm() const { return *comm_; }
  [[nodiscard]] const std::shared_ptr<runtime::Communicator>& session() const { return session_; }
  [[nodiscard]] runtime::Engine& engine() const { return session_->engine(); }

 private:
  std::shared_ptr<Comm> comm_;
  std::shared_ptr<runtime::Communicator> session_;
  Status status_;
};

// Reads and checks the options of an operation; NULL: defaults.
Status read_options(const hawser_op_options_t* given, const Comm& comm, runtime::OpCall& call);

}  // namespace hawser::api
