// The extension hawser._hawser: the C API of include/hawser as classes, thin enough that each method is one call of the
// library; here Coordinator, Comm and Op, those of training in training.cpp. Arguments arrive checked and in the
// library's units from the Python layer beside it; hawser/_hawser.pyi is its interface in Python's words.
//
// Runs on whatever Python thread calls. Every call of the library is made without the GIL (calls.hpp).

#include <hawser/hawser.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <tuple>

#include "buffers.hpp"
#include "calls.hpp"
#include "training.hpp"

namespace hawser_python {

namespace {

using Clock = std::chrono::steady_clock;

// When a Python-level wait is over. Absent: never.
using Deadline = std::optional<Clock::time_point>;

Deadline deadline_after(uint32_t timeout_ms) {
  return timeout_ms == UINT32_MAX ? Deadline{} : Deadline{Clock::now() + std::chrono::milliseconds(timeout_ms)};
}

// How long the next stay in the library may last: a slice, or what is left until the deadline; 0 when it passed.
uint32_t next_slice_ms(const Deadline& deadline) {
  if (!deadline) {
    return wait_slice_ms;
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(left, 0, wait_slice_ms));
}

const char* c_string(const nb::handle& text) { return text.is_none() ? nullptr : nb::cast<const char*>(text); }

std::string hex(const hawser_peer_id_t& id) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : id.bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

// ------------------------------------------------------------------------------------------------------- coordinator

class Coordinator {
 public:
  Coordinator(const nb::object& listen, uint32_t heartbeat_ms, uint32_t peer_timeout_ms, uint32_t peers_max,
              const nb::object& log_dir, const nb::object& standby_of, const nb::object& etcd,
              const nb::object& etcd_prefix)
      : handle_(start(listen, heartbeat_ms, peer_timeout_ms, peers_max, log_dir, standby_of, etcd, etcd_prefix),
                "this Coordinator") {}
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;
  ~Coordinator() { destroy(); }

  std::string address() const {
    auto* const handle = handle_.get();
    std::array<char, 128> text{};
    check(call([&] { return hawser_coordinator_address(handle, text.data(), text.size()); }));
    return text.data();
  }

  void stop() {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_coordinator_stop(handle); }));
  }

  // False: still running when the time was over.
  bool wait(uint32_t timeout_ms) {
    const Deadline deadline = deadline_after(timeout_ms);
    auto* const handle = handle_.get();
    for (;;) {
      const uint32_t slice_ms = next_slice_ms(deadline);
      const Outcome outcome = call([&] { return hawser_coordinator_wait(handle, slice_ms); });
      if (outcome.status != HAWSER_PENDING) {
        check(outcome);
        return true;
      }
      if (signal_raised()) {
        throw nb::python_error();
      }
      if (slice_ms == 0) {
        return false;
      }
    }
  }

  void destroy() {
    if (auto* const handle = handle_.take()) {
      call([&] { return hawser_coordinator_destroy(handle); });
    }
  }

 private:
  static hawser_coordinator_t* start(const nb::object& listen, uint32_t heartbeat_ms, uint32_t peer_timeout_ms,
                                     uint32_t peers_max, const nb::object& log_dir, const nb::object& standby_of,
                                     const nb::object& etcd, const nb::object& etcd_prefix) {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.listen = c_string(listen);
    config.heartbeat_ms = heartbeat_ms;
    config.peer_timeout_ms = peer_timeout_ms;
    config.peers_max = peers_max;
    config.log_dir = c_string(log_dir);
    config.standby_of = c_string(standby_of);
    config.etcd = c_string(etcd);
    config.etcd_prefix = c_string(etcd_prefix);
    hawser_coordinator_t* handle = nullptr;
    check(call([&] { return hawser_coordinator_start(&config, &handle); }));
    return handle;
  }

  Handle<hawser_coordinator_t> handle_;
};

