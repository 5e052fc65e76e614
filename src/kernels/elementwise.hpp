// The loops and the arithmetic of every variant, as templates over `Isa`, one of vector.hpp: how many bytes a vector
// has and how f16 and f32 turn into each other. As there, all of it has internal linkage. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dispatch.hpp"
#include "kernels/vector.hpp"
#include "kernels/xxh3.hpp"

namespace hawser::kernels {
namespace {  // NOLINT(google-build-namespaces): internal linkage is the point, see vector.hpp

// Integers come here as unsigned types, whose overflow wraps.
struct Sum {
  template <class T, std::size_t lanes, class V>
  static V apply(V a, V b) {
    return Arithmetic<T, lanes>::canonical(a + b);
  }
};

struct Prod {
  template <class T, std::size_t lanes, class V>
  static V apply(V a, V b) {
    return Arithmetic<T, lanes>::canonical(a * b);
  }
};

// `a < b ? a : b` and the same with a and b exchanged differ only for -0 and +0, where the sign bits decide, and for
// NaNs.
struct Min {
  template <class T, std::size_t lanes, class V>
  static V apply(V a, V b) {
    if constexpr (Number<T>::is_float) {
      using Bits = Vector<typename Number<T>::Bits, lanes>;
      const V x = a < b ? a : b;
      const V y = b < a ? b : a;
      const V least = reinterpret_cast<V>(reinterpret_cast<Bits>(x) | reinterpret_cast<Bits>(y));
      // NOLINTNEXTLINE(misc-redundant-expression): a NaN is not equal to itself
      return ((a == a) & (b == b)) ? least : Arithmetic<T, lanes>::nan();
    } else {
      return a < b ? a : b;
    }
  }
};

struct Max {
  template <class T, std::size_t lanes, class V>
  static V apply(V a, V b) {
    if constexpr (Number<T>::is_float) {
      using Bits = Vector<typename Number<T>::Bits, lanes>;
      const V x = a > b ? a : b;
      const V y = b > a ? b : a;
      const V greatest = reinterpret_cast<V>(reinterpret_cast<Bits>(x) & reinterpret_cast<Bits>(y));
      // NOLINTNEXTLINE(misc-redundant-expression): a NaN is not equal to itself
      return ((a == a) & (b == b)) ? greatest : Arithmetic<T, lanes>::nan();
    } else {
      return a > b ? a : b;
    }
  }
};

// ------------------------------------------------------------------------------------------------------------- loops

// dst[i] = op(a[i], b[i]). The last, incomplete vector is computed whole in copies padded with zeros, so every element
// sees the same instructions. An element is read before it is written and never again: dst may be a or b.
template <class Out, class A, class B, class Op>
[[gnu::noinline]] void zip(Bytes* dst, const Bytes* a, const Bytes* b, std::size_t count, Op op) noexcept {
  constexpr std::size_t lanes = Out::lanes;
  const std::size_t whole = count - count % lanes;
  for (std::size_t i = 0; i < whole; i += lanes) {
    __builtin_prefetch(b + i * B::size + asked_ahead, 0);
    __builtin_prefetch(dst + i * Out::size + asked_ahead, 1);
    Out::store(dst + i * Out::size, op(A::load(a + i * A::size), B::load(b + i * B::size)));
  }
  const std::size_t rest = count - whole;
  if (rest == 0) return;
  Bytes last_a[lanes * A::size] = {};
  Bytes last_b[lanes * B::size] = {};
  Bytes last_out[lanes * Out::size];
  __builtin_memcpy(last_a, a + whole * A::size, rest * A::size);
  __builtin_memcpy(last_b, b + whole * B::size, rest * B::size);
  Out::store(last_out, op(A::load(last_a), B::load(last_b)));
  __builtin_memcpy(dst + whole * Out::size, last_out, rest * Out::size);
}

// dst[i] = op(src[i]); dst may be src where the elements have one size.
template <class Out, class In, class Op>
[[gnu::noinline]] void map(Bytes* dst, const Bytes* src, std::size_t count, Op op) noexcept {
  constexpr std::size_t lanes = Out::lanes;
  const std::size_t whole = count - count % lanes;
  for (std::size_t i = 0; i < whole; i += lanes) Out::store(dst + i * Out::size, op(In::load(src + i * In::size)));
  const std::size_t rest = count - whole;
  if (rest == 0) return;
  Bytes last_in[lanes * In::size] = {};
  Bytes last_out[lanes * Out::size];
  __builtin_memcpy(last_in, src + whole * In::size, rest * In::size);
  Out::store(last_out, op(In::load(last_in)));
  __builtin_memcpy(dst + whole * Out::size, last_out, rest * Out::size);
}

// ---------------------------------------------------------------------------------------------- entries of the table

template <class Op, class T, std::size_t lanes>
struct Applied {
  template <class V>
  V operator()(V a, V b) const {
    return Op::template apply<T, lanes>(a, b);
  }
};

template <class Op, class T, class Out, class A, class B>
void reduce_entry(void* dst, const void* a, const void* b, std::size_t count) {
  const FloatEnvironment environment;
  zip<Out, A, B>(static_cast<Bytes*>(dst), static_cast<const Bytes*>(a), static_cast<const Bytes*>(b), count,
                 Applied<Op, T, Out::lanes>{});
}

template <class Op, class Isa, class Half>
void first_entry(float* dst_wide, const void* a, const void* b, std::size_t count) {
  reduce_entry<Op, float, Plain<float, Half::lanes>, Half, Half>(dst_wide, a, b, count);
}

template <class Op, class Isa, class Half>
void next_entry(float* dst_wide, const float* a_wide, const void* b, std::size_t count) {
  using Wide = Plain<float, Half::lanes>;
  reduce_entry<Op, float, Wide, Wide, Half>(dst_wide, a_wide, b, count);
}

template <class T, std::size_t lanes>
struct DivideFloat {
  Vector<T, lanes> divisor;
  Vector<T, lanes> operator()(Vector<T, lanes> v) const { return Arithmetic<T, lanes>::canonical(v / divisor); }
};

template <std::size_t lanes>
struct Canonical {
  Vector<float, lanes> operator()(Vector<float, lanes> v) const { return Arithmetic<float, lanes>::canonical(v); }
};

template <class Half>
void narrow_entry(void* dst, const float* src_wide, std::size_t count, std::uint32_t divisor) {
  constexpr std::size_t lanes = Half::lanes;
  using Wide = Plain<float, lanes>;
  const FloatEnvironment environment;
  Bytes* const out = static_cast<Bytes*>(dst);
  const Bytes* const in = reinterpret_cast<const Bytes*>(src_wide);
  if (divisor == 1) {  // divides nothing: saves the slowest instruction of the loop
    map<Half, Wide>(out, in, count, Canonical<lanes>{});
  } else {
    const auto value = Arithmetic<float, lanes>::splat(static_cast<float>(divisor));
    map<Half, Wide>(out, in, count, DivideFloat<float, lanes>{value});
  }
}

template <class Half>
void widen_entry(float* dst, const void* src, std::size_t count) {
  const FloatEnvironment environment;
  map<Plain<float, Half::lanes>, Half>(reinterpret_cast<Bytes*>(dst), static_cast<const Bytes*>(src), count,
                                       Canonical<Half::lanes>{});
}

template <class T, class Element>
void divide_float_entry(void* data, std::size_t count, std::uint32_t divisor) {
  const FloatEnvironment environment;
  Bytes* const bytes = static_cast<Bytes*>(data);
  const auto value = Arithmetic<T, Element::lanes>::splat(static_cast<T>(divisor));
  map<Element, Element>(bytes, bytes, count, DivideFloat<T, Element::lanes>{value});
}

template <class T, class Element>
void mean_float_entry(void* dst, const void* a, const void* b, std::size_t count, std::uint32_t divisor) {
  const FloatEnvironment environment;
  constexpr std::size_t lanes = Element::lanes;
  using V = Vector<T, lanes>;
  const DivideFloat<T, lanes> divide{Arithmetic<T, lanes>::splat(static_cast<T>(divisor))};
  zip<Element, Element, Element>(static_cast<Bytes*>(dst), static_cast<const Bytes*>(a), static_cast<const Bytes*>(b),
                                 count, [divide](V x, V y) { return divide(Sum::apply<T, lanes>(x, y)); });
}

// Integers of 16 and 32 bits by a division of floats F, float for 16 bits and double for 32. Let 0 <= x. With d <= x
// both are exact, and x + d stays below 2^(bits of F's significand), so a quotient that is no integer is further from
// the next one than the rounding moves it. With d > x, also where d is rounded, the quotient is below 1. So truncation
// gives floor(x / d), and the sign takes no part in either step.
template <class T, class F, std::size_t lanes>
struct DivideByFloat {
  Vector<F, lanes> divisor;
  Vector<T, lanes> operator()(Vector<T, lanes> v) const {
    if constexpr (sizeof(T) < 4) {  // through 32 bits: the only integers the instructions convert
      using Wide = Vector<std::int32_t, lanes>;
      const auto quotient = __builtin_convertvector(__builtin_convertvector(v, Wide), Vector<F, lanes>) / divisor;
      return __builtin_convertvector(__builtin_convertvector(quotient, Wide), Vector<T, lanes>);
    } else {
      const auto quotient = __builtin_convertvector(v, Vector<F, lanes>) / divisor;
      return __builtin_convertvector(quotient, Vector<T, lanes>);
    }
  }
};

// Integers of N = 8 and 64 bits by a multiplication and shifts, exact for every dividend (Granlund and Montgomery, PLDI
// 1994, figure 4.1). With 2 <= d < 2^N and l = ceil(log2 d) the factor is floor(2^N (2^l - d) / d) + 1.
template <unsigned bits>
struct Reciprocal {
  std::uint64_t factor = 0;
  unsigned shift = 0;  // l - 1

