// Lists of all-reduces of the C API: checked, translated, left to the runtime.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

#include "api/comm.hpp"
#include "api/compression.hpp"
#include "api/support.hpp"
#include "runtime/all_reduce_many.hpp"

namespace hawser::api {
namespace {

// The element of a caller's array, whose structs may be of another size than this library's.
template <typename T>
T* at(T* array, std::size_t index) {
  std::size_t size = 0;
  std::memcpy(&size, array, sizeof(size));
  using Byte = std::conditional_t<std::is_const_v<T>, const unsigned char, unsigned char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(array) + index * size);
}

Status in_item(std::size_t index, const Status& status) {
  return {status.code(), fmt::format("items[{}]: {}", index, status.text())};
}

Status read_item(const hawser_many_item_t* given, std::size_t size, const runtime::OpCall& shared,
                 runtime::OpCall& out) {
  hawser_many_item_t item;
  if (Status status = read_sized(given, "hawser_many_item_t", item); !status.ok()) return status;
  std::size_t own_size = 0;
  std::memcpy(&own_size, given, sizeof(own_size));
  if (own_size != size) return {Code::INVALID_ARGUMENT, fmt::format("size is {}, that of items[0] {}", own_size, size)};
  auto call = all_reduce_call(static_cast<int>(std::min<std::uint32_t>(item.redop, 255)));
  if (!call.ok()) return call.status();
  out = shared;
  out.kind = call.value().kind;
  out.redop = call.value().redop;
  if (item.compression != nullptr) {
    runtime::Coding coding;
    if (Status status = read_compression(item.compression, coding); !status.ok()) return status;
    if (shared.coding) {
      coding.weighted = shared.coding->weighted;
      coding.weight = shared.coding->weight;
    }
    out.coding.reset();
    if (coding.format.codec != codec::Codec::none || coding.weighted) out.coding = std::move(coding);
  }
  const Buffers buffers{item.send, item.recv, item.count, static_cast<int>(std::min<std::uint32_t>(item.dtype, 255))};
  if (Status status = read_buffers(buffers, out); !status.ok()) return status;
  return check_coding(out);
}

// What one item writes, no other may read or write: they run at the same time.
Status check_overlap(const std::vector<runtime::OpCall>& calls) {
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    bool written;
    std::size_t item;
  };
  std::vector<Range> ranges;
  ranges.reserve(2 * calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const runtime::OpCall& call = calls[i];
    const std::size_t bytes = call.count * dtype_size(call.dtype);
    if (bytes == 0) continue;
    ranges.push_back({call.recv, call.recv + bytes, true, i});
    if (call.send != call.recv) ranges.push_back({call.send, call.send + bytes, false, i});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  const Range* read = nullptr;     // that reaches farthest, of those before
  const Range* written = nullptr;  // likewise
  for (const Range& range : ranges) {
    const Range* other = written != nullptr && written->end > range.begin ? written : nullptr;
    if (other == nullptr && range.written && read != nullptr && read->end > range.begin) other = read;
    if (other != nullptr) {
      return {Code::INVALID_ARGUMENT,
              fmt::format("items[{}] and items[{}] overlap, and one of them is written",
                          std::min(other->item, range.item), std::max(other->item, range.item))};
    }
    const Range*& farthest = range.written ? written : read;
    if (farthest == nullptr || range.end > farthest->end) farthest = &range;
  }
  return {};
}

Status check_residuals(const std::vector<runtime::OpCall>& calls) {
  std::set<const runtime::Residual*> seen;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (!calls[i].coding || !calls[i].coding->residual) continue;
    if (!seen.insert(calls[i].coding->residual.get()).second) {
      return {Code::INVALID_ARGUMENT, fmt::format("items[{}] has the residual of an item before it", i)};
    }
  }
  return {};
}

Status check_outputs(hawser_op_info_t* infos_out, std::size_t count, const hawser_many_info_t* info_out) {
  for (std::size_t i = 0; infos_out != nullptr && i < count; ++i) {
    if (i > 0) {
      std::size_t first = 0;
      std::size_t own = 0;
      std::memcpy(&first, infos_out, sizeof(first));
      std::memcpy(&own, at(infos_out, i), sizeof(own));
      if (own != first) {
        return {Code::INVALID_ARGUMENT, fmt::format("infos_out[{}].size is {}, that of the first {}", i, own, first)};
      }
    }
    if (Status status = check_info(at(infos_out, i)); !status.ok()) return status;
  }
  if (info_out == nullptr) return {};
  if (Status status = check_out(info_out, "info_out"); !status.ok()) return status;
  hawser_many_info_t asked;
  return read_sized(info_out, "hawser_many_info_t", asked);
}