// What the coordinator at an address, of whatever process, says of itself and its groups: JSON.
std::string coordinator_report(const std::string& address, uint32_t timeout_ms) {
  std::string text(size_t{1} << 16, '\0');
  for (;;) {
    size_t bytes = 0;
    const Outcome outcome =
        call([&] { return hawser_coordinator_report(address.c_str(), timeout_ms, text.data(), text.size(), &bytes); });
    if (outcome.status == HAWSER_INVALID_ARGUMENT && bytes > text.size()) {
      text.resize(2 * bytes);  // more may have come meanwhile
      continue;
    }
    check(outcome);
    text.resize(bytes - 1);
    return text;
  }
}

// --------------------------------------------------------------------------------------------------------- operation

// (view, participants, ids, attempts, bytes sent, bytes received, microseconds, contributors, total weight, weights)
nb::tuple row_of(const hawser_op_info_t& info) {
  nb::list names;
  nb::list weights;
  for (uint32_t i = 0; i < info.participants && i < info.participant_capacity; ++i) {
    names.append(hex(info.participant_ids[i]));
    weights.append(info.participant_weights[i]);
  }
  return nb::make_tuple(info.view, info.participants, nb::tuple(names), info.attempts, info.bytes_sent,
                        info.bytes_received, info.time_us, info.contributors, info.total_weight, nb::tuple(weights));
}

// One collective in flight. Holds what it was lent, so the memory lives until the handle is released.
class Op {
 public:
  Op(hawser_op_t* handle, nb::object send, nb::object recv, nb::object compression)
      : handle_(handle, "this operation"),
        send_(std::move(send)),
        recv_(std::move(recv)),
        compression_(std::move(compression)) {}
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;

  // Blocks when the operation has not ended: Communicator parks such operations so that this does not happen in a
  // garbage collection. Without the GIL in any case.
  ~Op() {
    if (auto* const handle = handle_.take()) {
      call([&] { return hawser_op_release(handle); });
    }
  }

  // True when the operation ended well, false when the time was over first, UINT32_MAX being no limit; else throws.
  bool wait(uint32_t timeout_ms) {
    const Deadline deadline = deadline_after(timeout_ms);
    auto* const handle = handle_.get();
    for (;;) {
      const uint32_t slice_ms = next_slice_ms(deadline);
      const Outcome outcome = slice_ms == 0 ? call([&] { return hawser_op_test(handle, nullptr); })
                                            : call([&] { return hawser_op_wait(handle, slice_ms, nullptr); });
      if (outcome.status != HAWSER_PENDING) {
        check(outcome);
        return true;
      }
      if (signal_raised()) {
        nb::python_error interruption;
        call([&] { return hawser_op_cancel(handle); });
        call([&] { return hawser_op_wait(handle, cancel_grace_ms, nullptr); });
        throw interruption;
      }
      if (slice_ms == 0) {
        return false;
      }
    }
  }

  // Whether it ended, well or not.
  bool ended() const {
    auto* const handle = handle_.get();
    return call([&] { return hawser_op_test(handle, nullptr); }).status != HAWSER_PENDING;
  }

  void cancel() {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_op_cancel(handle); }));
  }

  // A row, or None while it runs.
  nb::object info() const {
    auto* const handle = handle_.get();
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    if (call([&] { return hawser_op_test(handle, &info); }).status == HAWSER_PENDING) {
      return nb::none();
    }
    // The result is the same however often it is asked for, so the second call knows how many ids there are.
    std::vector<hawser_peer_id_t> ids(info.participants);
    std::vector<double> weights(info.participants);
    info.participant_ids = ids.data();
    info.participant_weights = weights.data();
    info.participant_capacity = info.participants;
    call([&] { return hawser_op_test(handle, &info); });
    return row_of(info);
  }

 private:
  Handle<hawser_op_t> handle_;
  nb::object send_;
  nb::object recv_;
  nb::object compression_;  // has the residual, which is lent too
};

