// The variant for processors with AVX2 and F16C: vectors of 32 bytes. Compiled with these switched on (flags.cmake), so
// nothing here may run before the dispatcher has asked the processor. Any thread.
#if defined(__x86_64__)

#if !defined(__AVX2__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mf16c"
#endif
#include <immintrin.h>

#include "kernels/elementwise.hpp"

namespace hawser::kernels {
namespace {

struct Avx2 {
  static constexpr std::size_t vector_bytes = 32;
  using Floats = Vector<float, 8>;
  using Words = Vector<std::uint32_t, 8>;
  using Halves = Vector<std::uint16_t, 8>;

  static Words widen_u16(Halves v) {
    return reinterpret_cast<Words>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(v)));
  }
  static Halves narrow_u32(Words v) {  // of numbers below 2^16: nothing saturates
    const __m256i words = reinterpret_cast<__m256i>(v);
    return reinterpret_cast<Halves>(
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  static Floats widen_f16(Halves v) {
    __m256 wide = _mm256_cvtph_ps(reinterpret_cast<__m128i>(v));
    asm("" : "+x"(wide));  // clang 14 would move comparisons before the conversion and do them one by one
    return reinterpret_cast<Floats>(wide);
  }
  static Halves narrow_f16(Floats v) {
    return reinterpret_cast<Halves>(_mm256_cvtps_ph(reinterpret_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
  }
};

}  // namespace

const Table avx2_table = make_table<Avx2>();

}  // namespace hawser::kernels

#endif
