// digest(): fixed values, which no version of the hash and no processor may change, and the arithmetic of combining.
#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/dispatch.hpp"
#include "support/catch.hpp"

using hawser::kernels::Digest;
using hawser::kernels::digest;
using hawser::kernels::Variant;

namespace {

std::vector<unsigned char> pattern(std::size_t bytes) {
  std::vector<unsigned char> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<unsigned char>(i * 131 + (i >> 8) * 7);
  return out;
}

struct Golden {
  std::size_t bytes;
  std::uint64_t piece, high, low;
};

// Of the pattern above, by libxxhash 0.8.1 (XXH3_128bits_withSeed). The first is in the specification of XXH3 as well.
constexpr Golden golden[] = {
    {0, 0x0u, 0x99aa06d3014798d8u, 0x6001c324468d497fu},
    {0, 0x1u, 0xd9265cc53bb2b9aeu, 0x6131b78f753823cdu},
    {0, 0x9e3779b97f4a7c15u, 0xd142977a2cca554bu, 0x4ca5176998171787u},
    {1, 0x0u, 0xa6cd5e9392000f6au, 0xc44bdff4074eecdbu},
    {1, 0x1u, 0x3b3052d680068ad3u, 0x5eaac1f7b17ef730u},
    {1, 0x9e3779b97f4a7c15u, 0xe366b8c99a31df50u, 0x062b185e4e01441au},
    {4, 0x0u, 0x6ae518c60df23fcau, 0xdb9cecd5eb59a7f1u},
    {4, 0x1u, 0xf900734f8ea40cd6u, 0xd3798c592e843eeau},
    {4, 0x9e3779b97f4a7c15u, 0xafff1bff33c5f3a5u, 0xad7fedd6d82926e7u},
    {9, 0x0u, 0x83c871b1014e6f76u, 0xd8a20b5b7aa68a37u},
    {9, 0x1u, 0x3a13410fc3197f73u, 0xd60920cf0bbd7d4cu},
    {9, 0x9e3779b97f4a7c15u, 0xf0a3439d8026634cu, 0x85a68ce052a89b26u},
    {16, 0x0u, 0x248181305d3c1039u, 0xadebb1d9d080b69cu},
    {16, 0x1u, 0xc7c43da3193c7d78u, 0xe12118d12f190851u},
    {16, 0x9e3779b97f4a7c15u, 0x0858039617fad228u, 0xe0cf321c7e70b846u},
    {17, 0x0u, 0x825a0db7d0afe2c0u, 0xcfea252f6b7ed7e9u},
    {17, 0x1u, 0xfd4fa19039823bdau, 0x9aacac3be4f079cfu},
    {17, 0x9e3779b97f4a7c15u, 0xef0eee6b2ce53e2bu, 0xaf7044cf424c104cu},
    {128, 0x0u, 0x08df79f520370b52u, 0x5cfea347ea4bb687u},
    {128, 0x1u, 0x9c89cbfa7ec686e5u, 0xc0fc9e0cb239dcdfu},
    {128, 0x9e3779b97f4a7c15u, 0x269a3d550427cf24u, 0x5c0cb63a4cae662cu},
    {129, 0x0u, 0xfc1d02037be48a62u, 0x821740ece8839b64u},
    {129, 0x1u, 0xc9f4ea733141d2d7u, 0xd90e1fc784904e04u},
    {129, 0x9e3779b97f4a7c15u, 0x7d5ba2da6078370cu, 0xeec0244a5ebeb911u},
    {240, 0x0u, 0x8406fbd017acdf4eu, 0x687f00a7f64e46dbu},
    {240, 0x1u, 0x3ec504a8657c609au, 0x21bbd93c7d28c527u},
    {240, 0x9e3779b97f4a7c15u, 0x39097b5d29e651d9u, 0xe3c17b6f3d693f21u},
    {241, 0x0u, 0xd894c74b1b3ea28fu, 0x44dbd3180a664e27u},
    {241, 0x1u, 0xc2fcfec5e9d004bbu, 0xed5b77c898fb4ae7u},
    {241, 0x9e3779b97f4a7c15u, 0x83bc911ec14cd095u, 0x4057dee0902b483bu},
    {1025, 0x0u, 0x4010f40cb0ea5efdu, 0xa3908b116ddf0191u},
    {1025, 0x1u, 0x3185b025796cf974u, 0x8fd5454c93022b41u},
    {1025, 0x9e3779b97f4a7c15u, 0x5768fefece527383u, 0x401f4c9e81220778u},
    {100000, 0x0u, 0x98a827951405297cu, 0x3a0109e04c9ff5bau},
    {100000, 0x1u, 0x2c31ea65057772d1u, 0x64767da55e6c26fau},
    {100000, 0x9e3779b97f4a7c15u, 0x107e79a7cbf44030u, 0xba04c2634e514017u},
};

}  // namespace

