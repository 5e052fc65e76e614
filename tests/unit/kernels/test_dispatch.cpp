// Which variant runs, what HAWSER_KERNELS does, and that the caller's floating-point environment neither changes the
// results nor is changed.
#include <cfenv>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/dispatch.hpp"
#include "support/catch.hpp"
#include "unit/kernels/twin.hpp"

#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

using hawser::Dtype;
using hawser::Redop;
using hawser::kernels::Variant;
using twin::Array;

namespace {

// What `work` writes to stderr, by way of a file without a name.
template <typename Work>
std::string stderr_of(Work work) {
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int saved = dup(STDERR_FILENO);
  REQUIRE(saved >= 0);
  REQUIRE(dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
  work();
  std::fflush(stderr);
  dup2(saved, STDERR_FILENO);
  close(saved);
  std::string text;
  std::rewind(file);
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) text.push_back(static_cast<char>(c));
  std::fclose(file);
  return text;
}

struct Choice {
  Variant variant;
  std::string warning;
};
Choice choose(const char* setting, Variant best) {
  Choice out{};
  out.warning = stderr_of([&] { out.variant = hawser::kernels::choose_variant(setting, best); });
  return out;
}

}  // namespace

TEST_CASE("the variants have names and run in order of strength", "[kernels][dispatch]") {
  CHECK(std::string(variant_name(Variant::scalar)) == "scalar");
  CHECK(std::string(variant_name(Variant::avx2)) == "avx2");
  CHECK(std::string(variant_name(Variant::avx512)) == "avx512");
  CHECK(hawser::kernels::active_variant() <= hawser::kernels::best_variant());
#if !defined(__x86_64__)
  CHECK(hawser::kernels::best_variant() == Variant::scalar);
#endif
}

TEST_CASE("HAWSER_KERNELS asks for less, never for more than there is", "[kernels][dispatch]") {
  for (const char* nothing : {static_cast<const char*>(nullptr), ""}) {
    const Choice choice = choose(nothing, Variant::avx2);
    CHECK(choice.variant == Variant::avx2);
    CHECK(choice.warning.empty());
  }
  for (const Variant best : {Variant::scalar, Variant::avx2, Variant::avx512}) {
    for (const Variant wanted : {Variant::scalar, Variant::avx2, Variant::avx512}) {
      const Choice choice = choose(variant_name(wanted), best);
      CHECK(choice.variant == std::min(wanted, best));
      CHECK(choice.warning.empty() == (wanted <= best));
    }
  }
}

TEST_CASE("an unknown HAWSER_KERNELS is ignored with one line in the log", "[kernels][dispatch]") {
  for (const char* setting : {"AVX2", "avx", "avx2 ", "scalar,avx2", "\x1b[2J\nx"}) {
    const Choice choice = choose(setting, Variant::avx2);
    CHECK(choice.variant == Variant::avx2);
    CHECK(std::count(choice.warning.begin(), choice.warning.end(), '\n') == 1);
    CHECK(choice.warning.find("HAWSER_KERNELS") != std::string::npos);
    CHECK(choice.warning.find("scalar, avx2, avx512") != std::string::npos);
    CHECK(choice.warning.find('\x1b') == std::string::npos);
  }
}

TEST_CASE("the environment decides the active variant", "[.environment]") {
  const char* const setting = std::getenv("HAWSER_KERNELS");  // NOLINT(concurrency-mt-unsafe): one thread
  REQUIRE(setting != nullptr);
  const std::string wanted = setting;
  const Variant best = hawser::kernels::best_variant();
  const Variant expected = wanted == "scalar" ? Variant::scalar
                           : wanted == "avx2" ? std::min(best, Variant::avx2)
                                              : best;
  CHECK(hawser::kernels::active_variant() == expected);
}

TEST_CASE("each variant has functions of its own", "[kernels][dispatch]") {
  using hawser::kernels::table_of;
  for (const Variant variant : twin::variants()) {
    for (const Variant other : twin::variants()) {
      CHECK((variant == other) == (table_of(variant).digest == table_of(other).digest));
    }
  }
  for (const Dtype dtype : twin::all_dtypes) {
    for (const Redop redop : twin::all_redops) {
      for (const Variant variant : twin::variants()) {
        for (const Variant other : twin::variants()) {
          CHECK((variant == other) ==
                (hawser::kernels::reduce(dtype, redop, variant) == hawser::kernels::reduce(dtype, redop, other)));
        }
      }
    }
  }
}

