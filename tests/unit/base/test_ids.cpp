// Identities: their order, bytes and text.
#include <array>
#include <cstdint>

#include "base/ids.hpp"
#include "support/catch.hpp"

using hawser::Id128;

TEST_CASE("an identity is zero until it is set", "[base]") {
  CHECK(Id128{}.is_zero());
  CHECK_FALSE(Id128{0, 1}.is_zero());
  CHECK_FALSE(Id128{1, 0}.is_zero());
}

TEST_CASE("identities are ordered by their high half first", "[base]") {
  CHECK(Id128{1, 0} > Id128{0, ~std::uint64_t{0}});
  CHECK(Id128{1, 2} < Id128{1, 3});
  CHECK(Id128{1, 2} == Id128{1, 2});
  CHECK(Id128{1, 2} != Id128{2, 1});
}

TEST_CASE("an identity's bytes are big-endian, its text is those bytes", "[base]") {
  const Id128 id{0x0011223344556677, 0x8899aabbccddeeff};
  const std::array<std::uint8_t, 16> expected = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                                 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
  CHECK(id.bytes() == expected);
  CHECK(hawser::to_string(id) == "00112233445566778899aabbccddeeff");
  CHECK(hawser::short_name(id) == "00112233");
}
