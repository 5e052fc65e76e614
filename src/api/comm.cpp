// The communicator's and the operations' calls of the C API: they check arguments, translate, and leave every decision
// to the runtime.
#include "api/comm.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <thread>

#include "api/compression.hpp"
#include "api/handles.hpp"
#include "api/support.hpp"
#include "base/text.hpp"
#include "base/types.hpp"
#include "runtime/communicator.hpp"

namespace hawser::api {
namespace {

Status aborted() { return {Code::ABORTED, "this communicator was aborted; only hawser_comm_destroy remains"}; }

}  // namespace

Registry<Comm, hawser_comm_t>& comms() {
  static auto* registry = new Registry<Comm, hawser_comm_t>();
  return *registry;
}

Call::Call(const hawser_comm_t* handle) : comm_(comms().find(handle)) {
  if (!comm_) {
    status_ = Status(Code::INVALID_HANDLE, "the communicator handle is NULL or was destroyed");
    return;
  }
  const std::lock_guard hold(comm_->mutex);
  session_ = comm_->session;
  if (comm_->aborted) {
    status_ = aborted();
  } else if (!session_) {
    status_ = Status(Code::NOT_MEMBER, "not a member of the group; call hawser_comm_join first");
  }
  ++comm_->calls;  // last: what throws before is not destroyed
}

Call::~Call() {
  if (!comm_) return;
  const std::lock_guard hold(comm_->mutex);
  if (--comm_->calls == 0) comm_->idle.notify_all();
}

namespace {

constexpr std::uint32_t strands_max = 64;
constexpr std::uint32_t io_threads_max = 64;

struct Op {
  std::shared_ptr<runtime::Communicator> session;
  std::shared_ptr<runtime::OpRun> run;
};

Registry<Op, hawser_op_t>& ops() {
  static auto* registry = new Registry<Op, hawser_op_t>();
  return *registry;
}

std::string default_name() {
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  const std::string suffix = fmt::format("/{}", getpid());
  return clean_text(host, runtime::name_bytes_max - suffix.size()) + suffix;
}

Status read_config(const hawser_comm_config_t* given, Comm& comm) {
  hawser_comm_config_t config;
  if (Status status = read_sized(given, "hawser_comm_config_t", config); !status.ok()) return status;
  runtime::CommOptions& options = comm.options;
  const char* coordinators = config.coordinators != nullptr ? config.coordinators : std::getenv("HAWSER_COORDINATORS");
  if (coordinators == nullptr || *coordinators == '\0') {
    return {Code::INVALID_ARGUMENT,
            "no coordinator is given: set config.coordinators or HAWSER_COORDINATORS to HOST:PORT"};
  }
  if (Status status = options.set_coordinators(coordinators); !status.ok()) return status;
  options.name = config.name != nullptr ? config.name : default_name();
  if (options.name.size() > runtime::name_bytes_max || !valid_text(options.name)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("name must be at most {} bytes of UTF-8 without control characters", runtime::name_bytes_max)};
  }
  options.group = config.group;
  options.min_size = config.min_size == 0 ? 1 : config.min_size;
  if (options.min_size > runtime::members_max) {
    return {Code::INVALID_ARGUMENT, fmt::format("min_size {} is more than the {} members a group can have",
                                                config.min_size, runtime::members_max)};
  }
  options.strands = config.strands;  // 0: automatic
  if (options.strands > strands_max) {
    return {Code::INVALID_ARGUMENT, fmt::format("strands is {}; at most {}", config.strands, strands_max)};
  }
  const std::uint32_t cores = std::max(1U, std::thread::hardware_concurrency());
  options.io_threads = config.io_threads == 0 ? std::clamp(cores / 2, 1U, 4U) : config.io_threads;
  if (options.io_threads > io_threads_max) {
    return {Code::INVALID_ARGUMENT, fmt::format("io_threads is {}; at most {}", config.io_threads, io_threads_max)};
  }
  if (config.listen != nullptr) {
    if (Status status = options.set_listen(config.listen); !status.ok()) return status;
  }
  if (config.advertise != nullptr) {
    if (Status status = options.set_advertise(config.advertise); !status.ok()) return status;
  }
  const char* range = config.port_range != nullptr ? config.port_range : std::getenv("HAWSER_PORT_RANGE");
  if (range != nullptr && *range != '\0') {
    if (Status status = options.set_port_range(range); !status.ok()) return status;
  }
  if (config.policy > HAWSER_POLICY_STRICT) {
    return {Code::INVALID_ARGUMENT, fmt::format("policy {} is no hawser_policy_t", config.policy)};
  }
  if (config.reserved != 0) return {Code::UNSUPPORTED, "hawser_comm_config_t.reserved is not 0"};
  if (config.transport > HAWSER_TRANSPORT_TCP) {
    return {Code::INVALID_ARGUMENT, fmt::format("transport {} is no hawser_transport_t", config.transport)};
  }
  options.shares_memory = config.transport == HAWSER_TRANSPORT_AUTO;
  options.straggler_ms = config.straggler_ms;
  comm.strict = config.policy == HAWSER_POLICY_STRICT;
  if (config.join_timeout_ms != 0) comm.join_timeout_ms = config.join_timeout_ms;
  if (config.op_timeout_ms != 0) comm.op_timeout_ms = config.op_timeout_ms;
  return {};
}

Status join(Comm& comm, std::uint32_t timeout_ms) {
  std::shared_ptr<runtime::Communicator> old;
  {
    const std::lock_guard hold(comm.mutex);
    if (comm.aborted) return aborted();
    if (comm.joining) return {Code::ALREADY_MEMBER, "another thread is joining with this communicator"};
    if (comm.session) {
      const auto ended = comm.session->engine().ended();
      if (!ended) return {Code::ALREADY_MEMBER, "this communicator has joined already"};
      if (ended->code() == Code::ABORTED) return *ended;
      old = std::move(comm.session);  // expelled: a new membership may begin
      comm.session.reset();
    }
    comm.joining = true;
  }
  struct Joining {
    Comm& comm;
    std::shared_ptr<runtime::Communicator> session;
    bool joined = false;
    ~Joining() {
      if (session && !joined) session->close();
      const std::lock_guard hold(comm.mutex);
      comm.joining = false;
      if (!joined) comm.session.reset();
    }
  } joining{comm, nullptr};
  if (old) old->close();
  auto made = runtime::Communicator::create(comm.options);
  if (!made.ok()) return made.status();
  joining.session = std::move(made.value());
  {
    const std::lock_guard hold(comm.mutex);
    if (comm.aborted) return aborted();
    comm.session = joining.session;
  }
  Status status = joining.session->join(timeout_ms == 0 ? comm.join_timeout_ms : timeout_ms);
  const std::lock_guard hold(comm.mutex);
  if (!status.ok() && comm.aborted) return aborted();
  joining.joined = status.ok();
  return status;
}

void fill_id(PeerId id, hawser_peer_id_t& out) {
  const auto bytes = id.bytes();
  std::memcpy(out.bytes, bytes.data(), bytes.size());
}

// -------------------------------------------------------------------------------------------------------- operations

}  // namespace

