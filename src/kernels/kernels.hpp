// The arithmetic of collectives. Every variant (scalar, AVX2, AVX-512) gives the same bits for the same inputs; which
// one runs is chosen once, from the processor, or by HAWSER_KERNELS=scalar|avx2|avx512 (never more than the processor
// has). All functions are pure, thread-safe, take pointers aligned to the element only, and accept count 0.
//
// Floating point: round to nearest even, no FMA contraction, denormals kept. min/max: a NaN in either gives the quiet
// NaN of the type with all other payload bits 0 and sign 0; -0 < +0. sum/prod of NaNs: any NaN result is made that same
// canonical NaN, because which payload survives differs between instruction sets and operand orders. Integers wrap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/types.hpp"

namespace hawser::kernels {

enum class Variant : std::uint8_t { scalar, avx2, avx512 };
const char* variant_name(Variant variant);
Variant best_variant();    // what this processor can do
Variant active_variant();  // best_variant(), or less if HAWSER_KERNELS says so

// dst[i] = a[i] op b[i], elements of `dtype`; dst == a or dst == b is allowed, other overlap is not. avg reduces as
// sum. As in all that follows, b and dst are expected in memory and asked for ahead, a in a cache, as what has just
// come.
using ReduceFn = void (*)(void* dst, const void* a, const void* b, std::size_t count);
ReduceFn reduce(Dtype dtype, Redop redop, Variant variant);

// Half-width floats only. wide is f32. first: dst_wide[i] = f32(a[i]) op f32(b[i]) of two half inputs.
// next: dst_wide[i] = a_wide[i] op f32(b[i]); dst_wide == a_wide allowed.
// min and max on wide values are exact, so all of it is one code path.
struct WideFns {
  void (*first)(float* dst_wide, const void* a, const void* b, std::size_t count);
  void (*next)(float* dst_wide, const float* a_wide, const void* b, std::size_t count);
};
WideFns reduce_wide(Dtype dtype, Redop redop, Variant variant);
// dst[i] = round_to_nearest_even(src_wide[i] / divisor), divisor 1 for all but avg; division in f32. NaN -> canonical
// NaN.
void narrow(Dtype dtype, void* dst, const float* src_wide, std::size_t count, std::uint32_t divisor, Variant variant);

// dst[i] = f32(src[i]) of f16 or bf16: exact. NaN -> canonical NaN.
void widen(Dtype dtype, float* dst, const void* src, std::size_t count, Variant variant);

// Neither a NaN nor an infinity is among them.
bool all_finite(const float* data, std::size_t count, Variant variant);

// data[i] = data[i] / divisor, for avg: floats by IEEE division (f16, bf16 through f32), integers truncated towards
// zero.
void divide(Dtype dtype, void* data, std::size_t count, std::uint32_t divisor, Variant variant);

// dst[i] = (a[i] + b[i]) / divisor in one pass, with the bits of reduce and divide one after the other; not for f16 and
// bf16, whose sums stay wide until `narrow`. dst == a or dst == b is allowed, other overlap is not.
void mean(Dtype dtype, void* dst, const void* a, const void* b, std::size_t count, std::uint32_t divisor,
          Variant variant);

// As memcpy, for a part of a long run: what follows src and dst in memory is asked for ahead.
void copy_ahead(void* dst, const void* src, std::size_t bytes);
constexpr std::size_t copy_ahead_min = 16U << 10;  // runs of less are better copied by memcpy

// 128-bit digest of a piece of a result. Digests of pieces are combined by adding both halves modulo 2^64, so the order
// in which pieces arrive does not matter; `piece` (its index in the result) keeps equal pieces at different places
// apart.
struct Digest {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool operator==(const Digest&) const = default;
  void combine(const Digest& other) {
    high += other.high;
    low += other.low;
  }
};
Digest digest(const void* data, std::size_t bytes, std::uint64_t piece);  // XXH3-128, seeded with `piece`

// What has been hashed of a run of bytes that comes in pieces; at least as large as xxHash's own. Zeros at first:
// xxHash keeps what it derives from a seed, and would take what an earlier owner of the memory has left for that.
struct HashState {
  alignas(64) std::array<std::byte, 640> bytes{};
};

// The same digest of bytes that come one after the other. One thread at a time. Cheap even for a KiB at a time, as
// long as only the last addition is of other than a multiple of 64 bytes.
class RunningDigest {
 public:
  void begin(std::uint64_t piece, std::size_t bytes);  // before the first add; so many will be added
  void add(const void* data, std::size_t bytes);
  [[nodiscard]] Digest value() const;

 private:
  HashState state_;
  std::size_t left_ = 0;
};

// XXH3-64: of one piece, or of several as one run of bytes (one thread at a time).
std::uint64_t checksum(const void* data, std::size_t bytes);
class Checksum {
 public:
  Checksum() { begin(); }
  void begin();
  void add(const void* data, std::size_t bytes);
  [[nodiscard]] std::uint64_t value() const;

 private:
  HashState state_;
};

}  // namespace hawser::kernels
