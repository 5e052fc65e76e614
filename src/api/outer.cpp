// Outer optimizers of the C API: checks arguments, translates, and leaves every decision to the outer layer.
#include "outer/outer.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <set>

#include "api/comm.hpp"
#include "api/compression.hpp"
#include "api/state.hpp"
#include "api/support.hpp"
#include "base/text.hpp"

namespace hawser::api {
namespace {

constexpr std::size_t param_name_bytes_max = 240;

struct OuterHandle {
  const hawser_comm_t* comm = nullptr;
  std::uint32_t timeout_ms = 0;
  std::unique_ptr<outer::Outer> outer;
};

Registry<OuterHandle, hawser_outer_t>& outers() {
  static auto* registry = new Registry<OuterHandle, hawser_outer_t>();
  return *registry;
}

Status no_outer() { return {Code::INVALID_HANDLE, "the outer optimizer's handle is NULL or was destroyed"}; }

Status read_param(const hawser_outer_param_t* given, outer::Param& out) {
  hawser_outer_param_t param;
  if (given == nullptr) return {Code::INVALID_ARGUMENT, "a parameter is NULL"};
  if (Status status = read_sized(given, "hawser_outer_param_t", param); !status.ok()) return status;
  if (param.name == nullptr || *param.name == '\0' || std::strlen(param.name) > param_name_bytes_max ||
      !valid_text(param.name)) {
    return {
        Code::INVALID_ARGUMENT,
        fmt::format("a parameter's name is 1 to {} bytes of UTF-8 without control characters", param_name_bytes_max)};
  }
  if (param.reserved != 0) return {Code::UNSUPPORTED, "hawser_outer_param_t.reserved is not 0"};
  if (param.dtype != HAWSER_F32 && param.dtype != HAWSER_BF16 && param.dtype != HAWSER_F16) {
    return {
        Code::INVALID_ARGUMENT,
        fmt::format("parameter {} is {}; an outer optimizer takes f32, bf16 and f16", param.name,
                    param.dtype < dtype_count ? dtype_name(static_cast<Dtype>(param.dtype)) : "of an unknown dtype")};
  }
  out.dtype = static_cast<Dtype>(param.dtype);
  if (param.count > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(float)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("parameter {} has {} elements, more than memory can hold", param.name, param.count)};
  }
  if (param.data == nullptr && param.count != 0) {
    return {Code::INVALID_ARGUMENT, fmt::format("data of parameter {} is NULL and its count is not 0", param.name)};
  }
  if (reinterpret_cast<std::uintptr_t>(param.data) % dtype_size(out.dtype) != 0) {
    return {Code::INVALID_ARGUMENT, fmt::format("data of parameter {} is not aligned to its elements", param.name)};
  }
  out.name = param.name;
  out.data = static_cast<std::byte*>(param.data);
  out.count = param.count;
  return {};
}

Status read_config(const hawser_outer_config_t* given, outer::Config& out, std::uint32_t& timeout_ms) {
  hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
  if (given != nullptr) {
    if (Status status = read_sized(given, "hawser_outer_config_t", config); !status.ok()) return status;
  }
  if (!std::isfinite(config.lr) || config.lr <= 0) {
    return {Code::INVALID_ARGUMENT, fmt::format("config.lr {} is not a finite number > 0", config.lr)};
  }
  if (!(config.momentum >= 0 && config.momentum < 1)) {
    return {Code::INVALID_ARGUMENT, fmt::format("config.momentum {} is not within 0 <= momentum < 1", config.momentum)};
  }
  const auto flag = [](const char* name, std::uint32_t value) -> Status {
    if (value <= 1) return {};
    return {Code::INVALID_ARGUMENT, fmt::format("config.{} is {}, not 0 or 1", name, value)};
  };
  for (const Status& status :
       {flag("nesterov", config.nesterov), flag("delayed", config.delayed),
        flag("error_feedback", config.error_feedback), flag("manual_admission", config.manual_admission),
        flag("non_finite", config.non_finite)}) {
    if (!status.ok()) return status;
  }
  if (Status status = read_compression(config.compression, out.coding); !status.ok()) return status;
  if (out.coding.residual) {
    return {Code::INVALID_ARGUMENT, "config.compression->residual must be NULL; error_feedback = 1 makes one"};
  }
  if (config.error_feedback != 0 && out.coding.format.codec == codec::Codec::none) {
    return {Code::INVALID_ARGUMENT, "error_feedback without compression: nothing is left out that it could keep"};
  }
  out.lr = config.lr;
  out.momentum = config.momentum;
  out.nesterov = config.nesterov != 0;
  out.delayed = config.delayed != 0;
  out.fail_non_finite = config.non_finite == HAWSER_NON_FINITE_FAIL;
  out.error_feedback = config.error_feedback != 0;
  out.manual_admission = config.manual_admission != 0;
  out.tag = config.tag;
  timeout_ms = config.timeout_ms;
  return {};
}

void write_info(const outer::Info& from, hawser_outer_info_t* info_out) {
  if (info_out == nullptr) return;
  hawser_outer_info_t info = HAWSER_OUTER_INFO_INIT;
  info.round = from.round;
  info.view = from.view;
  info.participants = from.participants;
  info.contributors = from.contributors;
  info.left_out = from.left_out;
  info.attempts = from.attempts;
  info.self_left_out = from.self_left_out ? 1 : 0;
  info.synced = from.synced ? 1 : 0;
  info.total_weight = from.total_weight;
  info.delta_norm = from.delta_norm;
  info.bytes_sent = from.bytes_sent;
  info.bytes_received = from.bytes_received;
  info.wait_us = static_cast<std::uint64_t>(from.wait_us);
  write_sized(info, info_out);
}

Status check_info(const hawser_outer_info_t* info_out) {
  return info_out == nullptr ? Status{} : check_out(info_out, "info_out");
}

Status check_weight(double weight) {
  if (std::isfinite(weight) && weight >= 0) return {};
  return {Code::INVALID_ARGUMENT, fmt::format("weight {} is not a finite number >= 0", weight)};
}

// Runs the body with the optimizer and the session of its communicator.
template <typename Body>
Status with(const hawser_outer_t* handle, const Body& body) {
  const auto found = outers().find(handle);
  if (!found) return no_outer();
  const Call entered(found->comm);
  if (!entered.status().ok()) return entered.status();
  outer::Limits limits;
  limits.op_timeout_ms = found->timeout_ms != 0 ? found->timeout_ms : entered.comm().op_timeout_ms;
  limits.join_timeout_ms = entered.comm().join_timeout_ms;
  limits.strict = entered.comm().strict;
  return body(*found->outer, entered.session(), limits);
}

template <typename Body>
Status with_info(const hawser_outer_t* handle, hawser_outer_info_t* info_out, const Body& body) {
  if (Status status = check_info(info_out); !status.ok()) return status;
  return with(handle, [&](outer::Outer& outer, const outer::Outer::Session& session, const outer::Limits& limits) {
    outer::Info info;
    Status status = body(outer, session, limits, info);
    write_info(info, info_out);
    return status;
  });
}

Status check_tensor(hawser_outer_tensor_kind_t kind, const void* values, std::size_t count) {
  if (static_cast<int>(kind) < 0 || static_cast<int>(kind) > static_cast<int>(HAWSER_OUTER_PENDING)) {
    return {Code::INVALID_ARGUMENT, fmt::format("kind {} is no hawser_outer_tensor_kind_t", static_cast<int>(kind))};
  }
  if (values == nullptr && count != 0) return {Code::INVALID_ARGUMENT, "values is NULL and count is not 0"};
  return {};
}

}  // namespace
}  // namespace hawser::api