  explicit Reciprocal(std::uint32_t divisor) : shift(31U - static_cast<unsigned>(__builtin_clz(divisor - 1))) {
    const std::uint64_t rest = (std::uint64_t{2} << shift) - divisor;
    if constexpr (bits == 64) {  // in digits of 32 bits; the first rest is less than d, so nothing overflows
      const std::uint64_t high = (rest << 32) / divisor;
      factor = (high << 32) + (((rest << 32) % divisor) << 32) / divisor + 1;
    } else {
      factor = (rest << bits) / divisor + 1;
    }
  }
};

// What a division of magnitudes makes of signed numbers: it truncates. `V` is signed, `U` the same unsigned.
template <class U, class V, class Op>
U divide_magnitudes(V v, Op op) {
  const U sign = reinterpret_cast<U>(v >> (8 * sizeof(v[0]) - 1));
  return (op((reinterpret_cast<U>(v) ^ sign) - sign) ^ sign) - sign;
}

// 8 bits in the low half of 16: the product fits.
template <class T, std::size_t lanes>
struct DivideByte {
  using Wide = Vector<std::uint16_t, lanes>;
  Reciprocal<8> by;

  Wide divide(Wide x) const {
    const Wide t = (x * static_cast<std::uint16_t>(by.factor)) >> 8;
    return (t + ((x - t) >> 1)) >> static_cast<std::uint16_t>(by.shift);
  }
  Vector<T, lanes> operator()(Vector<T, lanes> v) const {
    using Narrow = Vector<std::uint8_t, lanes>;
    Wide quotient;
    if constexpr (static_cast<T>(-1) < 0) {
      const auto wide = __builtin_convertvector(v, Vector<std::int16_t, lanes>);
      quotient = divide_magnitudes<Wide>(wide, [&](Wide x) { return divide(x); });
    } else {
      quotient = divide(__builtin_convertvector(v, Wide));
    }
    return reinterpret_cast<Vector<T, lanes>>(__builtin_convertvector(quotient, Narrow));
  }
};

// 64 bits, the upper half of the product from products of 32 bits.
template <class T, std::size_t lanes>
struct DivideLong {
  using U = Vector<std::uint64_t, lanes>;
  Reciprocal<64> by;

