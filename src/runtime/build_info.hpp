// What this library is and what it found on this machine. Any thread.
#pragma once

#include <string>

namespace hawser::runtime {

std::string build_info();  // one JSON object

}  // namespace hawser::runtime