TEST_CASE("digest is XXH3-128 seeded with the piece, in one go or as the bytes come", "[kernels][digest]") {
  for (const Golden& g : golden) {
    const std::vector<unsigned char> data = pattern(g.bytes);
    const Digest got = digest(data.data(), g.bytes, g.piece);
    CAPTURE(g.bytes, g.piece);
    CHECK(got.high == g.high);
    CHECK(got.low == g.low);
    for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
      CHECK(hawser::kernels::table_of(variant).digest(data.data(), g.bytes, g.piece) == got);
    }
    hawser::kernels::RunningDigest running;
    running.begin(g.piece + 1, 5);
    running.add("else", 4);
    running.begin(g.piece, g.bytes);
    for (std::size_t at = 0, step = 1; at < g.bytes; at += step, step = 3 * step + 1) {
      running.add(data.data() + at, std::min(step, g.bytes - at));
    }
    running.add(nullptr, 0);
    CHECK(running.value() == got);
  }
  CHECK(digest(nullptr, 0, 0) == Digest{0x99aa06d3014798d8u, 0x6001c324468d497fu});
}

TEST_CASE("a running digest does not depend on what its memory held before", "[kernels][digest]") {
  using hawser::kernels::RunningDigest;
  const std::vector<unsigned char> data = pattern(5000);
  alignas(RunningDigest) std::array<unsigned char, sizeof(RunningDigest)> memory{};
  auto* const before = new (memory.data()) RunningDigest;
  before->begin(7, data.size());
  before->add(data.data(), data.size());
  before->~RunningDigest();
  // As by others who had some of it meanwhile.
  for (std::size_t hole = 0; hole + 64 <= memory.size(); hole += 64) {
    const auto kept = memory;
    std::fill_n(memory.begin() + static_cast<std::ptrdiff_t>(hole), 64, static_cast<unsigned char>(0x55));
    auto* const after = new (memory.data()) RunningDigest;
    after->begin(7, data.size());
    after->add(data.data(), data.size());
    CAPTURE(hole);
    CHECK(after->value() == digest(data.data(), data.size(), 7));
    after->~RunningDigest();
    memory = kept;
  }
}

TEST_CASE("a running digest is that of the whole, however it comes, in every variant", "[kernels][digest]") {
  using namespace hawser::kernels;
  const std::vector<unsigned char> data = pattern(40000);
  std::mt19937_64 random(11);
  for (const std::uint64_t piece : {0U, 5U}) {
    for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
      const Table& table = table_of(variant);
      for (int turn = 0; turn < 600; ++turn) {
        // Ends of stripes and blocks, and one byte to either side; whole stripes, KiB, or anything at a time.
        const std::size_t ends[] = {240, 256, 1024, 2048, 8192, 33 * 1024};
        std::size_t bytes = random() % data.size();
        if (turn % 2 == 0) bytes = ends[random() % std::size(ends)] + random() % 3 * 64 + random() % 3 - 1;
        const std::size_t grain = std::array<std::size_t, 4>{1, 64, 1024, 8192}[random() % 4];
        const std::size_t most = std::array<std::size_t, 3>{grain, 5 * grain, 300 * grain}[random() % 3];
        HashState state;
        table.digest_begin(state, piece);
        for (std::size_t at = 0; at < bytes;) {
          const std::size_t some = std::min((random() % (most / grain) + 1) * grain, bytes - at);
          table.digest_add(state, data.data() + at, some, bytes - at);
          at += some;
        }
        if (!(table.digest_value(state) == digest(data.data(), bytes, piece))) {
          FAIL(variant_name(variant) << ", " << bytes << " bytes, " << grain << " at a time, turn " << turn);
        }
      }
    }
  }
}

