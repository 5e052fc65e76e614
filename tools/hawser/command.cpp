// Exit codes, failures and owners that every command uses. Runs on the command's main thread.
#include "command.hpp"

#include <fmt/format.h>

#include <array>

namespace tool {

const char* const exit_codes_text =
    "Exit codes:\n"
    "  0  success\n"
    "  1  wrong values, a failed operation, a hang, or a child process that failed\n"
    "  2  wrong, missing or unsupported options\n"
    "  3  no coordinator could be reached, or the group did not come together in time\n"
    "  4  a resource is missing: address in use, memory, descriptors, processes";

ExitCode exit_code_of(hawser_status_t status) {
  if (status == HAWSER_OK) return exit_ok;
  if (status == HAWSER_MISMATCH) return exit_failed;
  switch (hawser_status_category(status)) {
    case HAWSER_CATEGORY_USAGE:
      return exit_usage;
    case HAWSER_CATEGORY_COORDINATOR:
      return exit_no_coordinator;
    case HAWSER_CATEGORY_RESOURCE:
      return exit_resource;
    case HAWSER_CATEGORY_NONE:
    case HAWSER_CATEGORY_RETRY:
    case HAWSER_CATEGORY_PEER_LOST:
    case HAWSER_CATEGORY_MEMBERSHIP:
    case HAWSER_CATEGORY_INTERNAL:
      return exit_failed;
  }
  return exit_failed;
}

std::string describe(hawser_status_t status, const std::string& what) {
  std::string sentence = hawser_last_error();
  if (sentence.empty()) sentence = hawser_status_string(status);
  return fmt::format("{}: {}: {}", what, hawser_status_name(status), sentence);
}

void require(hawser_status_t status, const std::string& what) {
  if (status != HAWSER_OK) throw Failure(exit_code_of(status), describe(status, what));
}

Coordinator start_coordinator(const hawser_coordinator_config_t& config) {
  hawser_coordinator_t* raw = nullptr;
  const hawser_status_t status = hawser_coordinator_start(&config, &raw);
  require(status, "the coordinator did not start");
  return Coordinator(raw);
}

std::string address_of(const Coordinator& coordinator) {
  std::array<char, 128> buffer{};
  require(hawser_coordinator_address(coordinator.get(), buffer.data(), buffer.size()), "coordinator address");
  return buffer.data();
}

std::string footer(const std::string& examples) {
  return fmt::format("\nExamples:\n{}\n\n{}", examples, exit_codes_text);
}

}  // namespace tool
