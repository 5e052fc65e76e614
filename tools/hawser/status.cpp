// `hawser status`: asks coordinators who is there and what waits for what, and prints it as a table or as JSON.
#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.hpp"

namespace tool {
namespace {

using json = nlohmann::ordered_json;

struct StatusOptions {
  std::vector<std::string> addresses;
  std::uint32_t timeout_ms = 5000;
  bool json = false;
};

json report_of(const std::string& address, std::uint32_t timeout_ms) {
  std::string text(std::size_t{1} << 16, '\0');
  while (true) {
    std::size_t bytes = 0;
    const hawser_status_t status =
        hawser_coordinator_report(address.c_str(), timeout_ms, text.data(), text.size(), &bytes);
    if (status == HAWSER_INVALID_ARGUMENT && bytes > text.size()) {
      text.resize(2 * bytes);  // more may have come meanwhile
      continue;
    }
    require(status, fmt::format("status of {}", address));
    text.resize(bytes - 1);
    return json::parse(text);
  }
}

std::string text_of(const json& value, const char* missing = "-") {
  if (value.is_null()) return missing;
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string rate_text(const json& value, double unit) {
  return value.is_null() ? "-" : fmt::format("{:.1f}", value.get<double>() / unit);
}

std::string time_text(std::uint64_t ms) {
  if (ms < 10000) return fmt::format("{} ms", ms);
  const std::uint64_t seconds = ms / 1000;
  if (seconds < 600) return fmt::format("{} s", seconds);
  return seconds < 36000 ? fmt::format("{} min", seconds / 60) : fmt::format("{} h", seconds / 3600);
}

const char* rule_text(const std::string& rule) {
  if (rule == "alone") return "decided by its one coordinator";
  if (rule == "quorum") return "decided by a majority";
  if (rule == "arbiter") return "decided by who holds the key in etcd";
  return "";
}

constexpr char row_format[] = "  {:>4}  {:<20} {:<24} {:<10} {:>8}  {:>8} {:>10} {:>10}\n";

void print_peer(const json& peer) {
  const bool is_member = !peer["rank"].is_null();
  fmt::print(row_format, text_of(peer["rank"]), text_of(peer["name"]), text_of(peer["address"]), text_of(peer["state"]),
             time_text(peer["heard_ms"].get<std::uint64_t>()), is_member ? rate_text(peer["ops_per_s"], 1) : "-",
             is_member ? rate_text(peer["bytes_sent_per_s"], 1e6) : "-",
             is_member ? rate_text(peer["bytes_received_per_s"], 1e6) : "-");
  if (!peer["why"].is_null()) fmt::print("        {}{}\n", is_member ? "" : "waits for: ", text_of(peer["why"]));
  if (is_member && !peer["waits_for"].is_null()) {
    fmt::print("        slow for {}: {}\n", time_text(peer["slow_ms"].get<std::uint64_t>()),
               text_of(peer["waits_for"]));
  }
}

void print_group(const json& group) {
  const std::size_t members = group["members"].size();
  fmt::print("group {}  ", group["group"].get<std::uint32_t>());
  if (group["view"] == 0) {
    fmt::print("no view yet\n");
  } else {
    fmt::print("view {}, {} member{}, {}{}\n", group["view"].get<std::uint64_t>(), members, members == 1 ? "" : "s",
               rule_text(text_of(group["rule"])), group["leads"].get<bool>() ? "" : "; not led here");
  }
  if (!group["waits_for"].is_null()) fmt::print("  waits for: {}\n", text_of(group["waits_for"]));
  fmt::print(row_format, "rank", "name", "address", "state", "heard", "ops/s", "out MB/s", "in MB/s");
  for (const json& peer : group["members"]) print_peer(peer);
  for (const json& peer : group["others"]) print_peer(peer);
}

void print_report(const std::string& address, const json& report) {
  const auto peers = report["peers"].get<std::size_t>();
  fmt::print("coordinator {}  up {}, heartbeat {} ms, peer timeout {} ms, {} peer{}{}\n", address,
             time_text(report["up_ms"].get<std::uint64_t>()), report["heartbeat_ms"].get<std::uint32_t>(),
             report["peer_timeout_ms"].get<std::uint32_t>(), peers, peers == 1 ? "" : "s",
             report["standby_of"].is_null() ? "" : ", standby of " + text_of(report["standby_of"]));
  std::size_t shown = 0;
  for (const json& group : report["groups"]) {
    print_group(group);
    shown += group["members"].size() + group["others"].size();
  }
  if (shown < peers) fmt::print("and {} more peers\n", peers - shown);
}

int run_status(const StatusOptions& options) {
  for (const std::string& address : options.addresses) {
    const json report = report_of(address, options.timeout_ms);
    if (!options.json) {
      print_report(address, report);
      continue;
    }
    json out = {{"address", address}};
    out.update(report);
    fmt::print("{}\n", out.dump());
  }
  return exit_ok;
}

}  // namespace

void add_status_command(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("status", "Show who is in the groups of a coordinator, and what waits for what");
  auto options = std::make_shared<StatusOptions>();
  command->add_option("ADDR", options->addresses, "HOST:PORT of a coordinator; several one after the other")
      ->required()
      ->delimiter(',');
  command->add_option("--timeout-ms", options->timeout_ms, "For an answer")
      ->type_name("MS")
      ->check(CLI::Range(1, 3600000))
      ->capture_default_str();
  command->add_flag("--json", options->json, "One JSON object a line for each coordinator");
  command->footer(
      "\nMembers in rank order: since when nothing was heard of each, and its operations and bytes a second since the "
      "last\n"
      "heartbeat but one. Whoever has an operation open for unusually long says what it waits for. Then peers that "
      "are\n"
      "no members yet, and what they wait for. Asking disturbs nobody.\n" +
      footer("  hawser status 127.0.0.1:4900\n"
             "  hawser status 10.0.0.1:4900,10.0.0.2:4900 --json\n"
             "  hawser status 127.0.0.1:4900 --json | jq '.groups[].members[] | select(.slow_ms > 0)'"));
  command->callback([options, &action] { action = [options] { return run_status(*options); }; });
}

}  // namespace tool