  U divide(U x) const {
    constexpr std::uint64_t low = 0xffffffff;
    const std::uint64_t factor_low = by.factor & low;
    const std::uint64_t factor_high = by.factor >> 32;
    const U cross = (x & low) * factor_high;
    const U middle = (((x & low) * factor_low) >> 32) + (cross & low) + (x >> 32) * factor_low;
    const U t = (x >> 32) * factor_high + (cross >> 32) + (middle >> 32);
    return (t + ((x - t) >> 1)) >> std::uint64_t{by.shift};
  }
  Vector<T, lanes> operator()(Vector<T, lanes> v) const {
    if constexpr (static_cast<T>(-1) < 0) {
      return reinterpret_cast<Vector<T, lanes>>(divide_magnitudes<U>(v, [&](U x) { return divide(x); }));
    } else {
      return divide(v);
    }
  }
};

// Calls use<lanes>(operation) with what divides vectors of so many T; divisor > 1, of bytes < 256.
template <class Isa, class T, class Use>
void with_divider(std::uint32_t divisor, Use use) {
  if constexpr (sizeof(T) == 8) {
    constexpr std::size_t lanes = Isa::vector_bytes / sizeof(T);
    use.template operator()<lanes>(DivideLong<T, lanes>{Reciprocal<64>(divisor)});
  } else if constexpr (sizeof(T) == 4) {
    constexpr std::size_t lanes = Isa::vector_bytes / sizeof(double);
    const auto value = Arithmetic<double, lanes>::splat(static_cast<double>(divisor));
    use.template operator()<lanes>(DivideByFloat<T, double, lanes>{value});
  } else if constexpr (sizeof(T) == 2) {
    constexpr std::size_t lanes = Isa::vector_bytes / sizeof(float);
    const auto value = Arithmetic<float, lanes>::splat(static_cast<float>(divisor));
    use.template operator()<lanes>(DivideByFloat<T, float, lanes>{value});
  } else {
    constexpr std::size_t lanes = Isa::vector_bytes / sizeof(std::uint16_t);
    use.template operator()<lanes>(DivideByte<T, lanes>{Reciprocal<8>(divisor)});
  }
}

template <class Isa, class T>
void divide_integer_entry(void* data, std::size_t count, std::uint32_t divisor) {
  if (divisor == 1) return;
  Bytes* const bytes = static_cast<Bytes*>(data);
  const FloatEnvironment environment;
  if (sizeof(T) == 1 && divisor > 255) {
    if (count != 0) __builtin_memset(data, 0, count);
    return;
  }
  with_divider<Isa, T>(divisor, [=]<std::size_t lanes, class Divide>(Divide divide) {
    using Element = Plain<T, lanes>;
    map<Element, Element>(bytes, bytes, count, divide);
  });
}

template <class Isa, class T, class Unsigned>
void mean_integer_entry(void* dst, const void* a, const void* b, std::size_t count, std::uint32_t divisor) {
  if (divisor == 1) {
    using Element = Plain<Unsigned, Isa::vector_bytes / sizeof(T)>;
    return reduce_entry<Sum, Unsigned, Element, Element, Element>(dst, a, b, count);
  }
  Bytes* const out = static_cast<Bytes*>(dst);
  const Bytes* const x = static_cast<const Bytes*>(a);
  const Bytes* const y = static_cast<const Bytes*>(b);
  const FloatEnvironment environment;
  if (sizeof(T) == 1 && divisor > 255) {
    if (count != 0) __builtin_memset(dst, 0, count);
    return;
  }
  with_divider<Isa, T>(divisor, [=]<std::size_t lanes, class Divide>(Divide divide) {
    using Term = Plain<Unsigned, lanes>;  // a sum of these wraps
    using V = Vector<Unsigned, lanes>;
    zip<Plain<T, lanes>, Term, Term>(out, x, y, count, [divide](V p, V q) {
      return divide(reinterpret_cast<Vector<T, lanes>>(Sum::apply<Unsigned, lanes>(p, q)));
    });
  });
}

// An element is finite when its magnitude, as an integer, is below that of infinity. Stops at the first piece with one
// that is not.
template <class Isa>
bool finite_entry(const float* data, std::size_t count) {
  using Element = Plain<std::int32_t, Isa::vector_bytes / sizeof(float)>;
  constexpr std::size_t lanes = Element::lanes;
  constexpr std::size_t piece = 64 * lanes;
  const Bytes* const in = reinterpret_cast<const Bytes*>(data);
  std::size_t i = 0;
  while (i + lanes <= count) {
    const std::size_t end = count - i < piece ? i + (count - i) / lanes * lanes : i + piece;
    typename Element::V found{};
    for (; i < end; i += lanes) found |= (Element::load(in + i * sizeof(float)) & 0x7fffffff) >= 0x7f800000;
    std::int32_t any = 0;
    for (std::size_t lane = 0; lane < lanes; ++lane) any |= found[lane];
    if (any != 0) return false;
  }
  for (; i < count; ++i) {
    std::int32_t bits;
    __builtin_memcpy(&bits, in + i * sizeof bits, sizeof bits);
    if ((bits & 0x7fffffff) >= 0x7f800000) return false;
  }
  return true;
}

// --------------------------------------------------------------------------------------------------------- the table

template <class SumT, class T, class ForSum, class Element>
constexpr void set_reduce(Table& table, Dtype dtype) {
  ReduceFn* const row = table.reduce[index_of(dtype)];
  row[index_of(Redop::sum)] = reduce_entry<Sum, SumT, ForSum, ForSum, ForSum>;
  row[index_of(Redop::avg)] = row[index_of(Redop::sum)];
  row[index_of(Redop::prod)] = reduce_entry<Prod, SumT, ForSum, ForSum, ForSum>;
  row[index_of(Redop::min)] = reduce_entry<Min, T, Element, Element, Element>;
  row[index_of(Redop::max)] = reduce_entry<Max, T, Element, Element, Element>;
}

template <class Isa, class T, class Unsigned>
constexpr void set_integer(Table& table, Dtype dtype) {
  constexpr std::size_t lanes = Isa::vector_bytes / sizeof(T);
  set_reduce<Unsigned, T, Plain<Unsigned, lanes>, Plain<T, lanes>>(table, dtype);
  table.divide[index_of(dtype)] = divide_integer_entry<Isa, T>;
  table.mean[index_of(dtype)] = mean_integer_entry<Isa, T, Unsigned>;
}

template <class T, class Element>
constexpr void set_float(Table& table, Dtype dtype) {
  set_reduce<T, T, Element, Element>(table, dtype);
  table.divide[index_of(dtype)] = divide_float_entry<T, Element>;
}

template <class Isa, class Half>
constexpr void set_half(Table& table, Dtype dtype) {
  set_float<float, Half>(table, dtype);
  WideFns* const row = table.wide[half_index(dtype)];
  row[index_of(Redop::sum)] = {first_entry<Sum, Isa, Half>, next_entry<Sum, Isa, Half>};
  row[index_of(Redop::avg)] = row[index_of(Redop::sum)];
  row[index_of(Redop::prod)] = {first_entry<Prod, Isa, Half>, next_entry<Prod, Isa, Half>};
  row[index_of(Redop::min)] = {first_entry<Min, Isa, Half>, next_entry<Min, Isa, Half>};
  row[index_of(Redop::max)] = {first_entry<Max, Isa, Half>, next_entry<Max, Isa, Half>};
  table.narrow[half_index(dtype)] = narrow_entry<Half>;
  table.widen[half_index(dtype)] = widen_entry<Half>;
}

template <class Isa>
constexpr Table make_table() {
  Table table{};
  set_integer<Isa, std::uint8_t, std::uint8_t>(table, Dtype::u8);
  set_integer<Isa, std::int8_t, std::uint8_t>(table, Dtype::i8);
  set_integer<Isa, std::uint16_t, std::uint16_t>(table, Dtype::u16);
  set_integer<Isa, std::int16_t, std::uint16_t>(table, Dtype::i16);
  set_integer<Isa, std::uint32_t, std::uint32_t>(table, Dtype::u32);
  set_integer<Isa, std::int32_t, std::uint32_t>(table, Dtype::i32);
  set_integer<Isa, std::uint64_t, std::uint64_t>(table, Dtype::u64);
  set_integer<Isa, std::int64_t, std::uint64_t>(table, Dtype::i64);
  set_half<Isa, F16<Isa>>(table, Dtype::f16);
  set_half<Isa, Bf16<Isa>>(table, Dtype::bf16);
  using F32 = Plain<float, Isa::vector_bytes / sizeof(float)>;
  using F64 = Plain<double, Isa::vector_bytes / sizeof(double)>;
  set_float<float, F32>(table, Dtype::f32);
  set_float<double, F64>(table, Dtype::f64);
  table.mean[index_of(Dtype::f32)] = mean_float_entry<float, F32>;
  table.mean[index_of(Dtype::f64)] = mean_float_entry<double, F64>;
  table.all_finite = finite_entry<Isa>;
  table.digest = hash_entry;
  table.digest_begin = digest_begin_entry;
  table.digest_add = digest_add_entry;
  table.digest_value = digest_value_entry;
  table.checksum = checksum_entry;
  table.checksum_begin = checksum_begin_entry;
  table.checksum_add = checksum_add_entry;
  table.checksum_value = checksum_value_entry;
  return table;
}

}  // namespace
}  // namespace hawser::kernels