// ------------------------------------------------------------------------------------------------------ communicator

hawser_op_options_t options_of(uint64_t tag, uint32_t timeout_ms, uint32_t policy, int32_t priority,
                               uint32_t min_participants) {
  hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
  options.tag = tag;
  options.timeout_ms = timeout_ms;
  options.policy = policy;
  options.priority = priority;
  options.min_participants = min_participants;
  return options;
}

class Comm {
 public:
  Comm(const nb::object& coordinators, const nb::object& name, uint32_t group, uint32_t min_size, uint32_t strands,
       uint32_t io_threads, const nb::object& listen, const nb::object& advertise, const nb::object& port_range,
       uint32_t join_timeout_ms, uint32_t op_timeout_ms, uint32_t policy, uint32_t straggler_ms, uint32_t transport)
      : handle_(create(coordinators, name, group, min_size, strands, io_threads, listen, advertise, port_range,
                       join_timeout_ms, op_timeout_ms, policy, straggler_ms, transport),
                "this Communicator") {}
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  ~Comm() { destroy(); }

  [[nodiscard]] hawser_comm_t* get() const { return handle_.get(); }

  void join(uint32_t timeout_ms) { until_signal(hawser_comm_join, timeout_ms); }

  void admit(uint32_t timeout_ms) { until_signal(hawser_comm_admit, timeout_ms); }

  void leave(uint32_t timeout_ms) { until_signal(hawser_comm_leave, timeout_ms); }

  void abort() {
    auto* const handle = handle_.get();
    check(call([&] { return hawser_comm_abort(handle); }));
  }

  void destroy() {
    if (auto* const handle = handle_.take()) {
      call([&] { return hawser_comm_destroy(handle); });
    }
  }

  nb::tuple view() const {
    auto* const handle = handle_.get();
    hawser_view_t view = HAWSER_VIEW_INIT;
    check(call([&] { return hawser_comm_view(handle, &view); }));
    return nb::make_tuple(view.number, view.rank, view.world_size);
  }

  // (id, name, address)
  nb::tuple member(uint32_t rank) const {
    auto* const handle = handle_.get();
    hawser_member_t member = HAWSER_MEMBER_INIT;
    check(call([&] { return hawser_comm_member(handle, rank, &member); }));
    // A name may have been cut in the middle of a character.
    const auto text = [](const char* bytes) {
      return nb::steal<nb::str>(
          PyUnicode_DecodeUTF8(bytes, Py_ssize_t(std::char_traits<char>::length(bytes)), "replace"));
    };
    return nb::make_tuple(hex(member.id), text(member.name), text(member.address));
  }

  nb::tuple metrics() const {
    auto* const handle = handle_.get();
    hawser_metrics_t metrics = HAWSER_METRICS_INIT;
    check(call([&] { return hawser_comm_metrics(handle, &metrics); }));
    return nb::make_tuple(metrics.bytes_sent, metrics.bytes_received, metrics.ops_committed, metrics.ops_failed,
                          metrics.ops_rerun, metrics.views, metrics.peers_lost, metrics.frames_stale,
                          metrics.strands_open, metrics.ops_open, metrics.frames_resent, metrics.slow_rank,
                          metrics.slow_ms, metrics.bytes_relayed, metrics.strands_shared);
  }

  // `compression` and `weight` are None for none.
  Op* all_reduce(const nb::object& send, const nb::object& recv, uint32_t redop, uint64_t tag, uint32_t timeout_ms,
                 uint32_t policy, int32_t priority, uint32_t min_participants, const nb::object& compression,
                 const nb::object& weight) {
    const auto& from = nb::cast<const Buffer&>(send);
    const auto& to = nb::cast<const Buffer&>(recv);
    auto options = options_of(tag, timeout_ms, policy, priority, min_participants);
    const auto chosen = compression_of(compression);
    options.compression = chosen ? &*chosen : nullptr;
    if (!weight.is_none()) {
      options.weighted = 1;
      options.weight = nb::cast<double>(weight);
    }
    auto* const comm = handle_.get();
    hawser_op_t* op = nullptr;
    check(call([&] {
      return hawser_all_reduce_start(comm, from.data(), to.data(), to.count(), static_cast<hawser_dtype_t>(to.dtype()),
                                     static_cast<hawser_redop_t>(redop), &options, &op);
    }));
    return new Op(op, send, recv, compression);
  }

