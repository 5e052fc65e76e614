// f16 and bf16: conversion in both directions on every value and every place where rounding turns, partial results in
// f32.
#include "support/catch.hpp"
#include "unit/kernels/twin.hpp"

using hawser::Dtype;
using hawser::Redop;
using hawser::kernels::Variant;
using twin::Array;

namespace {

void check(const Array& got, const Array& expected, Dtype dtype, const char* what, Variant variant) {
  const std::size_t i = twin::mismatch(got, expected);
  if (i == expected.count()) return;
  FAIL(hawser::dtype_name(dtype) << " " << what << " " << variant_name(variant) << " element " << i << " of "
                                 << got.count() << std::hex << ": " << got[i] << ", not " << expected[i]);
}

// f32 bits of `half op other`, each half-width or f32.
std::uint64_t wide_twin(Redop redop, double a, double b) {
  return twin::f32_bits(twin::reduce_float(redop, static_cast<float>(a), static_cast<float>(b)));
}

Array floats_of(const std::vector<std::uint32_t>& bits) {
  Array out(Dtype::f32, bits.size());
  for (std::size_t i = 0; i < bits.size(); ++i) out.set(i, bits[i]);
  return out;
}

void check_narrow(Dtype dtype, const Array& wide, std::uint32_t divisor) {
  Array expected(dtype, wide.count());
  for (std::size_t i = 0; i < wide.count(); ++i) {
    const float value = twin::bits_as<float>(static_cast<std::uint32_t>(wide[i])) / static_cast<float>(divisor);
    expected.set(i, twin::encode(dtype, static_cast<double>(value)));
  }
  for (const Variant variant : twin::variants()) {
    Array got(dtype, wide.count());
    hawser::kernels::narrow(dtype, got.data(), wide.floats(), wide.count(), divisor, variant);
    check(got, expected, dtype, "narrow", variant);
  }
}

}  // namespace

TEST_CASE("every half-width float becomes its f32 exactly", "[kernels][half]") {
  for (const Dtype dtype : twin::half_dtypes) {
    Array all(dtype, 65536);
    for (std::size_t i = 0; i < 65536; ++i) all.set(i, i);
    Array expected(Dtype::f32, 65536);
    for (std::size_t i = 0; i < 65536; ++i) expected.set(i, twin::encode(Dtype::f32, twin::decode(dtype, i)));
    for (const Variant variant : twin::variants()) {
      Array got(Dtype::f32, 65536);
      // The minimum of a value and itself is the value.
      hawser::kernels::reduce_wide(dtype, Redop::min, variant).first(got.floats(), all.data(), all.data(), 65536);
      check(got, expected, dtype, "wide minimum", variant);
      for (const std::size_t offset : {std::size_t{0}, std::size_t{13}, std::size_t{65536}}) {
        const std::size_t count = 65536 - offset;
        Array widened(Dtype::f32, count);
        hawser::kernels::widen(dtype, widened.floats(), all.data() + 2 * offset, count, variant);
        for (std::size_t i = 0; i < count; ++i) {
          if (widened[i] != expected[offset + i]) FAIL(hawser::dtype_name(dtype) << " widen " << offset + i);
        }
      }
      // And back.
      Array back(dtype, 65536);
      hawser::kernels::narrow(dtype, back.data(), got.floats(), 65536, 1, variant);
      Array same(dtype, 65536);
      for (std::size_t i = 0; i < 65536; ++i) {
        same.set(i, std::isnan(twin::decode(dtype, i)) ? twin::format_of(dtype).nan() : i);
      }
      check(back, same, dtype, "round trip", variant);
    }
  }
}

TEST_CASE("narrow rounds to nearest even on both sides of every half-way point", "[kernels][half]") {
  for (const Dtype dtype : twin::half_dtypes) {
    std::vector<std::uint32_t> bits;
    const std::uint64_t infinity = twin::format_of(dtype).infinity();
    for (std::uint64_t i = 0; i < infinity; ++i) {
      const double low = twin::decode(dtype, i);
      const double high = i + 1 < infinity ? twin::decode(dtype, i + 1) : 2 * low - twin::decode(dtype, i - 1);
      const std::uint32_t middle = static_cast<std::uint32_t>(twin::encode(Dtype::f32, (low + high) / 2));
      for (const std::uint32_t magnitude : {middle - 1, middle, middle + 1}) {
        bits.push_back(magnitude);
        bits.push_back(magnitude | 0x80000000u);
      }
    }
    check_narrow(dtype, floats_of(bits), 1);
  }
}

TEST_CASE("narrow of any f32, divided or not", "[kernels][half]") {
  std::mt19937_64 random(6);
  std::vector<std::uint32_t> bits;
  for (const std::uint64_t value : twin::special_values(Dtype::f32)) bits.push_back(static_cast<std::uint32_t>(value));
  for (int i = 0; i < 50000; ++i) bits.push_back(static_cast<std::uint32_t>(random()));
  for (int i = 0; i < 50000; ++i) {  // in the range of f16, its denormals included
    bits.push_back(static_cast<std::uint32_t>((random() & 0x807fffffu) | ((100 + random() % 45) << 23)));
  }
  const Array wide = floats_of(bits);
  for (const Dtype dtype : twin::half_dtypes) {
    for (const std::uint32_t divisor : {1u, 2u, 3u, 7u, 1000u, 65536u, 16777217u, 4294967295u}) {
      check_narrow(dtype, wide, divisor);
    }
  }
}