using namespace hawser;       // NOLINT(google-build-using-namespace): the C functions stand outside of it
using namespace hawser::api;  // NOLINT(google-build-using-namespace)

extern "C" {

hawser_status_t hawser_outer_create(hawser_comm_t* comm, const hawser_outer_param_t* params, size_t param_count,
                                    const hawser_outer_config_t* config, hawser_outer_t** outer_out) {
  return guarded("hawser_outer_create", [&]() -> Status {
    const Call entered(comm);
    if (!entered.valid()) return entered.status();
    if (outer_out == nullptr) return {Code::INVALID_ARGUMENT, "outer_out is NULL"};
    if (params == nullptr && param_count != 0)
      return {Code::INVALID_ARGUMENT, "params is NULL and param_count is not 0"};
    std::vector<outer::Param> read(param_count);
    std::size_t size = 0;
    if (param_count != 0) std::memcpy(&size, params, sizeof(size));
    for (std::size_t i = 0; i < param_count; ++i) {
      // The caller's structs may be longer or shorter than this library's: they stand as far apart as theirs are long.
      const auto* at = reinterpret_cast<const unsigned char*>(params) + i * size;
      if (Status status = read_param(reinterpret_cast<const hawser_outer_param_t*>(at), read[i]); !status.ok()) {
        return {status.code(), fmt::format("params[{}]: {}", i, status.text())};
      }
    }
    outer::Config wanted;
    auto handle = std::make_shared<OuterHandle>();
    if (Status status = read_config(config, wanted, handle->timeout_ms); !status.ok()) return status;
    auto made = outer::Outer::create(std::move(read), wanted);
    if (!made.ok()) return made.status();
    handle->comm = comm;
    handle->outer = std::move(made.value());
    *outer_out = outers().add(std::move(handle));
    return {};
  });
}

hawser_status_t hawser_outer_sync(hawser_outer_t* outer, hawser_sync_info_t* info_out) {
  return guarded("hawser_outer_sync", [&]() -> Status {
    if (Status status = check_sync_info(info_out); !status.ok()) return status;
    return with(outer, [&](outer::Outer& inside, const outer::Outer::Session& session, const outer::Limits& limits) {
      runtime::SyncReport report;
      Status status = inside.sync(session, limits, report);
      write_sync_info(report, info_out);
      return status;
    });
  });
}

hawser_status_t hawser_outer_step(hawser_outer_t* outer, double weight, hawser_outer_info_t* info_out) {
  return guarded("hawser_outer_step", [&]() -> Status {
    if (Status status = check_weight(weight); !status.ok()) return status;
    return with_info(outer, info_out,
                     [&](outer::Outer& inside, const outer::Outer::Session& session, const outer::Limits& limits,
                         outer::Info& info) { return inside.step(session, limits, weight, info); });
  });
}

hawser_status_t hawser_outer_begin(hawser_outer_t* outer, double weight) {
  return guarded("hawser_outer_begin", [&]() -> Status {
    if (Status status = check_weight(weight); !status.ok()) return status;
    return with(outer, [&](outer::Outer& inside, const outer::Outer::Session& session, const outer::Limits& limits) {
      return inside.begin(session, limits, weight);
    });
  });
}

hawser_status_t hawser_outer_finish(hawser_outer_t* outer, hawser_outer_info_t* info_out) {
  return guarded("hawser_outer_finish", [&]() -> Status {
    return with_info(outer, info_out,
                     [&](outer::Outer& inside, const outer::Outer::Session& session, const outer::Limits& limits,
                         outer::Info& info) { return inside.finish(session, limits, info); });
  });
}

hawser_status_t hawser_outer_move_param(hawser_outer_t* outer, const hawser_outer_param_t* param) {
  return guarded("hawser_outer_move_param", [&]() -> Status {
    const auto found = outers().find(outer);
    if (!found) return no_outer();
    outer::Param moved;
    if (Status status = read_param(param, moved); !status.ok()) return status;
    return found->outer->move_param(moved);
  });
}

hawser_status_t hawser_outer_read(hawser_outer_t* outer, hawser_outer_tensor_kind_t kind, size_t index,
                                  float* values_out, size_t count) {
  return guarded("hawser_outer_read", [&]() -> Status {
    const auto found = outers().find(outer);
    if (!found) return no_outer();
    if (Status status = check_tensor(kind, values_out, count); !status.ok()) return status;
    return found->outer->read(static_cast<outer::Tensor>(kind), index, values_out, count);
  });
}

hawser_status_t hawser_outer_write(hawser_outer_t* outer, hawser_outer_tensor_kind_t kind, size_t index,
                                   const float* values, size_t count) {
  return guarded("hawser_outer_write", [&]() -> Status {
    const auto found = outers().find(outer);
    if (!found) return no_outer();
    if (Status status = check_tensor(kind, values, count); !status.ok()) return status;
    return found->outer->write(static_cast<outer::Tensor>(kind), index, values, count);
  });
}

hawser_status_t hawser_outer_round(hawser_outer_t* outer, uint64_t* round_out, uint32_t* pending_out) {
  return guarded("hawser_outer_round", [&]() -> Status {
    const auto found = outers().find(outer);
    if (!found) return no_outer();
    if (round_out == nullptr) return {Code::INVALID_ARGUMENT, "round_out is NULL"};
    bool pending = false;
    if (Status status = found->outer->round(*round_out, pending); !status.ok()) return status;
    if (pending_out != nullptr) *pending_out = pending ? 1 : 0;
    return {};
  });
}

hawser_status_t hawser_outer_set_round(hawser_outer_t* outer, uint64_t round, uint32_t pending) {
  return guarded("hawser_outer_set_round", [&]() -> Status {
    const auto found = outers().find(outer);
    if (!found) return no_outer();
    if (pending > 1) return {Code::INVALID_ARGUMENT, fmt::format("pending is {}, not 0 or 1", pending)};
    return found->outer->set_round(round, pending != 0);
  });
}

hawser_status_t hawser_outer_destroy(hawser_outer_t* outer) {
  return guarded("hawser_outer_destroy", [&]() -> Status { return outers().remove(outer) ? Status{} : no_outer(); });
}

}  // extern "C"
