// divide(): the last step of an average, against the twin; integers exhaustively where that is possible.
#include "support/catch.hpp"
#include "unit/kernels/twin.hpp"

using hawser::Dtype;
using hawser::kernels::Variant;
using twin::Array;

namespace {

constexpr std::uint32_t divisors[] = {
    1,        2,        3,          5,          7,           10,          127,         128,        129,   255,
    256,      257,      300,        32767,      32768,       32769,       65535,       65536,      65537, 16777215,
    16777216, 16777217, 1000000007, 2147483647, 2147483648u, 2147483649u, 4294967294u, 4294967295u};

void check_divide(const Array& values, std::uint32_t divisor) {
  const Dtype dtype = values.dtype();
  Array expected(dtype, values.count());
  for (std::size_t i = 0; i < values.count(); ++i) expected.set(i, twin::divide(dtype, values[i], divisor));
  for (const Variant variant : twin::variants()) {
    Array got(dtype, values.count());
    got.copy_from(values);
    hawser::kernels::divide(dtype, got.data(), got.count(), divisor, variant);
    const std::size_t i = twin::mismatch(got, expected);
    if (i == expected.count()) continue;
    FAIL(hawser::dtype_name(dtype) << " " << variant_name(variant) << std::hex << " " << values[i] << " / " << divisor
                                   << " gave " << got[i] << ", not " << expected[i]);
  }
}

}  // namespace

TEST_CASE("divide of every value of the 8-bit and 16-bit types", "[kernels][divide]") {
  for (const Dtype dtype : {Dtype::u8, Dtype::i8, Dtype::u16, Dtype::i16, Dtype::f16, Dtype::bf16}) {
    Array all(dtype, std::size_t{1} << twin::width(dtype));
    for (std::size_t i = 0; i < all.count(); ++i) all.set(i, i);
    for (const std::uint32_t divisor : divisors) check_divide(all, divisor);
  }
}

TEST_CASE("divide of integers around the multiples of the divisor", "[kernels][divide]") {
  std::mt19937_64 random(9);
  for (const Dtype dtype :
       {Dtype::u8, Dtype::i8, Dtype::u16, Dtype::i16, Dtype::u32, Dtype::i32, Dtype::u64, Dtype::i64}) {
    for (int round = 0; round < 200; ++round) {
      const std::uint32_t divisor =
          round < static_cast<int>(std::size(divisors))
              ? divisors[round]
              : std::max(std::uint32_t{1}, static_cast<std::uint32_t>(random() >> (32 + random() % 32)));
      Array values(dtype, 301);
      for (std::size_t i = 0; i < values.count(); ++i) {
        const std::uint64_t quotient = random() >> (random() % 64);
        values.set(i, quotient * divisor + i % 3 - 1);
      }
      check_divide(values, divisor);
    }
  }
}

TEST_CASE("divide of special and random values, every length and alignment of elements", "[kernels][divide]") {
  std::mt19937_64 random(10);
  for (const Dtype dtype : twin::all_dtypes) {
    for (const std::uint32_t divisor : divisors) {
      Array values(dtype, 4099);
      twin::fill_random(values, random);
      const auto special = twin::special_values(dtype);
      for (std::size_t i = 0; i < special.size(); ++i) values.set(i, special[i]);
      check_divide(values, divisor);
    }
    for (std::size_t count = 0; count <= 130; ++count) {
      Array values(dtype, count);
      twin::fill_random(values, random);
      for (const Variant variant : twin::variants()) {
        Array got(dtype, count + 1, random() % 9);  // the last stays as it is
        if (count > 0) std::memcpy(got.data(), values.data(), values.bytes());
        const std::uint64_t guard = got[count];
        hawser::kernels::divide(dtype, got.data(), count, 3, variant);
        for (std::size_t i = 0; i < count; ++i) {
          if (got[i] != twin::divide(dtype, values[i], 3)) FAIL(hawser::dtype_name(dtype) << " " << count << " " << i);
        }
        if (got[count] != guard) FAIL("wrote behind the end");
      }
    }
  }
}

TEST_CASE("divide truncates towards zero and divides by one", "[kernels][divide]") {
  for (const Variant variant : twin::variants()) {
    std::int8_t bytes[] = {-128, -7, -1, 0, 1, 7, 127};
    hawser::kernels::divide(Dtype::i8, bytes, std::size(bytes), 2, variant);
    const std::int8_t halved[] = {-64, -3, 0, 0, 0, 3, 63};
    CHECK(std::memcmp(bytes, halved, sizeof bytes) == 0);

    std::int64_t least[] = {std::numeric_limits<std::int64_t>::min()};
    hawser::kernels::divide(Dtype::i64, least, 1, 1, variant);
    CHECK(least[0] == std::numeric_limits<std::int64_t>::min());

    float floats[] = {1.0f, -10.0f, 0.0f};
    hawser::kernels::divide(Dtype::f32, floats, 3, 3, variant);
    const float thirds[] = {1.0f / 3.0f, -10.0f / 3.0f, 0.0f};
    CHECK(std::memcmp(floats, thirds, sizeof floats) == 0);
  }
}

// The two are checked against the twin; this is one after the other.
TEST_CASE("mean has the bits of a sum that is divided", "[kernels][divide]") {
  std::mt19937_64 random(12);
  for (const Dtype dtype : twin::all_dtypes) {
    if (hawser::is_half(dtype)) continue;
    for (const std::uint32_t divisor : divisors) {
      const std::size_t count = 1 + random() % 700;
      Array a(dtype, count), b(dtype, count);
      twin::fill_random(a, random);
      twin::fill_random(b, random);
      const auto special = twin::special_values(dtype);
      for (std::size_t i = 0; i < std::min(count, special.size()); ++i) {
        a.set(i, special[i]);
        b.set(i, special[random() % special.size()]);
      }
      for (const Variant variant : twin::variants()) {
        Array expected(dtype, count), got(dtype, count), in_place(dtype, count);
        hawser::kernels::reduce(dtype, hawser::Redop::sum, variant)(expected.data(), a.data(), b.data(), count);
        hawser::kernels::divide(dtype, expected.data(), count, divisor, variant);
        hawser::kernels::mean(dtype, got.data(), a.data(), b.data(), count, divisor, variant);
        in_place.copy_from(b);
        hawser::kernels::mean(dtype, in_place.data(), a.data(), in_place.data(), count, divisor, variant);
        CAPTURE(hawser::dtype_name(dtype), variant_name(variant), divisor, count);
        REQUIRE(twin::mismatch(got, expected) == count);
        REQUIRE(twin::mismatch(in_place, expected) == count);
      }
    }
  }
}