TEST_CASE("a variant which the processor lacks is replaced by what it has", "[kernels][dispatch]") {
  for (const Dtype dtype : twin::all_dtypes) {
    CHECK(hawser::kernels::reduce(dtype, Redop::sum, Variant::avx512) ==
          hawser::kernels::reduce(dtype, Redop::sum, std::min(Variant::avx512, hawser::kernels::best_variant())));
    for (const Redop redop : twin::all_redops) {
      for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
        CHECK(hawser::kernels::reduce(dtype, redop, variant) != nullptr);
        if (!hawser::is_half(dtype)) continue;
        CHECK(hawser::kernels::reduce_wide(dtype, redop, variant).first != nullptr);
        CHECK(hawser::kernels::reduce_wide(dtype, redop, variant).next != nullptr);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------- floating-point environment

TEST_CASE("the caller's rounding mode does not matter and stays", "[kernels][dispatch]") {
  for (const Variant variant : twin::variants()) {
    for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      REQUIRE(std::fesetround(mode) == 0);
      const int before = std::fegetround();
      Array a(Dtype::f32, 3);
      Array b(Dtype::f32, 3);
      a.set(0, twin::bits_as<std::uint32_t>(1.0f));
      b.set(0, 0x33000000u);  // 2^-25: 1 + 2^-25 is 1, upwards the next above 1
      a.set(1, 0xbf800000u);
      b.set(1, 0xb3000000u);
      a.set(2, twin::bits_as<std::uint32_t>(3.0f));
      b.set(2, 0x7f7fffffu);
      Array sum(Dtype::f32, 3);
      hawser::kernels::reduce(Dtype::f32, Redop::sum, variant)(sum.data(), a.data(), b.data(), 3);
      hawser::kernels::divide(Dtype::f32, a.data(), 3, 3, variant);
      const int after = std::fegetround();
      std::fesetround(FE_TONEAREST);
      CHECK(before == mode);
      CHECK(after == mode);
      CHECK(sum[0] == 0x3f800000u);
      CHECK(sum[1] == 0xbf800000u);
      CHECK(sum[2] == 0x7f7fffffu);
      CHECK(a[0] == 0x3eaaaaabu);
      CHECK(a[1] == 0xbeaaaaabu);
    }
  }
}

#if defined(__x86_64__)
TEST_CASE("denormals flushed or exceptions unmasked by the caller do not matter and stay", "[kernels][dispatch]") {
  constexpr unsigned flush = 0x8040;  // FTZ and DAZ
  constexpr unsigned masks = 0x1f80;
  constexpr unsigned upwards = 0x4000;
  constexpr unsigned flags = 0x3f;
  for (const Variant variant : twin::variants()) {
    std::mt19937_64 random(12);
    for (const Dtype dtype : twin::all_dtypes) {
      Array a(dtype, 2003);
      Array b(dtype, a.count());
      twin::fill_random(a, random);
      twin::fill_random(b, random);
      for (const Redop redop : twin::all_redops) {
        const auto reduce = hawser::kernels::reduce(dtype, redop, variant);
        Array expected(dtype, a.count());
        reduce(expected.data(), a.data(), b.data(), a.count());
        Array expected_quotient(dtype, a.count());
        expected_quotient.copy_from(a);
        hawser::kernels::divide(dtype, expected_quotient.data(), a.count(), 3, variant);
        const unsigned saved = _mm_getcsr();
        for (const unsigned environment : {masks | flush, masks | upwards, 0u, flush | upwards}) {
          Array got(dtype, a.count());
          Array quotient(dtype, a.count());
          quotient.copy_from(a);
          _mm_setcsr(environment);
          reduce(got.data(), a.data(), b.data(), a.count());
          hawser::kernels::divide(dtype, quotient.data(), a.count(), 3, variant);
          const unsigned after = _mm_getcsr();
          _mm_setcsr(saved);
          if ((after & ~flags) != environment) FAIL("left " << std::hex << after << " instead of " << environment);
          if (!got.equals(expected) || !quotient.equals(expected_quotient)) {
            FAIL(hawser::dtype_name(dtype) << " " << hawser::redop_name(redop) << " " << variant_name(variant)
                                           << " differ in environment " << std::hex << environment);
          }
        }
      }
    }
    for (const Dtype dtype : twin::half_dtypes) {
      Array wide(Dtype::f32, 2003);
      Array b(dtype, wide.count());
      twin::fill_random(wide, random);
      twin::fill_random(b, random);
      const auto run = [&](unsigned environment) {
        std::vector<Array> out;
        for (int i = 0; i < 2; ++i) out.emplace_back(Dtype::f32, wide.count());
        for (int i = 0; i < 2; ++i) out.emplace_back(dtype, wide.count());
        const auto fns = hawser::kernels::reduce_wide(dtype, Redop::sum, variant);
        const unsigned saved = _mm_getcsr();
        _mm_setcsr(environment);
        fns.first(out[0].floats(), b.data(), b.data(), wide.count());
        fns.next(out[1].floats(), wide.floats(), b.data(), wide.count());
        hawser::kernels::narrow(dtype, out[2].data(), wide.floats(), wide.count(), 1, variant);
        hawser::kernels::narrow(dtype, out[3].data(), wide.floats(), wide.count(), 3, variant);
        _mm_setcsr(saved);
        return out;
      };
      const std::vector<Array> expected = run(masks);
      for (const unsigned environment : {masks | flush, masks | upwards, 0u, flush | upwards}) {
        const std::vector<Array> got = run(environment);
        for (std::size_t i = 0; i < got.size(); ++i) {
          if (!got[i].equals(expected[i])) FAIL(hawser::dtype_name(dtype) << " " << variant_name(variant) << " " << i);
        }
      }
    }
  }
}
#endif