void write_many_info(const runtime::ManyReport& report, hawser_many_info_t* info_out) {
  if (info_out == nullptr) return;
  hawser_many_info_t info = HAWSER_MANY_INFO_INIT;
  info.uniform = report.uniform ? 1 : 0;
  info.rounds = report.rounds;
  info.items_rerun = report.reruns;
  info.first_failed = report.first_failed;
  info.time_us = static_cast<std::uint64_t>(std::max<std::int64_t>(0, report.time_us));
  for (const runtime::ManyItem& entry : report.items) {
    const runtime::OpReport& item = entry.report;
    info.view = std::max(info.view, item.view);
    info.attempts = std::max(info.attempts, item.attempts);
    info.bytes_sent += item.bytes_sent;
    info.bytes_received += item.bytes_received;
    if (!item.status.ok()) continue;
    ++info.items_committed;
    const auto participants = static_cast<std::uint32_t>(item.participants.size());
    info.participants = info.participants == 0 ? participants : std::min(info.participants, participants);
  }
  write_sized(info, info_out);
}

Status reduce_many(const Call& entered, const hawser_many_item_t* items, std::size_t count, std::size_t in_flight_max,
                   const hawser_op_options_t* options, hawser_op_info_t* infos_out, hawser_many_info_t* info_out) {
  if (!entered.valid()) return entered.status();
  if (items == nullptr && count != 0) return {Code::INVALID_ARGUMENT, "items is NULL and count is not 0"};
  if (in_flight_max > runtime::in_flight_limit) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("in_flight_max is {}; at most {}", in_flight_max, runtime::in_flight_limit)};
  }
  if (Status status = check_outputs(infos_out, count, info_out); !status.ok()) return status;
  runtime::OpCall shared;
  shared.kind = runtime::OpKind::all_reduce;
  Extras extras;
  if (Status status = read_options(options, entered.comm(), shared, &extras); !status.ok()) return status;
  std::vector<runtime::OpCall> calls(count);
  std::size_t size = 0;
  if (count != 0) std::memcpy(&size, items, sizeof(size));
  for (std::size_t i = 0; i < count; ++i) {
    if (Status status = read_item(at(items, i), size, shared, calls[i]); !status.ok()) return in_item(i, status);
  }
  if (Status status = check_overlap(calls); !status.ok()) return status;
  if (Status status = check_residuals(calls); !status.ok()) return status;
  if (!entered.status().ok()) return entered.status();

  runtime::ManyOptions how;
  how.tag = shared.tag;
  how.timeout_ms = shared.timeout_ms;
  how.in_flight = in_flight_max == 0 ? runtime::in_flight_default : in_flight_max;
  how.strict = shared.strict;
  how.uniform = extras.uniform;
  how.interrupted = std::move(extras.interrupted);
  runtime::AllReduceMany list(entered.engine(), std::move(calls), std::move(how));
  const runtime::ManyReport report = list.run();
  const bool started =
      std::any_of(report.items.begin(), report.items.end(), [](const auto& item) { return item.runs != 0; });
  if (started || report.status.ok()) {
    for (std::size_t i = 0; infos_out != nullptr && i < count; ++i) {
      write_info(report.items[i].report, report.items[i].runs, at(infos_out, i));
    }
    write_many_info(report, info_out);
  }
  return report.status;
}

}  // namespace
}  // namespace hawser::api

using namespace hawser;       // NOLINT(google-build-using-namespace): the C functions stand outside of it
using namespace hawser::api;  // NOLINT(google-build-using-namespace)

extern "C" {

hawser_status_t hawser_all_reduce_many(hawser_comm_t* comm, const hawser_many_item_t* items, size_t count,
                                       size_t in_flight_max, const hawser_op_options_t* options,
                                       hawser_op_info_t* infos_out, hawser_many_info_t* info_out) {
  return guarded("hawser_all_reduce_many", [&]() -> Status {
    return reduce_many(Call(comm), items, count, in_flight_max, options, infos_out, info_out);
  });
}

}  // extern "C"
