// Identities: 128-bit values that name peers, runs and the right to connect two peers.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

namespace hawser {

struct Id128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  // clang-tidy 14 takes the 0 that a comparison ends in for a null pointer.
  auto operator<=>(const Id128&) const = default;  // NOLINT(modernize-use-nullptr)
  [[nodiscard]] bool is_zero() const { return high == 0 && low == 0; }
  [[nodiscard]] std::array<std::uint8_t, 16> bytes() const;  // big-endian
};

struct PeerId : Id128 {};     // one process with one communicator
struct RunId : Id128 {};      // one instance of a coordinator: two coordinators are never the same run
struct LineageId : Id128 {};  // a group and its views, from its first formation on, whatever coordinator leads it
struct Ticket : Id128 {};     // the right to open strands between two admitted peers

std::string to_string(const Id128& id);   // 32 hexadecimal digits
std::string short_name(const Id128& id);  // the first 8, for logs

}  // namespace hawser
