// What a pure machine is told about the world with every event: the monotonic time and a source of random numbers. Both
// come from the caller, so that the runtime and the simulator run the same code.
#pragma once

#include <cstdint>

#include "base/ids.hpp"

namespace hawser::protocol {

using Millis = std::int64_t;  // monotonic, arbitrary zero

struct Env {
  Millis now = 0;
  Id128 random;  // fresh 128 random bits with every event
};

}  // namespace hawser::protocol
