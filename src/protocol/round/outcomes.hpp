// What becomes of the open operations of a sealed group: a pure function of the members' answers.
// docs/protocol.md#outcomes.
#pragma once

#include <map>
#include <vector>

#include "wire/messages.hpp"

namespace hawser::protocol {

// `old_view`: the sealed view. `survivors`: its members that stay, each with its answer. Operations that may simply go
// on have no outcome in the result.
std::vector<wire::Outcome> decide_outcomes(const wire::View& old_view,
                                           const std::map<PeerId, wire::SealReply>& survivors);

}  // namespace hawser::protocol
