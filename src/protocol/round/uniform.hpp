// A list of operations whose results are to be those of one membership: which of them have to run again. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/ids.hpp"

namespace hawser::protocol {

// Given the participants of each item's commit, the items that are not of the newest membership, in order; none when
// all are of one. Within a generation members only go, so the newest is the one with the fewest participants. Members
// agree about the participants of a commit (docs/protocol.md#lists), hence about this too. Takes no memory when `out`
// has room for all.
void items_to_rerun(std::span<const std::span<const PeerId>> participants, std::vector<std::size_t>& out);

}  // namespace hawser::protocol