  // `items` are (send, recv, compression or None). Returns (status, sentence, rows of the items with (status, runs) at
  // their ends, row of the whole).
  nb::tuple all_reduce_many(const std::vector<std::tuple<nb::object, nb::object, nb::object>>& items, uint32_t redop,
                            uint32_t in_flight, bool uniform, uint64_t tag, uint32_t timeout_ms, uint32_t policy,
                            int32_t priority, uint32_t min_participants, const nb::object& weight) {
    auto options = options_of(tag, timeout_ms, policy, priority, min_participants);
    options.flags = uniform ? HAWSER_OP_UNIFORM : 0;
    if (!weight.is_none()) {
      options.weighted = 1;
      options.weight = nb::cast<double>(weight);
    }
    std::vector<std::optional<hawser_compression_t>> compressions;
    for (const auto& item : items) {
      compressions.push_back(compression_of(std::get<2>(item)));
    }
    auto* const comm = handle_.get();
    hawser_view_t view = HAWSER_VIEW_INIT;
    call([&] { return hawser_comm_view(comm, &view); });  // members only go while a list is reduced
    std::vector<hawser_peer_id_t> ids(items.size() * view.world_size);
    std::vector<double> weights(items.size() * view.world_size);
    std::vector<hawser_many_item_t> given(items.size(), HAWSER_MANY_ITEM_INIT);
    std::vector<hawser_op_info_t> infos(items.size(), HAWSER_OP_INFO_INIT);
    for (size_t i = 0; i < items.size(); ++i) {
      const auto& to = nb::cast<const Buffer&>(std::get<1>(items[i]));
      given[i].send = nb::cast<const Buffer&>(std::get<0>(items[i])).data();
      given[i].recv = to.data();
      given[i].count = to.count();
      given[i].dtype = static_cast<uint32_t>(to.dtype());
      given[i].redop = redop;
      given[i].compression = compressions[i] ? &*compressions[i] : nullptr;
      infos[i].participant_ids = ids.data() + i * view.world_size;
      infos[i].participant_weights = weights.data() + i * view.world_size;
      infos[i].participant_capacity = view.world_size;
    }
    hawser_many_info_t info = HAWSER_MANY_INFO_INIT;
    SignalWatch signals(comm, options);
    const Outcome outcome = call([&] {
      return hawser_all_reduce_many(comm, given.data(), given.size(), in_flight, &options, infos.data(), &info);
    });
    signals.check();
    nb::list rows;
    for (const hawser_op_info_t& item : infos) {
      rows.append(nb::make_tuple(row_of(item), item.status, item.runs));
    }
    return nb::make_tuple(static_cast<int>(outcome.status), outcome.sentence, nb::tuple(rows),
                          nb::make_tuple(info.view, info.uniform != 0, info.participants, info.rounds, info.attempts,
                                         info.items_committed, info.items_rerun, info.first_failed, info.bytes_sent,
                                         info.bytes_received, info.time_us));
  }

