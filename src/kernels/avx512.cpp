// The variant for processors with AVX-512 F, BW, DQ and VL: vectors of 64 bytes. Compiled with these switched on
// (flags.cmake), so nothing here may run before the dispatcher has asked the processor. Any thread.
#if defined(__x86_64__)

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile this file with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include <immintrin.h>

#include "kernels/elementwise.hpp"

namespace hawser::kernels {
namespace {

struct Avx512 {
  static constexpr std::size_t vector_bytes = 64;
  using Floats = Vector<float, 16>;
  using Words = Vector<std::uint32_t, 16>;
  using Halves = Vector<std::uint16_t, 16>;

  static Words widen_u16(Halves v) {
    return reinterpret_cast<Words>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(v)));
  }
  static Halves narrow_u32(Words v) {
    return reinterpret_cast<Halves>(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(v)));
  }
  static Floats widen_f16(Halves v) {
    __m512 wide = _mm512_cvtph_ps(reinterpret_cast<__m256i>(v));
    asm("" : "+v"(wide));  // clang 14 would move comparisons before the conversion and do them one by one
    return reinterpret_cast<Floats>(wide);
  }
  static Halves narrow_f16(Floats v) {  // the unmasked form is a macro with a -1 that warns here
    return reinterpret_cast<Halves>(
        _mm512_maskz_cvtps_ph(0xffff, reinterpret_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT));
  }
};

}  // namespace

const Table avx512_table = make_table<Avx512>();

}  // namespace hawser::kernels

#endif
