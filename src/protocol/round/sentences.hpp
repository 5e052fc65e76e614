// Sentences about calls, for those who made them. Pure.
#pragma once

#include <string>

#include "wire/messages.hpp"

namespace hawser::protocol {

std::string describe(const wire::OpParams& params);

// Which call of its stream this is.
std::string describe(const wire::OpKey& key);

// Two members, by rank and name, and what each of them calls. Another sentence for every call.
std::string disagreement(const wire::OpKey& key, const std::string& one, const wire::OpParams& ones,
                         const std::string& other, const wire::OpParams& others);

}  // namespace hawser::protocol
