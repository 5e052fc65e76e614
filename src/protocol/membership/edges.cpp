// Whom a group has to do without; see the header. How many serve each broken pair is counted once and kept up to date,
// so a group cut into two large halves costs a square of its size for each who goes, not a cube.
#include "protocol/membership/edges.hpp"

#include <cstdint>

namespace hawser::protocol {

std::vector<std::size_t> unserved(const std::vector<std::vector<bool>>& broken, const std::vector<bool>& spared) {
  const std::size_t size = broken.size();
  std::vector<bool> gone(size, false);
  std::vector<std::vector<std::uint16_t>> servers(size, std::vector<std::uint16_t>(size, 0));
  std::vector<std::size_t> alone(size, 0);   // broken pairs with this member that nobody serves
  std::vector<std::size_t> degree(size, 0);  // broken pairs
  const auto serves = [&](std::size_t third, std::size_t a, std::size_t b) {
    return third != a && third != b && !broken[third][a] && !broken[third][b];
  };
  const auto counts = [&](std::size_t a, std::size_t b) { return broken[a][b] && !spared[a] && !spared[b]; };
  for (std::size_t a = 0; a < size; ++a) {
    for (std::size_t b = a + 1; b < size; ++b) {
      if (!counts(a, b)) continue;
      for (std::size_t third = 0; third < size; ++third) {
        if (serves(third, a, b)) ++servers[a][b];
      }
      ++degree[a];
      ++degree[b];
      if (servers[a][b] != 0) continue;
      ++alone[a];
      ++alone[b];
    }
  }
  std::vector<std::size_t> out;
  for (;;) {
    std::size_t worst = size;
    for (std::size_t id = 0; id < size; ++id) {
      if (gone[id] || alone[id] == 0) continue;
      const bool worse =
          worst == size || alone[id] > alone[worst] || (alone[id] == alone[worst] && degree[id] >= degree[worst]);
      if (worse) worst = id;
    }
    if (worst == size) return out;
    gone[worst] = true;
    out.push_back(worst);
    for (std::size_t a = 0; a < size; ++a) {
      if (gone[a] || spared[a]) continue;
      if (broken[a][worst]) {
        --degree[a];
        if ((a < worst ? servers[a][worst] : servers[worst][a]) == 0) --alone[a];
        continue;
      }
      for (std::size_t b = a + 1; b < size; ++b) {
        if (gone[b] || !counts(a, b) || broken[b][worst]) continue;
        if (--servers[a][b] != 0) continue;
        ++alone[a];
        ++alone[b];
      }
    }
  }
}

}  // namespace hawser::protocol
