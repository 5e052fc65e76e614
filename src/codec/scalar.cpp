// The variant for any processor. Any thread.
#include "codec/quantize.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hawser::codec {
namespace {

struct AnyProcessor : kernels::Baseline {
  using Ints = Vector<std::int32_t, 4>;
  using Pairs = Vector<std::uint64_t, 2>;

  // The low halves' product with a number of 32 bits.
  static Pairs multiply_low(Pairs v, std::uint32_t factor) {
#if defined(__SSE2__)
    return reinterpret_cast<Pairs>(
        _mm_mul_epu32(reinterpret_cast<__m128i>(v), _mm_set1_epi64x(static_cast<long long>(factor))));
#else
    return (v & 0xffffffffu) * factor;
#endif
  }
  // Codes of a byte each, -128 to 127 or 0 to 255.
  static void store_codes(Bytes* p, Ints v) {
    const Ints bytes = v & 0xff;
    store(p, static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8 | bytes[2] << 16) |
                 static_cast<std::uint32_t>(bytes[3]) << 24);
  }
  static Ints load_unsigned(const Bytes* p) { return Ints{p[0], p[1], p[2], p[3]}; }
  static Ints load_signed(const Bytes* p) { return (load_unsigned(p) ^ 0x80) - 0x80; }
};

}  // namespace

const Table scalar_table = make_table<AnyProcessor>();

}  // namespace hawser::codec