  // `send` is None where nothing is sent: it is read at the root only.
  Op* broadcast(const nb::object& send, const nb::object& recv, uint32_t root, uint64_t tag, uint32_t timeout_ms,
                uint32_t policy, int32_t priority, uint32_t min_participants) {
    const void* const from = send.is_none() ? nullptr : nb::cast<const Buffer&>(send).data();
    const auto& to = nb::cast<const Buffer&>(recv);
    const auto options = options_of(tag, timeout_ms, policy, priority, min_participants);
    auto* const comm = handle_.get();
    hawser_op_t* op = nullptr;
    check(call([&] {
      return hawser_broadcast_start(comm, from, to.data(), to.count(), static_cast<hawser_dtype_t>(to.dtype()), root,
                                    &options, &op);
    }));
    return new Op(op, send, recv, nb::none());
  }

  Op* barrier(uint64_t tag, uint32_t timeout_ms, uint32_t policy, int32_t priority, uint32_t min_participants) {
    const auto options = options_of(tag, timeout_ms, policy, priority, min_participants);
    auto* const comm = handle_.get();
    hawser_op_t* op = nullptr;
    check(call([&] { return hawser_barrier_start(comm, &options, &op); }));
    return new Op(op, nb::none(), nb::none(), nb::none());
  }

 private:
  void until_signal(hawser_status_t (*function)(hawser_comm_t*, uint32_t), uint32_t timeout_ms) {
    auto* const comm = handle_.get();
    check(call_until_signal(comm, [=] { return function(comm, timeout_ms); }));
  }

  static hawser_comm_t* create(const nb::object& coordinators, const nb::object& name, uint32_t group,
                               uint32_t min_size, uint32_t strands, uint32_t io_threads, const nb::object& listen,
                               const nb::object& advertise, const nb::object& port_range, uint32_t join_timeout_ms,
                               uint32_t op_timeout_ms, uint32_t policy, uint32_t straggler_ms, uint32_t transport) {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = c_string(coordinators);
    config.name = c_string(name);
    config.group = group;
    config.min_size = min_size;
    config.strands = strands;
    config.io_threads = io_threads;
    config.listen = c_string(listen);
    config.advertise = c_string(advertise);
    config.port_range = c_string(port_range);
    config.join_timeout_ms = join_timeout_ms;
    config.op_timeout_ms = op_timeout_ms;
    config.policy = policy;
    config.straggler_ms = straggler_ms;
    config.transport = transport;
    hawser_comm_t* handle = nullptr;
    check(call([&] { return hawser_comm_create(&config, &handle); }));
    return handle;
  }

  Handle<hawser_comm_t> handle_;
};

