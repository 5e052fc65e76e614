// `hawser info`: what this build, this machine and its network interfaces offer. Reads files and libraries; starts
// nothing.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "command.hpp"

namespace tool {
namespace {

using nlohmann::json;

std::string version_text(std::uint32_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

// The first line of a file, "" if it cannot be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "key   : value" and "key: value kB" lines, as in /proc.
std::string proc_value(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t key_end = line.find_last_not_of(" \t", colon - 1);
    if (key_end == std::string::npos || line.compare(0, key_end + 1, key) != 0) continue;
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

json library_info() {
  json info;
  info["version"] = version_text(hawser_version());
  info["command_version"] = HAWSER_VERSION_STRING;
  const json build = json::parse(hawser_build_info(), nullptr, false);
  info["build"] = build.is_discarded() ? json(hawser_build_info()) : build;
  return info;
}

json machine_info() {
  json info;
  utsname name{};
  if (uname(&name) == 0) {
    info["kernel"] = fmt::format("{} {}", name.sysname, name.release);
    info["machine"] = name.machine;
    info["host"] = name.nodename;
  }
  info["processors"] = std::thread::hardware_concurrency();
  info["processor"] = proc_value("/proc/cpuinfo", "model name");
  info["memory"] = proc_value("/proc/meminfo", "MemTotal");
  info["page_bytes"] = sysconf(_SC_PAGESIZE);
  info["huge_pages"] = {{"transparent", first_line("/sys/kernel/mm/transparent_hugepage/enabled")},
                        {"reserved", proc_value("/proc/meminfo", "HugePages_Total")},
                        {"bytes", proc_value("/proc/meminfo", "Hugepagesize")}};
  info["congestion_control"] = first_line("/proc/sys/net/ipv4/tcp_congestion_control");
  return info;
}

json interfaces_info() {
  ifaddrs* raw = nullptr;
  json list = json::array();
  if (getifaddrs(&raw) != 0) return list;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> addresses(raw, &freeifaddrs);
  std::map<std::string, json> interfaces;
  for (const ifaddrs* entry = addresses.get(); entry != nullptr; entry = entry->ifa_next) {
    json& nic = interfaces[entry->ifa_name];
    if (nic.is_null()) {
      const std::string path = fmt::format("/sys/class/net/{}/", entry->ifa_name);
      const std::string speed = first_line(path + "speed");
      const std::string mtu = first_line(path + "mtu");
      nic = {{"name", entry->ifa_name},
             {"up", (entry->ifa_flags & IFF_UP) != 0 && (entry->ifa_flags & IFF_RUNNING) != 0},
             {"loopback", (entry->ifa_flags & IFF_LOOPBACK) != 0},
             {"mtu", mtu.empty() ? json() : json(std::strtol(mtu.c_str(), nullptr, 10))},
             // The kernel says nothing, or -1, where a link has no speed of its own.
             {"mbit_per_s",
              speed.empty() || speed.front() == '-' ? json() : json(std::strtol(speed.c_str(), nullptr, 10))},
             {"addresses", json::array()}};
    }
    if (entry->ifa_addr == nullptr) continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    const void* address = nullptr;
    const void* raw_address = entry->ifa_addr;
    const int family = entry->ifa_addr->sa_family;
    if (family == AF_INET) address = &static_cast<const sockaddr_in*>(raw_address)->sin_addr;
    if (family == AF_INET6) address = &static_cast<const sockaddr_in6*>(raw_address)->sin6_addr;
    if (address != nullptr && inet_ntop(family, address, text.data(), text.size()) != nullptr) {
      nic["addresses"].push_back(text.data());
    }
  }
  for (auto& [name, nic] : interfaces) list.push_back(std::move(nic));
  return list;
}

struct LibraryDeleter {
  void operator()(void* handle) const { dlclose(handle); }
};
using Library = std::unique_ptr<void, LibraryDeleter>;

template <typename Function>
Function* symbol(const Library& library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library.get(), name));
}

// The driver API, as far as it is needed here: CUresult is an enum whose success is 0, CUdevice an int.
json cuda_info() {
  const Library library(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL));
  if (!library) return {{"found", false}, {"reason", "libcuda.so.1 cannot be loaded"}};
  auto* const init = symbol<int(unsigned)>(library, "cuInit");
  auto* const driver_version = symbol<int(int*)>(library, "cuDriverGetVersion");
  auto* const device_count = symbol<int(int*)>(library, "cuDeviceGetCount");
  auto* const device_name = symbol<int(char*, int, int)>(library, "cuDeviceGetName");
  if (init == nullptr || driver_version == nullptr || device_count == nullptr || device_name == nullptr) {
    return {{"found", false}, {"reason", "libcuda.so.1 lacks the functions of the driver API"}};
  }
  json info = {{"found", true}, {"devices", json::array()}};
  int version = 0;
  if (driver_version(&version) == 0) info["version"] = fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  if (const int error = init(0); error != 0) {
    info["reason"] = fmt::format("cuInit gave error {}", error);
    return info;
  }
  int count = 0;
  device_count(&count);
  for (int device = 0; device < count; ++device) {
    std::array<char, 256> name{};
    if (device_name(name.data(), static_cast<int>(name.size()), device) == 0) info["devices"].push_back(name.data());
  }
  return info;
}

json nccl_info() {
  const Library library(dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL));
  if (!library) return {{"found", false}, {"reason", "libnccl.so.2 cannot be loaded"}};
  json info = {{"found", true}};
  int version = 0;
  auto* const get_version = symbol<int(int*)>(library, "ncclGetVersion");
  if (get_version != nullptr && get_version(&version) == 0) {
    // Since 2.9 the number is 10000 * major + 100 * minor + patch; before, 1000 * major.
    const int unit = version >= 10000 ? 10000 : 1000;
    info["version"] = fmt::format("{}.{}.{}", version / unit, version % unit / 100, version % 100);
  }
  return info;
}