TEST_CASE("checksum is XXH3-64, in one piece or in several", "[kernels][digest]") {
  struct Sum {
    std::size_t bytes;
    std::uint64_t value;
  };
  static constexpr Sum sums[] = {{0, 0x2d06800538d394c2u},     {1, 0xc44bdff4074eecdbu},   {16, 0xa0ec5ae8679cb7fu},
                                 {240, 0xb80284837259eee4u},   {241, 0x44dbd3180a664e27u}, {1025, 0xa3908b116ddf0191u},
                                 {100000, 0x3a0109e04c9ff5bau}};
  for (const Sum& sum : sums) {
    const std::vector<unsigned char> data = pattern(sum.bytes);
    CAPTURE(sum.bytes);
    CHECK(hawser::kernels::checksum(data.data(), data.size()) == sum.value);
    for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
      CHECK(hawser::kernels::table_of(variant).checksum(data.data(), data.size()) == sum.value);
    }
    hawser::kernels::Checksum several;
    several.add("else", 4);
    several.begin();
    for (std::size_t at = 0, step = 1; at < data.size(); at += step, step = 3 * step + 1) {
      several.add(data.data() + at, std::min(step, data.size() - at));
    }
    several.add(nullptr, 0);
    CHECK(several.value() == sum.value);
  }
}

TEST_CASE("digest does not depend on the address", "[kernels][digest]") {
  const std::vector<unsigned char> data = pattern(5000);
  const Digest expected = digest(data.data(), 4900, 3);
  for (std::size_t offset = 1; offset < 70; ++offset) {
    std::vector<unsigned char> moved(offset + 4900);
    std::copy_n(data.begin(), 4900, moved.begin() + static_cast<std::ptrdiff_t>(offset));
    if (!(digest(moved.data() + offset, 4900, 3) == expected)) FAIL(offset);
  }
}

TEST_CASE("every changed bit changes the digest", "[kernels][digest]") {
  std::vector<unsigned char> data = pattern(300);
  const Digest expected = digest(data.data(), data.size(), 0);
  for (std::size_t bit = 0; bit < 8 * data.size(); ++bit) {
    data[bit / 8] = static_cast<unsigned char>(data[bit / 8] ^ (1u << (bit % 8)));
    if (digest(data.data(), data.size(), 0) == expected) FAIL(bit);
    data[bit / 8] = static_cast<unsigned char>(data[bit / 8] ^ (1u << (bit % 8)));
  }
  CHECK(digest(data.data(), data.size(), 0) == expected);
}

TEST_CASE("pieces combine in any order, and only the same pieces give the same digest", "[kernels][digest]") {
  const std::vector<unsigned char> data = pattern(4096);
  std::vector<Digest> pieces;
  for (std::uint64_t piece = 0; piece < 8; ++piece) pieces.push_back(digest(data.data() + 512 * piece, 512, piece));
  Digest forward;
  Digest backward;
  for (std::size_t i = 0; i < 8; ++i) {
    forward.combine(pieces[i]);
    backward.combine(pieces[7 - i]);
  }
  CHECK(forward == backward);

  Digest exchanged;  // two pieces at each other's place
  for (std::uint64_t piece = 0; piece < 8; ++piece) {
    const std::uint64_t from = piece == 2 ? 5 : piece == 5 ? 2 : piece;
    exchanged.combine(digest(data.data() + 512 * from, 512, piece));
  }
  CHECK_FALSE(exchanged == forward);

  Digest doubled = forward;  // a piece counted twice
  doubled.combine(pieces[3]);
  CHECK_FALSE(doubled == forward);

  Digest wrapped{~std::uint64_t{0}, ~std::uint64_t{0}};
  wrapped.combine({1, 2});
  CHECK(wrapped == Digest{0, 1});
}