Status read_options(const hawser_op_options_t* given, const Comm& comm, runtime::OpCall& call, Extras* extras) {
  hawser_op_options_t options;
  if (Status status = read_sized(given, "hawser_op_options_t", options); !status.ok()) return status;
  if (options.policy > HAWSER_POLICY_STRICT) {
    return {Code::INVALID_ARGUMENT, fmt::format("options.policy {} is no hawser_policy_t", options.policy)};
  }
  if (options.priority < -8 || options.priority > 7) {
    return {Code::INVALID_ARGUMENT, fmt::format("options.priority {} is outside -8..7", options.priority)};
  }
  call.tag = options.tag;
  call.timeout_ms = options.timeout_ms == 0 ? comm.op_timeout_ms : options.timeout_ms;
  call.strict = options.policy == HAWSER_POLICY_DEFAULT ? comm.strict : options.policy == HAWSER_POLICY_STRICT;
  call.priority = options.priority;
  call.min_participants = options.min_participants;
  if ((options.flags & ~std::uint32_t{HAWSER_OP_UNIFORM}) != 0) {
    return {Code::UNSUPPORTED, fmt::format("options.flags {:#x} has bits that this library ({}) does not know",
                                           options.flags, HAWSER_VERSION_STRING)};
  }
  if (extras == nullptr && options.flags != 0) {
    return {Code::INVALID_ARGUMENT, "options.flags: HAWSER_OP_UNIFORM is for hawser_all_reduce_many"};
  }
  if (extras == nullptr && options.interrupted != nullptr) {
    return {Code::INVALID_ARGUMENT, "options.interrupted is for calls that wait for their operation"};
  }
  if (extras != nullptr) {
    extras->uniform = (options.flags & HAWSER_OP_UNIFORM) != 0;
    if (options.interrupted != nullptr) {
      extras->interrupted = [ask = options.interrupted, context = options.interrupted_context] {
        return ask(context) != 0;
      };
    }
  }
  if (options.weighted > 1)
    return {Code::INVALID_ARGUMENT, fmt::format("options.weighted is {}, not 0 or 1", options.weighted)};
  if (options.weighted == 0 && options.weight != 0) {
    return {Code::INVALID_ARGUMENT, fmt::format("options.weight is {} but options.weighted is 0", options.weight)};
  }
  if (!std::isfinite(options.weight) || options.weight < 0) {
    return {Code::INVALID_ARGUMENT, fmt::format("options.weight {} is not a finite number >= 0", options.weight)};
  }
  const bool compressed = options.compression != nullptr;
  if (!compressed && options.weighted == 0) return {};
  if (call.kind != runtime::OpKind::all_reduce) {
    return {Code::INVALID_ARGUMENT, "compression and weights are for all_reduce only"};
  }
  runtime::Coding coding;
  if (Status status = read_compression(options.compression, coding); !status.ok()) return status;
  coding.weighted = options.weighted != 0;
  if (coding.weighted) coding.weight = options.weight;
  if (coding.format.codec != codec::Codec::none || coding.weighted) call.coding = std::move(coding);
  return {};
}

