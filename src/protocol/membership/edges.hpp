// Members that cannot reach each other: whom a group has to do without. Pure.
#pragma once

#include <cstddef>
#include <vector>

namespace hawser::protocol {

// broken[a][b]: a and b have no connection; symmetric. Two such members are served by a third that reaches both. Gives
// those that must go so that this holds for all who stay, in the order in which they were chosen: again and again the
// one with most pairs that nobody serves; of equals the one with most broken pairs, then the last. Pairs with one that
// is `spared` do not count, but it may serve others.
std::vector<std::size_t> unserved(const std::vector<std::vector<bool>>& broken, const std::vector<bool>& spared);

}  // namespace hawser::protocol
