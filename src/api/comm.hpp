// The communicator's handle and what the calls that go through one share: state, outer and the collectives. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "api/handles.hpp"
#include "base/status.hpp"
#include "hawser/hawser.h"
#include "runtime/all_reduce_many.hpp"
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

// What some calls take besides.
struct Extras {
  bool uniform = false;
  runtime::Interrupted interrupted;
};

// Reads and checks the options of an operation; NULL: defaults. Without `extras` the call takes none.
Status read_options(const hawser_op_options_t* given, const Comm& comm, runtime::OpCall& call,
                    Extras* extras = nullptr);

struct Buffers {
  const void* send = nullptr;
  void* recv = nullptr;
  std::size_t count = 0;
  int dtype = 0;
  bool both = true;  // neither may be NULL
};
Status read_buffers(const Buffers& given, runtime::OpCall& call);
// What only makes sense together with the buffers.
Status check_coding(const runtime::OpCall& call);
Result<runtime::OpCall> all_reduce_call(int redop);

// info_out may be NULL.
Status check_info(const hawser_op_info_t* info_out);
void write_info(const runtime::OpReport& report, std::uint32_t runs, hawser_op_info_t* info_out);

}  // namespace hawser::api
