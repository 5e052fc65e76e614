// The variant for processors with AVX2 and F16C. Compiled with these switched on (kernels/flags.cmake), so nothing here
// may run before the dispatcher of the kernels has asked the processor. Any thread.
#if defined(__x86_64__)

#if !defined(__AVX2__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mf16c"
#endif
#include "codec/quantize.hpp"

namespace hawser::codec {
namespace {

struct WithAvx2 : kernels::Avx2 {
  using Ints = Vector<std::int32_t, 8>;
  using Pairs = Vector<std::uint64_t, 4>;

  static Pairs multiply_low(Pairs v, std::uint32_t factor) {
    return reinterpret_cast<Pairs>(
        _mm256_mul_epu32(reinterpret_cast<__m256i>(v), _mm256_set1_epi64x(static_cast<long long>(factor))));
  }
  static void store_codes(Bytes* p, Ints v) {
    const __m256i bytes = _mm256_and_si256(reinterpret_cast<__m256i>(v), _mm256_set1_epi32(0xff));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    store(p, _mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
  }
  static Ints load_unsigned(const Bytes* p) {
    return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load<long long>(p))));
  }
  static Ints load_signed(const Bytes* p) {
    return reinterpret_cast<Ints>(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(load<long long>(p))));
  }
};

}  // namespace

const Table avx2_table = make_table<WithAvx2>();

}  // namespace hawser::codec

#endif