std::string value_text(const json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    std::string text;
    for (const json& entry : value) text += (text.empty() ? "" : ", ") + value_text(entry);
    return text.empty() ? "none" : text;
  }
  if (value.is_object()) {
    std::string text;
    for (const auto& [key, entry] : value.items())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, value_text(entry));
    return text;
  }
  return value.dump();
}

void print_section(const char* title, const json& section) {
  fmt::print("{}\n", title);
  for (const auto& [key, value] : section.items()) fmt::print("  {:<20} {}\n", key, value_text(value));
}

int run_info(bool as_json) {
  json library = library_info();
  const json machine = machine_info();
  const json interfaces = interfaces_info();
  const json cuda = cuda_info();
  const json nccl = nccl_info();
  if (as_json) {
    library["machine"] = machine;
    library["interfaces"] = interfaces;
    library["cuda"] = cuda;
    library["nccl"] = nccl;
    fmt::print("{}\n", library.dump(2));
    return exit_ok;
  }
  const json build = library["build"];
  fmt::print("hawser {}{}\n", library["version"].get<std::string>(),
             library["version"] == library["command_version"]
                 ? ""
                 : fmt::format(" (this command was built for {})", HAWSER_VERSION_STRING));
  if (build.is_object()) {
    print_section("build", build);
  } else {
    fmt::print("build\n  {}\n", value_text(build));
  }
  print_section("machine", machine);
  fmt::print("interfaces\n");
  for (const json& nic : interfaces) {
    fmt::print("  {:<20} {}, mtu {}, {} Mbit/s, {}\n", nic["name"].get<std::string>(),
               nic["up"].get<bool>() ? "up" : "down", value_text(nic["mtu"]), value_text(nic["mbit_per_s"]),
               value_text(nic["addresses"]));
  }
  print_section("cuda", cuda);
  print_section("nccl", nccl);
  return exit_ok;
}

}  // namespace

void add_info_command(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("info", "Show build, processor, network interfaces, CUDA and NCCL found");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Print one JSON object");
  command->footer(
      footer("  hawser info\n"
             "  hawser info --json | jq .interfaces"));
  command->callback([as_json, &action] { action = [as_json] { return run_info(*as_json); }; });
}

}  // namespace tool