Status check_coding(const runtime::OpCall& call) {
  if (!call.coding) return {};
  if (call.dtype != Dtype::f32 && !is_half(call.dtype)) {
    return {
        Code::INVALID_ARGUMENT,
        fmt::format("dtype {} can be neither compressed nor weighted; f32, f16 and bf16 can", dtype_name(call.dtype))};
  }
  if (call.redop != Redop::avg && (call.coding->weighted || call.redop != Redop::sum)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("{} cannot be {}", redop_name(call.redop),
                        call.coding->weighted ? "weighted; avg can" : "compressed; sum and avg can")};
  }
  const auto& residual = call.coding->residual;
  if (!residual) return {};
  if (residual->count() != call.count) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("the residual has {} elements, the operation {}", residual->count(), call.count)};
  }
  return {};
}

Status read_buffers(const Buffers& given, runtime::OpCall& call) {
  if (given.dtype < 0 || given.dtype >= static_cast<int>(dtype_count)) {
    return {Code::INVALID_ARGUMENT, fmt::format("dtype {} is no hawser_dtype_t", given.dtype)};
  }
  const auto dtype = static_cast<Dtype>(given.dtype);
  const std::size_t element = dtype_size(dtype);
  if (given.count > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / element) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("count {} of {}-byte elements is more than memory can hold", given.count, element)};
  }
  if (given.count != 0) {
    if (given.both && given.send == nullptr) return {Code::INVALID_ARGUMENT, "send is NULL and count is not 0"};
    if (given.both && given.recv == nullptr) return {Code::INVALID_ARGUMENT, "recv is NULL and count is not 0"};
    const auto send = reinterpret_cast<std::uintptr_t>(given.send);
    const auto recv = reinterpret_cast<std::uintptr_t>(given.recv);
    if (send % element != 0 || recv % element != 0) {
      return {Code::INVALID_ARGUMENT,
              fmt::format("{} is not aligned to its {}-byte elements", send % element != 0 ? "send" : "recv", element)};
    }
    const std::size_t bytes = given.count * element;
    if (given.send != nullptr && given.recv != nullptr && send != recv && send < recv + bytes && recv < send + bytes) {
      return {Code::INVALID_ARGUMENT, "send and recv overlap; they must be the same buffer or disjoint"};
    }
  }
  call.send = static_cast<const std::byte*>(given.send);
  call.recv = static_cast<std::byte*>(given.recv);
  call.count = given.count;
  call.dtype = dtype;
  return {};
}