// (name, value, category, sentence) of every status, for hawser._errors.
nb::tuple statuses() {
  nb::list rows;
#define HAWSER_PYTHON_STATUS(name, value, category, sentence) \
  rows.append(nb::make_tuple(#name, value, #category, sentence));
  HAWSER_STATUS_LIST(HAWSER_PYTHON_STATUS)
#undef HAWSER_PYTHON_STATUS
  return nb::tuple(rows);
}

}  // namespace

hawser_comm_t* comm_of(nb::handle comm) { return nb::cast<Comm&>(comm).get(); }

NB_MODULE(_hawser, module) {
  // A program may well end with a communicator in a global variable; the atexit handler of the package closes it.
  nb::set_leak_warnings(false);

  module.doc() = "The C API of Hawser. Private: use the package hawser.";
  module.attr("STATUSES") = statuses();
  module.attr("VERSION_STRING") = HAWSER_VERSION_STRING;
  module.def("version", &hawser_version);
  module.def("build_info", &hawser_build_info);
  module.def("calls_in_flight", [] { return calls_in_flight.load(); });
  module.def("coordinator_report", &coordinator_report, nb::arg("address"), nb::arg("timeout_ms"));

  nb::class_<Buffer>(module, "Buffer")
      .def_static("from_exporter", &Buffer::from_exporter, nb::arg("exporter"))
      .def_static("from_dlpack", &Buffer::from_dlpack, nb::arg("capsule"))
      .def_static("from_address", &Buffer::from_address, nb::arg("address"), nb::arg("dtype"), nb::arg("shape"),
                  nb::arg("contiguous"), nb::arg("readonly"), nb::arg("owner").none())
      .def_prop_ro("address", &Buffer::address)
      .def_prop_ro("count", &Buffer::count)
      .def_prop_ro("dtype", &Buffer::dtype)
      .def_prop_ro("format", &Buffer::format)
      .def_prop_ro("contiguous", &Buffer::contiguous)
      .def_prop_ro("readonly", &Buffer::readonly)
      .def_prop_ro("shape", [](const Buffer& buffer) { return nb::tuple(nb::cast(buffer.shape())); });

  nb::class_<Coordinator>(module, "Coordinator")
      .def(nb::init<const nb::object&, uint32_t, uint32_t, uint32_t, const nb::object&, const nb::object&,
                    const nb::object&, const nb::object&>(),
           nb::arg("listen").none(), nb::arg("heartbeat_ms"), nb::arg("peer_timeout_ms"), nb::arg("peers_max"),
           nb::arg("log_dir").none(), nb::arg("standby_of").none(), nb::arg("etcd").none(),
           nb::arg("etcd_prefix").none())
      .def("address", &Coordinator::address)
      .def("stop", &Coordinator::stop)
      .def("wait", &Coordinator::wait, nb::arg("timeout_ms"))
      .def("destroy", &Coordinator::destroy);

  nb::class_<Op>(module, "Op")
      .def("wait", &Op::wait, nb::arg("timeout_ms"))
      .def("ended", &Op::ended)
      .def("cancel", &Op::cancel)
      .def("info", &Op::info);

  nb::class_<Comm>(module, "Comm")
      .def(nb::init<const nb::object&, const nb::object&, uint32_t, uint32_t, uint32_t, uint32_t, const nb::object&,
                    const nb::object&, const nb::object&, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>(),
           nb::arg("coordinators").none(), nb::arg("name").none(), nb::arg("group"), nb::arg("min_size"),
           nb::arg("strands"), nb::arg("io_threads"), nb::arg("listen").none(), nb::arg("advertise").none(),
           nb::arg("port_range").none(), nb::arg("join_timeout_ms"), nb::arg("op_timeout_ms"), nb::arg("policy"),
           nb::arg("straggler_ms"), nb::arg("transport"))
      .def("join", &Comm::join, nb::arg("timeout_ms"))
      .def("admit", &Comm::admit, nb::arg("timeout_ms"))
      .def("leave", &Comm::leave, nb::arg("timeout_ms"))
      .def("abort", &Comm::abort)
      .def("destroy", &Comm::destroy)
      .def("view", &Comm::view)
      .def("member", &Comm::member, nb::arg("rank"))
      .def("metrics", &Comm::metrics)
      .def("all_reduce", &Comm::all_reduce, nb::arg("send"), nb::arg("recv"), nb::arg("redop"), nb::arg("tag"),
           nb::arg("timeout_ms"), nb::arg("policy"), nb::arg("priority"), nb::arg("min_participants"),
           nb::arg("compression").none(), nb::arg("weight").none())
      .def("all_reduce_many", &Comm::all_reduce_many, nb::arg("items"), nb::arg("redop"), nb::arg("in_flight"),
           nb::arg("uniform"), nb::arg("tag"), nb::arg("timeout_ms"), nb::arg("policy"), nb::arg("priority"),
           nb::arg("min_participants"), nb::arg("weight").none())
      .def("broadcast", &Comm::broadcast, nb::arg("send").none(), nb::arg("recv"), nb::arg("root"), nb::arg("tag"),
           nb::arg("timeout_ms"), nb::arg("policy"), nb::arg("priority"), nb::arg("min_participants"))
      .def("barrier", &Comm::barrier, nb::arg("tag"), nb::arg("timeout_ms"), nb::arg("policy"), nb::arg("priority"),
           nb::arg("min_participants"));

  bind_training(module);
}

}  // namespace hawser_python
