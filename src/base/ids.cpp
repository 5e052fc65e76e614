// Printing of identities.
#include "base/ids.hpp"

#include <fmt/format.h>

namespace hawser {

std::array<std::uint8_t, 16> Id128::bytes() const {
  std::array<std::uint8_t, 16> out{};
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<std::uint8_t>(high >> (56 - 8 * i));
    out[8 + i] = static_cast<std::uint8_t>(low >> (56 - 8 * i));
  }
  return out;
}

std::string to_string(const Id128& id) { return fmt::format("{:016x}{:016x}", id.high, id.low); }

std::string short_name(const Id128& id) { return fmt::format("{:08x}", id.high >> 32); }

}  // namespace hawser