void write_info(const runtime::OpReport& report, std::uint32_t runs, hawser_op_info_t* info_out) {
  if (info_out == nullptr) return;
  hawser_op_info_t asked;
  if (!read_sized(info_out, "info_out", asked).ok()) return;
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  info.view = report.view;
  info.participants = static_cast<std::uint32_t>(report.participants.size());
  info.attempts = report.attempts;
  info.bytes_sent = report.bytes_sent;
  info.bytes_received = report.bytes_received;
  info.time_us = static_cast<std::uint64_t>(std::max<std::int64_t>(0, report.time_us));
  info.participant_ids = asked.participant_ids;
  info.participant_capacity = asked.participant_capacity;
  info.participant_weights = asked.participant_weights;
  info.status = static_cast<std::uint32_t>(report.status.code());
  info.runs = runs;
  for (std::size_t i = 0; i < report.participants.size(); ++i) {
    const double weight = i < report.weights.size() ? std::max(0.0, report.weights[i]) : 1.0;
    info.total_weight += weight;
    if (weight > 0) ++info.contributors;
    if (asked.participant_weights != nullptr && i < asked.participant_capacity) asked.participant_weights[i] = weight;
  }
  if (asked.participant_ids != nullptr) {
    for (std::size_t i = 0; i < report.participants.size() && i < asked.participant_capacity; ++i) {
      fill_id(report.participants[i], asked.participant_ids[i]);
    }
  }
  write_sized(info, info_out);
}

Status check_info(const hawser_op_info_t* info_out) {
  if (info_out == nullptr) return {};
  if (Status status = check_out(info_out, "info_out"); !status.ok()) return status;
  hawser_op_info_t asked;
  return read_sized(info_out, "hawser_op_info_t", asked);
}

Result<runtime::OpCall> all_reduce_call(int redop) {
  if (redop < 0 || redop >= static_cast<int>(redop_count)) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("redop {} is no hawser_redop_t", redop));
  }
  runtime::OpCall call;
  call.kind = runtime::OpKind::all_reduce;
  call.redop = static_cast<Redop>(redop);
  return call;
}

