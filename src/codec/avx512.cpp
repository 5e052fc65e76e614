// The variant for processors with AVX-512 F, BW, DQ and VL. Compiled with these switched on (kernels/flags.cmake), so
// nothing here may run before the dispatcher of the kernels has asked the processor. Any thread.
#if defined(__x86_64__)

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile this file with -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif
#include "codec/quantize.hpp"

namespace hawser::codec {
namespace {

struct WithAvx512 : kernels::Avx512 {
  using Ints = Vector<std::int32_t, 16>;
  using Pairs = Vector<std::uint64_t, 8>;

  static Pairs multiply_low(Pairs v, std::uint32_t factor) {
    return reinterpret_cast<Pairs>(
        _mm512_mul_epu32(reinterpret_cast<__m512i>(v), _mm512_set1_epi64(static_cast<long long>(factor))));
  }
  static void store_codes(Bytes* p, Ints v) { store(p, _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v))); }
  static Ints load_unsigned(const Bytes* p) { return reinterpret_cast<Ints>(_mm512_cvtepu8_epi32(load<__m128i>(p))); }
  static Ints load_signed(const Bytes* p) { return reinterpret_cast<Ints>(_mm512_cvtepi8_epi32(load<__m128i>(p))); }
};

}  // namespace

const Table avx512_table = make_table<WithAvx512>();

}  // namespace hawser::codec

#endif
