// reduce(): every dtype, operation and variant against the twin; lengths, alignment, buffers in place; every variant
// against the scalar one.
#include "support/catch.hpp"
#include "unit/kernels/twin.hpp"

using hawser::Dtype;
using hawser::Redop;
using hawser::kernels::Variant;
using twin::Array;

namespace {

void check(const Array& got, const Array& expected, const Array& a, const Array& b, Redop redop, Variant variant) {
  const std::size_t i = twin::mismatch(got, expected);
  if (i == expected.count()) return;
  FAIL(hawser::dtype_name(got.dtype()) << " " << hawser::redop_name(redop) << " " << variant_name(variant)
                                       << " element " << i << " of " << got.count() << std::hex << ": " << a[i] << ", "
                                       << b[i] << " gave " << got[i] << ", not " << expected[i]);
}

Array twin_of(const Array& a, const Array& b, Redop redop) {
  Array expected(a.dtype(), a.count());
  for (std::size_t i = 0; i < a.count(); ++i) expected.set(i, twin::reduce(a.dtype(), redop, a[i], b[i]));
  return expected;
}

void check_all_variants(const Array& a, const Array& b, Redop redop) {
  const Array expected = twin_of(a, b, redop);
  for (const Variant variant : twin::variants()) {
    Array got(a.dtype(), a.count());
    hawser::kernels::reduce(a.dtype(), redop, variant)(got.data(), a.data(), b.data(), a.count());
    check(got, expected, a, b, redop, variant);
  }
}

}  // namespace

TEST_CASE("reduce gives the twin's bits on all pairs of special values", "[kernels][reduce]") {
  for (const Dtype dtype : twin::all_dtypes) {
    const auto values = twin::special_values(dtype);
    Array a(dtype, values.size() * values.size());
    Array b(dtype, a.count());
    for (std::size_t i = 0; i < a.count(); ++i) {
      a.set(i, values[i / values.size()]);
      b.set(i, values[i % values.size()]);
    }
    for (const Redop redop : twin::all_redops) check_all_variants(a, b, redop);
  }
}

TEST_CASE("reduce gives the twin's bits on all pairs of 8-bit integers", "[kernels][reduce]") {
  for (const Dtype dtype : {Dtype::u8, Dtype::i8}) {
    Array a(dtype, 65536);
    Array b(dtype, 65536);
    for (std::size_t i = 0; i < 65536; ++i) {
      a.set(i, i >> 8);
      b.set(i, i & 0xff);
    }
    for (const Redop redop : twin::all_redops) check_all_variants(a, b, redop);
  }
}

TEST_CASE("reduce gives the twin's bits on every half-width float with a sample of others", "[kernels][reduce]") {
  std::mt19937_64 random(2);
  for (const Dtype dtype : twin::half_dtypes) {
    const auto special = twin::special_values(dtype);
    Array a(dtype, 65536);
    Array b(dtype, 65536);
    for (std::size_t i = 0; i < 65536; ++i) a.set(i, i);
    for (std::uint64_t round = 0; round < 8; ++round) {
      for (std::size_t i = 0; i < 65536; ++i) {
        // First one special value against all; then any; then those near enough in size to round.
        const std::uint64_t near = i ^ (random() & (dtype == Dtype::f16 ? 0x9fff : 0x87ff));
        b.set(i, round < 2 ? special[random() % special.size()] : round < 5 ? random() : near);
      }
      for (const Redop redop : twin::all_redops) check_all_variants(a, b, redop);
    }
  }
}