namespace {

Result<std::shared_ptr<runtime::OpRun>> start(const Call& entered, const hawser_op_options_t* options,
                                              const Buffers& buffers, runtime::OpCall& call, Extras* extras) {
  if (!entered.valid()) return entered.status();
  if (Status status = read_options(options, entered.comm(), call, extras); !status.ok()) return status;
  if (extras != nullptr && extras->uniform) {
    return Status(Code::INVALID_ARGUMENT, "options.flags: HAWSER_OP_UNIFORM is for hawser_all_reduce_many");
  }
  if (Status status = read_buffers(buffers, call); !status.ok()) return status;
  if (!entered.status().ok()) return entered.status();
  if (Status status = check_coding(call); !status.ok()) return status;
  return entered.engine().start(call);
}

Status run_blocking(hawser_comm_t* handle, const hawser_op_options_t* options, const Buffers& buffers,
                    runtime::OpCall call, hawser_op_info_t* info_out) {
  const Call entered(handle);
  if (Status status = check_info(info_out); !status.ok()) return status;
  Extras extras;
  call.waits = true;
  auto run = start(entered, options, buffers, call, &extras);
  if (!run.ok()) return run.status();
  const runtime::OpReport report = wait_interruptible(entered.engine(), *run.value(), extras.interrupted);
  write_info(report, 1, info_out);
  return report.status;
}

Status run_start(hawser_comm_t* handle, const hawser_op_options_t* options, const Buffers& buffers,
                 runtime::OpCall call, hawser_op_t** op_out) {
  const Call entered(handle);
  if (op_out == nullptr) return {Code::INVALID_ARGUMENT, "op_out is NULL"};
  // The handle first: for an operation that has started there must be one.
  const auto op = std::make_shared<Op>();
  struct Reserved {
    hawser_op_t* handle;
    bool used = false;
    ~Reserved() {
      if (!used) ops().remove(handle);
    }
  } reserved{ops().add(op)};
  auto run = start(entered, options, buffers, call, nullptr);
  if (!run.ok()) return run.status();
  op->session = entered.session();
  op->run = std::move(run.value());
  reserved.used = true;
  *op_out = reserved.handle;
  return {};
}

runtime::OpCall broadcast_call(std::uint32_t root) {
  runtime::OpCall call;
  call.kind = runtime::OpKind::broadcast;
  call.root = root;
  return call;
}

Status wait_for(hawser_op_t* handle, std::int64_t timeout_ms, hawser_op_info_t* info_out) {
  auto op = ops().find(handle);
  if (!op) return {Code::INVALID_HANDLE, "the operation handle is NULL or was released"};
  if (Status status = check_info(info_out); !status.ok()) return status;
  const runtime::OpReport report = op->session->engine().wait(*op->run, timeout_ms);
  if (report.status.code() != Code::PENDING) write_info(report, 1, info_out);
  return report.status;
}

}  // namespace
}  // namespace hawser::api

using namespace hawser;       // NOLINT(google-build-using-namespace): the C functions stand outside of it
using namespace hawser::api;  // NOLINT(google-build-using-namespace)

