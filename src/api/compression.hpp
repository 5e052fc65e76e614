// What the calls that take a hawser_compression_t share. Any thread.
#pragma once

#include "base/status.hpp"
#include "hawser/hawser.h"
#include "runtime/data/two_shot.hpp"

namespace hawser::api {

// NULL is no compression. Leaves the weight alone; the residual is found but not acquired.
Status read_compression(const hawser_compression_t* given, runtime::Coding& coding);

}  // namespace hawser::api
