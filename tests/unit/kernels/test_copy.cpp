// copy_ahead(): every byte and no other, at every alignment.
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/kernels.hpp"
#include "support/catch.hpp"

TEST_CASE("a copy that asks ahead has every byte and touches no other", "[kernels]") {
  constexpr std::size_t room = 1024;
  std::vector<unsigned char> from(room);
  std::iota(from.begin(), from.end(), static_cast<unsigned char>(1));
  for (std::size_t to = 0; to < 64; to += 3) {
    for (std::size_t at = 0; at < 16; at += 5) {
      for (const std::size_t bytes : {0U, 1U, 63U, 64U, 65U, 127U, 128U, 200U, 256U, 700U}) {
        std::vector<unsigned char> expected(room, 0);
        std::copy_n(from.data() + at, bytes, expected.data() + to);
        std::vector<unsigned char> copied(room, 0);
        hawser::kernels::copy_ahead(copied.data() + to, from.data() + at, bytes);
        REQUIRE(copied == expected);
      }
    }
  }
}
