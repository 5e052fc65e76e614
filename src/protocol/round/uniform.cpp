// Which items of a list run again; see the header.
#include "protocol/round/uniform.hpp"

#include <algorithm>

namespace hawser::protocol {

void items_to_rerun(std::span<const std::span<const PeerId>> participants, std::vector<std::size_t>& out) {
  out.clear();
  if (participants.empty()) return;
  const auto& newest = *std::min_element(participants.begin(), participants.end(),
                                         [](const auto& a, const auto& b) { return a.size() < b.size(); });
  for (std::size_t i = 0; i < participants.size(); ++i) {
    if (!std::equal(participants[i].begin(), participants[i].end(), newest.begin(), newest.end())) out.push_back(i);
  }
}

}  // namespace hawser::protocol
