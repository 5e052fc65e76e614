// Shared state of the C API: checks arguments, translates, and leaves every decision to the runtime.
#include "api/state.hpp"

#include <fmt/format.h>

#include <limits>

#include "api/comm.hpp"
#include "api/support.hpp"
#include "base/text.hpp"

namespace hawser::api {
namespace {

struct State {
  runtime::SharedState shared;
};

Registry<State, hawser_state_t>& states() {
  static auto* registry = new Registry<State, hawser_state_t>();
  return *registry;
}

Status no_state() { return {Code::INVALID_HANDLE, "the state handle is NULL or was destroyed"}; }

Status read_name(const char* given, std::string& name) {
  if (given == nullptr) return {Code::INVALID_ARGUMENT, "name is NULL"};
  name = given;
  if (name.empty() || name.size() > wire::tensor_name_bytes_max || !valid_text(name)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("a name is 1 to {} bytes of UTF-8 without control characters", wire::tensor_name_bytes_max)};
  }
  return {};
}

Status read_sync_options(const hawser_op_options_t* options, const Call& entered, runtime::OpCall& call) {
  call.kind = runtime::OpKind::sync;
  return read_options(options, entered.comm(), call);
}

template <typename Run>
Status run(hawser_comm_t* comm, hawser_state_t* state, const hawser_op_options_t* options, hawser_sync_info_t* info_out,
           const Run& body) {
  const Call entered(comm);
  if (!entered.valid()) return entered.status();
  const auto found = states().find(state);
  if (!found) return no_state();
  if (Status status = check_sync_info(info_out); !status.ok()) return status;
  runtime::OpCall call;
  if (Status status = read_sync_options(options, entered, call); !status.ok()) return status;
  if (!entered.status().ok()) return entered.status();
  runtime::SyncReport report;
  Status status = body(found->shared, entered.engine(), call, report);
  write_sync_info(report, info_out);
  return status;
}

}  // namespace

Status check_sync_info(const hawser_sync_info_t* info_out) {
  if (info_out == nullptr) return {};
  return check_out(info_out, "info_out");
}

void write_sync_info(const runtime::SyncReport& report, hawser_sync_info_t* info_out) {
  if (info_out == nullptr) return;
  hawser_sync_info_t info = HAWSER_SYNC_INFO_INIT;
  info.view = report.view;
  info.participants = report.participants;
  info.attempts = report.attempts;
  info.decision = static_cast<std::uint32_t>(report.decision);
  info.tensors_changed = report.tensors_changed;
  info.sources = report.sources;
  info.behind = report.behind;
  info.revision = report.revision;
  info.blocks = report.blocks;
  info.blocks_received = report.blocks_received;
  info.bytes_received = report.bytes_received;
  info.bytes_sent = report.bytes_sent;
  info.hash_us = static_cast<std::uint64_t>(report.hash_us);
  info.time_us = static_cast<std::uint64_t>(report.time_us);
  for (std::size_t i = 0; i < 8; ++i) {
    info.root[i] = static_cast<std::uint8_t>(report.root.high >> (56 - 8 * i));
    info.root[8 + i] = static_cast<std::uint8_t>(report.root.low >> (56 - 8 * i));
  }
  write_sized(info, info_out);
}

}  // namespace hawser::api

using namespace hawser;       // NOLINT(google-build-using-namespace): the C functions stand outside of it
using namespace hawser::api;  // NOLINT(google-build-using-namespace)

extern "C" {

hawser_status_t hawser_state_create(hawser_state_t** state_out) {
  return guarded("hawser_state_create", [&]() -> Status {
    if (state_out == nullptr) return {Code::INVALID_ARGUMENT, "state_out is NULL"};
    *state_out = states().add(std::make_shared<State>());
    return {};
  });
}

hawser_status_t hawser_state_add_tensor(hawser_state_t* state, const char* name, void* data, size_t count,
                                        hawser_dtype_t dtype) {
  return guarded("hawser_state_add_tensor", [&]() -> Status {
    const auto found = states().find(state);
    if (!found) return no_state();
    std::string text;
    if (Status status = read_name(name, text); !status.ok()) return status;
    if (static_cast<int>(dtype) < 0 || static_cast<std::size_t>(dtype) >= dtype_count) {
      return {Code::INVALID_ARGUMENT, fmt::format("dtype {} is no hawser_dtype_t", static_cast<int>(dtype))};
    }
    const std::size_t element = dtype_size(static_cast<Dtype>(dtype));
    if (count > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / element) {
      return {Code::INVALID_ARGUMENT,
              fmt::format("count {} of {}-byte elements is more than memory can hold", count, element)};
    }
    if (data == nullptr && count != 0) return {Code::INVALID_ARGUMENT, "data is NULL and count is not 0"};
    if (reinterpret_cast<std::uintptr_t>(data) % element != 0) {
      return {Code::INVALID_ARGUMENT,
              fmt::format("data of tensor {} is not aligned to its {}-byte elements", text, element)};
    }
    return found->shared.add(text, static_cast<std::byte*>(data), count, static_cast<Dtype>(dtype));
  });
}

hawser_status_t hawser_state_move_tensor(hawser_state_t* state, const char* name, void* data) {
  return guarded("hawser_state_move_tensor", [&]() -> Status {
    const auto found = states().find(state);
    if (!found) return no_state();
    std::string text;
    if (Status status = read_name(name, text); !status.ok()) return status;
    return found->shared.move(text, static_cast<std::byte*>(data));
  });
}

hawser_status_t hawser_state_set_revision(hawser_state_t* state, uint64_t revision) {
  return guarded("hawser_state_set_revision", [&]() -> Status {
    const auto found = states().find(state);
    return found ? found->shared.set_revision(revision) : no_state();
  });
}

hawser_status_t hawser_state_revision(hawser_state_t* state, uint64_t* revision_out) {
  return guarded("hawser_state_revision", [&]() -> Status {
    const auto found = states().find(state);
    if (!found) return no_state();
    if (revision_out == nullptr) return {Code::INVALID_ARGUMENT, "revision_out is NULL"};
    *revision_out = found->shared.revision();
    return {};
  });
}

hawser_status_t hawser_state_sync(hawser_comm_t* comm, hawser_state_t* state, hawser_strategy_t strategy,
                                  const hawser_op_options_t* options, hawser_sync_info_t* info_out) {
  return guarded("hawser_state_sync", [&]() -> Status {
    const int value = static_cast<int>(strategy);
    if (value < 0 || value >= static_cast<int>(wire::sync_strategy_count)) {
      return {Code::INVALID_ARGUMENT, fmt::format("strategy {} is no hawser_strategy_t", value)};
    }
    return run(comm, state, options, info_out,
               [&](runtime::SharedState& shared, runtime::Engine& engine, const runtime::OpCall& call,
                   runtime::SyncReport& report) {
                 return shared.sync(engine, static_cast<wire::SyncStrategy>(value), call, report);
               });
  });
}

hawser_status_t hawser_state_check(hawser_comm_t* comm, hawser_state_t* state, const hawser_op_options_t* options,
                                   hawser_sync_info_t* info_out) {
  return guarded("hawser_state_check", [&]() -> Status {
    return run(comm, state, options, info_out,
               [&](runtime::SharedState& shared, runtime::Engine& engine, const runtime::OpCall& call,
                   runtime::SyncReport& report) { return shared.check(engine, call, report); });
  });
}

hawser_status_t hawser_state_destroy(hawser_state_t* state) {
  return guarded("hawser_state_destroy", [&]() -> Status { return states().remove(state) ? Status{} : no_state(); });
}

}  // extern "C"
