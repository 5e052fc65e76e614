// Asks a coordinator who is there and what waits for what, from outside of any group. Any thread; blocks.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.hpp"
#include "wire/messages.hpp"

namespace hawser::runtime {

// "HOST:PORT". BAD_ADDRESS: does not parse or resolve; NO_COORDINATOR: nothing listens there, or it does not answer
// within the time, or another one leads; NOT_A_COORDINATOR, VERSION_MISMATCH, RESOURCE. The text names the address.
Result<wire::StatusReport> query_status(const std::string& address, std::int64_t timeout_ms);

// One JSON object, for programs; the members are described at hawser_coordinator_report.
std::string to_json(const wire::StatusReport& report);

}  // namespace hawser::runtime