TEST_CASE("partial results in f32: first, then next, against the twin", "[kernels][half]") {
  std::mt19937_64 random(7);
  std::vector<std::size_t> counts;
  for (std::size_t count = 0; count <= 70; ++count) counts.push_back(count);
  counts.push_back(30011);
  for (const Dtype dtype : twin::half_dtypes) {
    for (const std::size_t count : counts) {
      Array a(dtype, count, random() % 9);
      Array b(dtype, count, random() % 9);
      Array c(dtype, count, random() % 9);
      for (Array* array : {&a, &b, &c}) twin::fill_random(*array, random);
      for (const Redop redop : twin::all_redops) {
        Array expected_first(Dtype::f32, count);
        Array expected_next(Dtype::f32, count);
        for (std::size_t i = 0; i < count; ++i) {
          expected_first.set(i, wide_twin(redop, twin::decode(dtype, a[i]), twin::decode(dtype, b[i])));
          expected_next.set(i,
                            wide_twin(redop, twin::decode(Dtype::f32, expected_first[i]), twin::decode(dtype, c[i])));
        }
        for (const Variant variant : twin::variants()) {
          const hawser::kernels::WideFns fns = hawser::kernels::reduce_wide(dtype, redop, variant);
          Array wide(Dtype::f32, count, random() % 9);
          fns.first(wide.floats(), a.data(), b.data(), count);
          check(wide, expected_first, dtype, "first", variant);
          Array apart(Dtype::f32, count, random() % 9);
          fns.next(apart.floats(), wide.floats(), c.data(), count);
          check(apart, expected_next, dtype, "next", variant);
          fns.next(wide.floats(), wide.floats(), c.data(), count);
          check(wide, expected_next, dtype, "next in place", variant);
        }
      }
    }
  }
}

TEST_CASE("next takes any f32 as partial result", "[kernels][half]") {
  std::mt19937_64 random(8);
  Array wide(Dtype::f32, 100003);
  twin::fill_random(wide, random);
  for (const Dtype dtype : twin::half_dtypes) {
    Array b(dtype, wide.count());
    twin::fill_random(b, random);
    for (const Redop redop : twin::all_redops) {
      Array expected(Dtype::f32, wide.count());
      for (std::size_t i = 0; i < wide.count(); ++i) {
        expected.set(i, wide_twin(redop, twin::decode(Dtype::f32, wide[i]), twin::decode(dtype, b[i])));
      }
      for (const Variant variant : twin::variants()) {
        Array got(Dtype::f32, wide.count());
        hawser::kernels::reduce_wide(dtype, redop, variant).next(got.floats(), wide.floats(), b.data(), wide.count());
        check(got, expected, dtype, "next", variant);
      }
    }
  }
}

TEST_CASE("a sum of many f16 in f32 is rounded once", "[kernels][half]") {
  // 1 + 4096 * 2^-12 is 2; rounded to f16 after each step it would stay 1.
  constexpr std::size_t count = 37;
  Array one(Dtype::f16, count);
  Array small(Dtype::f16, count);
  for (std::size_t i = 0; i < count; ++i) {
    one.set(i, 0x3c00);
    small.set(i, twin::encode(Dtype::f16, std::ldexp(1.0, -12)));
  }
  for (const Variant variant : twin::variants()) {
    const hawser::kernels::WideFns fns = hawser::kernels::reduce_wide(Dtype::f16, Redop::sum, variant);
    Array wide(Dtype::f32, count);
    fns.first(wide.floats(), one.data(), small.data(), count);
    for (int i = 1; i < 4096; ++i) fns.next(wide.floats(), wide.floats(), small.data(), count);
    Array got(Dtype::f16, count);
    hawser::kernels::narrow(Dtype::f16, got.data(), wide.floats(), count, 1, variant);
    CHECK(got[0] == 0x4000);
    CHECK(got[count - 1] == 0x4000);
    hawser::kernels::narrow(Dtype::f16, got.data(), wide.floats(), count, 4, variant);
    CHECK(got[count - 1] == 0x3800);
  }
}

// All 2^32 of them take minutes: run by hand after a change of the conversions, with the tag given.
TEST_CASE("narrow of every f32 is the same in each variant and as the twin says", "[.exhaustive]") {
  constexpr std::size_t block = std::size_t{1} << 20;
  Array wide(Dtype::f32, block);
  for (const Dtype dtype : twin::half_dtypes) {
    for (std::uint64_t start = 0; start < (std::uint64_t{1} << 32); start += block) {
      for (std::size_t i = 0; i < block; ++i) wide.set(i, start + i);
      check_narrow(dtype, wide, 1);
    }
  }
}

TEST_CASE("all_finite sees a NaN or an infinity at any place, and nothing else", "[kernels][half]") {
  const std::uint32_t others[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001, 0xffffffff};
  const std::uint32_t finite[] = {0x7f7fffff, 0xff7fffff, 0x80000000, 1, 0x3f800000};
  for (const Variant variant : twin::variants()) {
    for (const std::size_t count : {0U, 1U, 7U, 16U, 33U, 1024U, 2051U}) {
      Array data(Dtype::f32, count, 1);
      for (std::size_t i = 0; i < count; ++i) data.set(i, finite[i % 5]);
      CHECK(hawser::kernels::all_finite(data.floats(), count, variant));
      for (std::size_t i = 0; i < count; ++i) {
        data.set(i, others[i % 6]);
        if (hawser::kernels::all_finite(data.floats(), count, variant)) FAIL(variant_name(variant) << " " << i);
        data.set(i, finite[i % 5]);
      }
    }
  }
}
