// The twin itself, on values worked out by hand: a test against a wrong twin would prove little.
#include "support/catch.hpp"
#include "unit/kernels/twin.hpp"

using hawser::Dtype;
using hawser::Redop;

TEST_CASE("the twin's float formats are those of IEEE 754 and bfloat16", "[kernels][twin]") {
  CHECK(twin::decode(Dtype::f16, 0x3c00) == 1.0);
  CHECK(twin::decode(Dtype::f16, 0x7bff) == 65504.0);
  CHECK(twin::decode(Dtype::f16, 0x0001) == std::ldexp(1.0, -24));
  CHECK(twin::decode(Dtype::f16, 0x03ff) == std::ldexp(1023.0, -24));
  CHECK(twin::decode(Dtype::f16, 0xc248) == -3.140625);
  CHECK(twin::decode(Dtype::bf16, 0x3f80) == 1.0);
  CHECK(twin::decode(Dtype::bf16, 0x4049) == 3.140625);
  CHECK(twin::decode(Dtype::bf16, 0x0001) == std::ldexp(1.0, -133));
  CHECK(std::isinf(twin::decode(Dtype::f16, 0xfc00)));
  CHECK(std::isnan(twin::decode(Dtype::bf16, 0x7f81)));

  CHECK(twin::encode(Dtype::f16, 65519.99) == 0x7bff);
  CHECK(twin::encode(Dtype::f16, 65520.0) == 0x7c00);  // half way to 65536: the even one
  CHECK(twin::encode(Dtype::f16, std::ldexp(1.0, -25)) == 0x0000);
  CHECK(twin::encode(Dtype::f16, std::ldexp(3.0, -25)) == 0x0002);
  CHECK(twin::encode(Dtype::f16, std::ldexp(1.001, -25)) == 0x0001);
  CHECK(twin::encode(Dtype::f16, 1.0 + std::ldexp(1.0, -11)) == 0x3c00);
  CHECK(twin::encode(Dtype::f16, 1.0 + std::ldexp(3.0, -11)) == 0x3c02);
  CHECK(twin::encode(Dtype::f16, -0.0) == 0x8000);
  CHECK(twin::encode(Dtype::bf16, 1.0 + std::ldexp(1.0, -8)) == 0x3f80);
  CHECK(twin::encode(Dtype::bf16, 1.0 + std::ldexp(3.0, -8)) == 0x3f82);
  CHECK(twin::encode(Dtype::bf16, std::numeric_limits<double>::quiet_NaN()) == 0x7fc0);
  CHECK(twin::encode(Dtype::f16, -std::numeric_limits<double>::quiet_NaN()) == 0x7e00);

  for (const Dtype dtype : twin::half_dtypes) {
    for (std::uint64_t bits = 0; bits < 65536; ++bits) {
      const double value = twin::decode(dtype, bits);
      if (!std::isnan(value) && twin::encode(dtype, value) != bits) FAIL(hawser::dtype_name(dtype) << " " << bits);
    }
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(random());
    const float value = twin::bits_as<float>(bits);
    if (std::isnan(value)) continue;
    if (twin::decode(Dtype::f32, bits) != static_cast<double>(value)) FAIL(bits);
    if (twin::f32_bits(value) != bits) FAIL(bits);
  }
}

TEST_CASE("the twin's integers wrap and divide as in C", "[kernels][twin]") {
  CHECK(twin::reduce(Dtype::u8, Redop::sum, 200, 100) == 44);
  CHECK(twin::reduce(Dtype::u8, Redop::prod, 255, 255) == 1);
  CHECK(twin::reduce(Dtype::i8, Redop::sum, 0x7f, 1) == 0x80);
  CHECK(twin::reduce(Dtype::i8, Redop::min, 0xff, 1) == 0xff);
  CHECK(twin::reduce(Dtype::u8, Redop::min, 0xff, 1) == 1);
  CHECK(twin::reduce(Dtype::u16, Redop::prod, 65535, 65535) == 1);
  CHECK(twin::reduce(Dtype::i64, Redop::prod, 0x8000000000000000u, 0xffffffffffffffffu) == 0x8000000000000000u);
  CHECK(twin::reduce(Dtype::u64, Redop::prod, 0xffffffffffffffffu, 0xffffffffffffffffu) == 1);
  CHECK(twin::divide(Dtype::i8, 0xf9, 2) == 0xfd);  // -7 / 2 == -3
  CHECK(twin::divide(Dtype::i8, 0x80, 300) == 0);
  CHECK(twin::divide(Dtype::i32, 0x80000000u, 0xffffffffu) == 0);
  CHECK(twin::divide(Dtype::u32, 0xffffffffu, 2) == 0x7fffffffu);
}
