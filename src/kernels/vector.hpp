// Vectors and the three instruction sets they are compiled for, from which variants of arithmetic are made: here and in
// the codecs. Written with the generic vectors of GCC and clang, so that each operation is one IEEE or wrapping
// operation per element whatever the width; hence the same bits from every variant. Any thread.
//
// Each variant includes this in a file compiled with its own instruction set. Were a function of it, or of the standard
// library, emitted as a mergeable symbol, the linker could keep the AVX-512 copy for everybody. So all of it has
// internal linkage, and no function of the standard library is used; tests/unit/kernels/symbols.py checks the object
// files.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hawser::kernels {
namespace {  // NOLINT(google-build-namespaces): internal linkage is the point, see above

using Bytes = unsigned char;

template <class T, std::size_t lanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(lanes * sizeof(T))));
};
template <class T, std::size_t lanes>
using Vector = typename VectorOf<T, lanes>::type;

// A caller's thread may flush denormals, round another way or trap: other bits than its peers get, or SIGFPE. This is
// the default environment for as long as it lives. The loops are separate, never inlined functions because a compiler
// does not see that arithmetic depends on it, but moves none across a call that writes memory.
class FloatEnvironment {
 public:
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;
#if defined(__x86_64__)
  FloatEnvironment() : saved_(_mm_getcsr()) {
    if ((saved_ & ~flags) != standard) _mm_setcsr(standard);
  }
  ~FloatEnvironment() {
    if ((saved_ & ~flags) != standard) _mm_setcsr(saved_);
  }

 private:
  static constexpr unsigned flags = 0x3f;       // sticky, of past exceptions
  static constexpr unsigned standard = 0x1f80;  // all exceptions masked, round to nearest even, denormals kept
  unsigned saved_;
#elif defined(__aarch64__)
  FloatEnvironment() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    if (saved_ != 0) asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}) : "memory");
  }
  ~FloatEnvironment() {
    if (saved_ != 0) asm volatile("msr fpcr, %0" : : "r"(saved_) : "memory");
  }

 private:
  std::uint64_t saved_;
#else
  FloatEnvironment() = default;
  ~FloatEnvironment() {}
#endif
};

// ------------------------------------------------------------------------------------------------ elements in memory

// Elements which are computed with as they are stored. `p` need not even be aligned to the element.
template <class T, std::size_t lane_count>
struct Plain {
  using V = Vector<T, lane_count>;
  static constexpr std::size_t lanes = lane_count;
  static constexpr std::size_t size = sizeof(T);
  static V load(const Bytes* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(Bytes* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
};

// f16 and bf16, computed with as f32. What is stored has no NaN but the canonical one.
template <class Isa>
struct F16 {
  static constexpr std::size_t lanes = Isa::vector_bytes / sizeof(float);
  static constexpr std::size_t size = 2;
  using Raw = Plain<std::uint16_t, lanes>;
  using V = Vector<float, lanes>;
  static V load(const Bytes* p) { return Isa::widen_f16(Raw::load(p)); }
  static void store(Bytes* p, V v) { Raw::store(p, Isa::narrow_f16(v)); }
};

template <class Isa>
struct Bf16 {
  static constexpr std::size_t lanes = Isa::vector_bytes / sizeof(float);
  static constexpr std::size_t size = 2;
  using Raw = Plain<std::uint16_t, lanes>;
  using V = Vector<float, lanes>;
  using Bits = Vector<std::uint32_t, lanes>;
  static V load(const Bytes* p) { return reinterpret_cast<V>(Isa::widen_u16(Raw::load(p)) << 16); }
  // Half of what is cut off is added, less one where the last bit kept is even: round to nearest even. The canonical
  // NaN of f32 becomes that of bf16, since its low half is 0.
  static void store(Bytes* p, V v) {
    const Bits bits = reinterpret_cast<Bits>(v);
    const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    Raw::store(p, Isa::narrow_u32(rounded));
  }
};

// -------------------------------------------------------------------------------------------------------- arithmetic

template <class T>
struct Number {
  static constexpr bool is_float = false;
};
template <>
struct Number<float> {
  static constexpr bool is_float = true;
  using Bits = std::uint32_t;
  static constexpr Bits nan = 0x7fc00000u;
};
template <>
struct Number<double> {
  static constexpr bool is_float = true;
  using Bits = std::uint64_t;
  static constexpr Bits nan = 0x7ff8000000000000u;
};

template <class T, std::size_t lanes>
struct Arithmetic {
  using V = Vector<T, lanes>;

  // Every NaN becomes the canonical one.
  static V canonical(V v) {
    if constexpr (Number<T>::is_float) {
      return v == v ? v : nan();  // NOLINT(misc-redundant-expression): only a NaN differs from itself
    } else {
      return v;
    }
  }
  static V nan() {
    using Bits = Vector<typename Number<T>::Bits, lanes>;
    return reinterpret_cast<V>(Bits{} + Number<T>::nan);
  }
  static V splat(T value) { return V{} + value; }
};

// -------------------------------------------------------------------------------------------------- instruction sets

// Any processor: vectors of 16 bytes, which the compiler makes of the instructions it may always use (SSE2, NEON) or of
// scalar ones. f16 is converted by integer arithmetic, to the same bits as the F16C instructions.
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

#if defined(__AVX2__) && defined(__F16C__)
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
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
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
#endif

}  // namespace
}  // namespace hawser::kernels