extern "C" {

hawser_status_t hawser_comm_create(const hawser_comm_config_t* config, hawser_comm_t** comm_out) {
  return guarded("hawser_comm_create", [&]() -> Status {
    if (comm_out == nullptr) return {Code::INVALID_ARGUMENT, "comm_out is NULL"};
    auto comm = std::make_shared<Comm>();
    if (Status status = read_config(config, *comm); !status.ok()) return status;
    *comm_out = comms().add(std::move(comm));
    return {};
  });
}

hawser_status_t hawser_comm_join(hawser_comm_t* comm, uint32_t timeout_ms) {
  return guarded("hawser_comm_join", [&]() -> Status {
    const Call entered(comm);
    return entered.valid() ? join(entered.comm(), timeout_ms) : entered.status();
  });
}

hawser_status_t hawser_comm_admit(hawser_comm_t* comm, uint32_t timeout_ms) {
  return guarded("hawser_comm_admit", [&]() -> Status {
    const Call entered(comm);
    if (!entered.status().ok()) return entered.status();
    return entered.engine().admit(timeout_ms == 0 ? entered.comm().join_timeout_ms : timeout_ms);
  });
}

hawser_status_t hawser_comm_view(hawser_comm_t* comm, hawser_view_t* view_out) {
  return guarded("hawser_comm_view", [&]() -> Status {
    const Call entered(comm);
    if (!entered.status().ok()) return entered.status();
    if (Status status = check_out(view_out, "view_out"); !status.ok()) return status;
    if (auto ended = entered.engine().ended()) return *ended;
    const auto view = entered.engine().view();
    hawser_view_t out = HAWSER_VIEW_INIT;
    out.number = view.number;
    out.world_size = static_cast<std::uint32_t>(view.members.size());
    for (std::uint32_t rank = 0; rank < view.members.size(); ++rank) {
      if (view.members[rank].peer.id == entered.engine().self()) out.rank = rank;
    }
    if (view.members.empty()) return {Code::NOT_MEMBER, "not a member of the group; call hawser_comm_join first"};
    write_sized(out, view_out);
    return {};
  });
}

hawser_status_t hawser_comm_member(hawser_comm_t* comm, uint32_t rank, hawser_member_t* member_out) {
  return guarded("hawser_comm_member", [&]() -> Status {
    const Call entered(comm);
    if (!entered.status().ok()) return entered.status();
    if (Status status = check_out(member_out, "member_out"); !status.ok()) return status;
    if (auto ended = entered.engine().ended()) return *ended;
    const auto view = entered.engine().view();
    if (rank >= view.members.size()) {
      return {Code::INVALID_ARGUMENT,
              fmt::format("rank {} is not in view {}, which has {} members", rank, view.number, view.members.size())};
    }
    const auto& peer = view.members[rank].peer;
    hawser_member_t out = HAWSER_MEMBER_INIT;
    fill_id(peer.id, out.id);
    const std::string address = runtime::Communicator::address_of(peer);
    std::memcpy(out.name, peer.name.c_str(), std::min(peer.name.size(), sizeof(out.name) - 1));
    std::memcpy(out.address, address.c_str(), std::min(address.size(), sizeof(out.address) - 1));
    write_sized(out, member_out);
    return {};
  });
}

hawser_status_t hawser_comm_leave(hawser_comm_t* comm, uint32_t timeout_ms) {
  return guarded("hawser_comm_leave", [&]() -> Status {
    const Call entered(comm);
    if (!entered.status().ok()) return entered.status();
    return entered.engine().leave(timeout_ms == 0 ? entered.comm().join_timeout_ms : timeout_ms);
  });
}

hawser_status_t hawser_comm_abort(hawser_comm_t* comm) {
  return guarded("hawser_comm_abort", [&]() -> Status {
    const Call entered(comm);
    if (!entered.valid()) return entered.status();
    std::shared_ptr<runtime::Communicator> session;
    {
      const std::lock_guard hold(entered.comm().mutex);
      entered.comm().aborted = true;
      session = entered.comm().session;
    }
    if (session) session->engine().abort();
    return {};
  });
}

hawser_status_t hawser_comm_destroy(hawser_comm_t* comm) {
  return guarded("hawser_comm_destroy", [&]() -> Status {
    const std::shared_ptr<Comm> gone = comms().remove(comm);
    if (!gone) return {Code::INVALID_HANDLE, "the communicator handle is NULL or was destroyed"};
    std::shared_ptr<runtime::Communicator> session;
    {
      std::unique_lock hold(gone->mutex);
      gone->aborted = true;
      session = gone->session;
      if (session) session->engine().abort();
      gone->idle.wait(hold, [&] { return gone->calls == 0; });
      gone->session.reset();
    }
    if (session) session->close();
    return {};
  });
}

hawser_status_t hawser_all_reduce(hawser_comm_t* comm, const void* send, void* recv, size_t count, hawser_dtype_t dtype,
                                  hawser_redop_t redop, const hawser_op_options_t* options,
                                  hawser_op_info_t* info_out) {
  return guarded("hawser_all_reduce", [&]() -> Status {
    auto call = all_reduce_call(static_cast<int>(redop));
    if (!call.ok()) return call.status();
    return run_blocking(comm, options, {send, recv, count, static_cast<int>(dtype)}, call.value(), info_out);
  });
}

hawser_status_t hawser_all_reduce_start(hawser_comm_t* comm, const void* send, void* recv, size_t count,
                                        hawser_dtype_t dtype, hawser_redop_t redop, const hawser_op_options_t* options,
                                        hawser_op_t** op_out) {
  return guarded("hawser_all_reduce_start", [&]() -> Status {
    auto call = all_reduce_call(static_cast<int>(redop));
    if (!call.ok()) return call.status();
    return run_start(comm, options, {send, recv, count, static_cast<int>(dtype)}, call.value(), op_out);
  });
}

hawser_status_t hawser_broadcast(hawser_comm_t* comm, const void* send, void* recv, size_t count, hawser_dtype_t dtype,
                                 uint32_t root, const hawser_op_options_t* options, hawser_op_info_t* info_out) {
  return guarded("hawser_broadcast", [&]() -> Status {
    return run_blocking(comm, options, {send, recv, count, static_cast<int>(dtype), false}, broadcast_call(root),
                        info_out);
  });
}

hawser_status_t hawser_broadcast_start(hawser_comm_t* comm, const void* send, void* recv, size_t count,
                                       hawser_dtype_t dtype, uint32_t root, const hawser_op_options_t* options,
                                       hawser_op_t** op_out) {
  return guarded("hawser_broadcast_start", [&]() -> Status {
    return run_start(comm, options, {send, recv, count, static_cast<int>(dtype), false}, broadcast_call(root), op_out);
  });
}

hawser_status_t hawser_barrier(hawser_comm_t* comm, const hawser_op_options_t* options, hawser_op_info_t* info_out) {
  return guarded("hawser_barrier",
                 [&]() -> Status { return run_blocking(comm, options, {}, runtime::OpCall{}, info_out); });
}

hawser_status_t hawser_barrier_start(hawser_comm_t* comm, const hawser_op_options_t* options, hawser_op_t** op_out) {
  return guarded("hawser_barrier_start",
                 [&]() -> Status { return run_start(comm, options, {}, runtime::OpCall{}, op_out); });
}

hawser_status_t hawser_op_wait(hawser_op_t* op, uint32_t timeout_ms, hawser_op_info_t* info_out) {
  return guarded("hawser_op_wait", [&]() -> Status {
    return wait_for(op, timeout_ms == 0 ? -1 : static_cast<std::int64_t>(timeout_ms), info_out);
  });
}

hawser_status_t hawser_op_test(hawser_op_t* op, hawser_op_info_t* info_out) {
  return guarded("hawser_op_test", [&]() -> Status { return wait_for(op, 0, info_out); });
}

hawser_status_t hawser_op_cancel(hawser_op_t* op) {
  return guarded("hawser_op_cancel", [&]() -> Status {
    auto found = ops().find(op);
    if (!found) return {Code::INVALID_HANDLE, "the operation handle is NULL or was released"};
    found->session->engine().cancel(*found->run);
    return {};
  });
}

hawser_status_t hawser_op_release(hawser_op_t* op) {
  return guarded("hawser_op_release", [&]() -> Status {
    auto found = ops().remove(op);
    if (!found) return {Code::INVALID_HANDLE, "the operation handle is NULL or was released"};
    found->session->engine().cancel(*found->run);
    (void)found->session->engine().wait(*found->run, -1);
    return {};
  });
}

hawser_status_t hawser_comm_metrics(hawser_comm_t* comm, hawser_metrics_t* metrics_out) {
  return guarded("hawser_comm_metrics", [&]() -> Status {
    const Call entered(comm);
    if (!entered.status().ok()) return entered.status();
    if (Status status = check_out(metrics_out, "metrics_out"); !status.ok()) return status;
    const runtime::EngineMetrics metrics = entered.engine().metrics();
    hawser_metrics_t out = HAWSER_METRICS_INIT;
    out.bytes_sent = metrics.bytes_sent;
    out.bytes_received = metrics.bytes_received;
    out.ops_committed = metrics.ops_committed;
    out.ops_failed = metrics.ops_failed;
    out.ops_rerun = metrics.ops_rerun;
    out.views = metrics.views;
    out.peers_lost = metrics.peers_lost;
    out.frames_stale = metrics.frames_stale;
    out.strands_open = metrics.strands_open;
    out.ops_open = metrics.ops_open;
    out.frames_resent = metrics.frames_resent;
    out.slow_rank = metrics.slow_rank;
    out.slow_ms = metrics.slow_ms;
    out.bytes_relayed = metrics.bytes_relayed;
    out.strands_shared = metrics.strands_shared;
    write_sized(out, metrics_out);
    return {};
  });
}

}  // extern "C"