TEST_CASE("reduce works for every length, alignment of elements, and in place", "[kernels][reduce]") {
  std::mt19937_64 random(3);
  std::vector<std::size_t> counts;
  for (std::size_t count = 0; count <= 130; ++count) counts.push_back(count);
  for (const std::size_t count : {255u, 1000u, 4099u, 20011u}) counts.push_back(count);
  for (const Dtype dtype : twin::all_dtypes) {
    for (const std::size_t count : counts) {
      const std::size_t offset_a = random() % 9;
      const std::size_t offset_b = random() % 9;
      const std::size_t offset_dst = random() % 9;
      Array a(dtype, count, offset_a);
      Array b(dtype, count, offset_b);
      twin::fill_random(a, random);
      twin::fill_random(b, random);
      for (const Redop redop : twin::all_redops) {
        const Array expected = twin_of(a, b, redop);
        for (const Variant variant : twin::variants()) {
          const auto reduce = hawser::kernels::reduce(dtype, redop, variant);
          Array apart(dtype, count + 1, offset_dst);  // one more element, which stays as it is
          const std::uint64_t guard = apart[count];
          reduce(apart.data(), a.data(), b.data(), count);
          Array got(dtype, count);
          if (count > 0) std::memcpy(got.data(), apart.data(), got.bytes());
          check(got, expected, a, b, redop, variant);
          if (apart[count] != guard) FAIL("wrote behind the end");

          Array in_a(dtype, count, offset_dst);
          in_a.copy_from(a);
          reduce(in_a.data(), in_a.data(), b.data(), count);
          check(in_a, expected, a, b, redop, variant);

          Array in_b(dtype, count, offset_dst);
          in_b.copy_from(b);
          reduce(in_b.data(), a.data(), in_b.data(), count);
          check(in_b, expected, a, b, redop, variant);
        }
      }
    }
  }
}

TEST_CASE("reduce of a buffer with itself", "[kernels][reduce]") {
  std::mt19937_64 random(4);
  for (const Dtype dtype : twin::all_dtypes) {
    Array a(dtype, 1003);
    twin::fill_random(a, random);
    for (const Redop redop : twin::all_redops) {
      const Array expected = twin_of(a, a, redop);
      for (const Variant variant : twin::variants()) {
        Array got(dtype, a.count());
        got.copy_from(a);
        hawser::kernels::reduce(dtype, redop, variant)(got.data(), got.data(), got.data(), got.count());
        check(got, expected, a, a, redop, variant);
      }
    }
  }
}

TEST_CASE("every variant of reduce gives the bits of the scalar one on random bits", "[kernels][reduce]") {
  std::mt19937_64 random(5);
  for (const Dtype dtype : twin::all_dtypes) {
    Array a(dtype, (1 << 19) + 13);
    Array b(dtype, a.count());
    for (Array* array : {&a, &b}) {
      for (std::size_t i = 0; i + 8 <= array->bytes(); i += 8) {
        const std::uint64_t bits = random();
        std::memcpy(array->data() + i, &bits, 8);
      }
    }
    for (const Redop redop : twin::all_redops) {
      Array expected(dtype, a.count());
      hawser::kernels::reduce(dtype, redop, Variant::scalar)(expected.data(), a.data(), b.data(), a.count());
      for (const Variant variant : twin::variants()) {
        Array got(dtype, a.count());
        hawser::kernels::reduce(dtype, redop, variant)(got.data(), a.data(), b.data(), a.count());
        check(got, expected, a, b, redop, variant);
      }
    }
  }
}

TEST_CASE("minimum and maximum of floats: NaN wins, -0 is below +0, whichever comes first", "[kernels][reduce]") {
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::f32, Dtype::f64}) {
    const std::uint64_t nan = twin::format_of(dtype).nan();
    const std::uint64_t sign = twin::format_of(dtype).sign();
    const std::uint64_t one = twin::encode(dtype, 1.0);
    const std::uint64_t infinity = twin::format_of(dtype).infinity();
    struct Case {
      std::uint64_t a, b, min, max;
    };
    for (const Case& c :
         {Case{0, sign, sign, 0}, Case{sign, sign, sign, sign}, Case{0, 0, 0, 0}, Case{nan | sign | 1, one, nan, nan},
          Case{infinity + 1, infinity, nan, nan}, Case{infinity, sign | infinity, sign | infinity, infinity},
          Case{one, 1, 1, one}, Case{sign | 1, sign, sign | 1, sign}}) {
      for (const Variant variant : twin::variants()) {
        for (const bool exchanged : {false, true}) {
          Array a(dtype, 1);
          Array b(dtype, 1);
          a.set(0, exchanged ? c.b : c.a);
          b.set(0, exchanged ? c.a : c.b);
          Array got(dtype, 1);
          hawser::kernels::reduce(dtype, Redop::min, variant)(got.data(), a.data(), b.data(), 1);
          CHECK(got[0] == c.min);
          hawser::kernels::reduce(dtype, Redop::max, variant)(got.data(), a.data(), b.data(), 1);
          CHECK(got[0] == c.max);
        }
      }
    }
  }
}
