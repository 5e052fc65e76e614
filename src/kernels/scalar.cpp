// The variant for any processor: vectors of 16 bytes, which the compiler makes of the instructions it may always use
// (SSE2, NEON) or of scalar ones. f16 is converted by integer arithmetic, to the same bits as the F16C instructions.
// Any thread.
#include "kernels/elementwise.hpp"

namespace hawser::kernels {
namespace {

struct Baseline {
  static constexpr std::size_t vector_bytes = 16;
  using Floats = Vector<float, 4>;
  using Words = Vector<std::uint32_t, 4>;
  using Halves = Vector<std::uint16_t, 4>;

  static Words widen_u16(Halves v) { return __builtin_convertvector(v, Words); }
  static Halves narrow_u32(Words v) { return __builtin_convertvector(v, Halves); }

  // f32 has 8 exponent bits with bias 127, f16 has 5 with bias 15; the significand is 13 bits shorter.
  static Floats widen_f16(Halves v) {
    const Words half = widen_u16(v);
    const Words magnitude = (half & 0x7fffu) << 13;
    const Words normal = magnitude + (112u << 23);
    const Words special = magnitude + (224u << 23);  // exponent 31 becomes 255
    // A denormal m * 2^-24: as the significand of 2^-14 * (1 + m / 2^10), from which the 1 is taken away, exactly.
    const Words smallest = Words{} + (113u << 23);
    const Floats denormal = reinterpret_cast<Floats>(magnitude + smallest) - reinterpret_cast<Floats>(smallest);
    Words bits = magnitude >= (31u << 23) ? special : normal;
    bits = magnitude < (1u << 23) ? reinterpret_cast<Words>(denormal) : bits;
    return reinterpret_cast<Floats>(bits | ((half & 0x8000u) << 16));
  }

  static Halves narrow_f16(Floats v) {
    const Words all = reinterpret_cast<Words>(v);
    const Words bits = all & 0x7fffffffu;
    // Below 2^-14 the sum with 0.5 has 2^-24, the step of the denormals, as its last bit: the addition rounds.
    const Words half_one = Words{} + (126u << 23);
    const Words denormal =
        reinterpret_cast<Words>(reinterpret_cast<Floats>(bits) + reinterpret_cast<Floats>(half_one)) - half_one;
    // Others: half of what is cut off is added, less one where the last bit kept is even; a carry raises the exponent,
    // up to infinity.
    const Words normal = (bits - (112u << 23) + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    const Words infinity = Words{} + 0x7c00u;
    const Words nan = Words{} + 0x7e00u;
    Words half = bits < (113u << 23) ? denormal : normal;
    half = bits >= (143u << 23) ? infinity : half;  // 2^16
    half = bits > (255u << 23) ? nan : half;
    return narrow_u32(half | ((all >> 16) & 0x8000u));
  }
};

}  // namespace

const Table scalar_table = make_table<Baseline>();

}  // namespace hawser::kernels
